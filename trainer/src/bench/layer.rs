//! One mixture layer, forward and backward, on two routings in turns: each expert chosen equally often, and half of all tokens
//! on one expert.

use std::time::Instant;

use emo::Backend;
use emo::backend::Len;
use emo::cpu::Cpu;
use emo::cpu::simd;
use emo::ops::{experts, permutation};

use super::compare::Comparison;
use crate::error::Result;
use crate::model::Moe;
use crate::model::activations::{read, upload, write};

/// The expert of each slot, `top_k` different ones a token, all chosen equally often.
fn balanced(tokens: usize, top_k: usize, experts: usize) -> Vec<u32> {
    (0..tokens * top_k).map(|slot| (slot % experts) as u32).collect()
}

/// The same where every other token has expert 0 among its choices, and no other token has.
fn skewed(tokens: usize, top_k: usize, experts: usize) -> Vec<u32> {
    let others = experts - 1;
    let mut next = 0;
    let mut choices = Vec::with_capacity(tokens * top_k);
    for token in 0..tokens {
        for choice in 0..top_k {
            if token % 2 == 0 && choice == 0 {
                choices.push(0);
            } else {
                choices.push(1 + (next % others) as u32);
                next += 1;
            }
        }
    }
    choices
}

/// Whether a layer has experts enough for the comparison: expert 0 and `top_k` others.
#[must_use]
pub fn can_be_skewed(moe: &Moe) -> bool {
    moe.experts > moe.top_k
}

/// Skewed routing against balanced routing.
///
/// # Errors
/// When there is no memory.
pub fn compare<T: simd::Storage>(
    backend: &Cpu<T>,
    moe: &Moe,
    width: usize,
    tokens: usize,
    steps: usize,
    mut done: impl FnMut(usize),
) -> Result<Comparison> {
    let mut layer = Layer::new(backend, moe, width, tokens)?;
    let routings = [skewed, balanced].map(|routing| routing(tokens, moe.top_k, moe.experts));
    let mut seconds = [Vec::new(), Vec::new()];
    for step in 0..=steps {
        for (choices, seconds) in routings.iter().zip(&mut seconds) {
            layer.plan(backend, choices)?;
            let start = Instant::now();
            layer.run(backend)?;
            // The first turn maps memory.
            if step > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        done(step);
    }
    let [skewed, balanced] = seconds;
    Ok(Comparison::of("one layer, half of all tokens on one expert : balanced", skewed, balanced))
}

/// A layer's buffers.
struct Layer<T: simd::Storage> {
    shape: experts::Shape,
    offsets: Buffer<T, u32>,
    token: Buffer<T, u32>,
    order: Buffer<T, u32>,
    inverse: Buffer<T, u32>,
    indices: Buffer<T, u32>,
    x: Buffer<T, T>,
    weights: Buffer<T, f32>,
    w_in: Buffer<T, T>,
    w_out: Buffer<T, T>,
    pre: Buffer<T, T>,
    rows: Buffer<T, T>,
    y: Buffer<T, T>,
    dweights: Buffer<T, f32>,
    dw_in: Buffer<T, f32>,
    dw_out: Buffer<T, f32>,
    workspace: Buffer<T, f32>,
}

type Buffer<T, E> = <Cpu<T> as Backend>::Buffer<E>;

impl<T: simd::Storage> Layer<T> {
    fn new(cpu: &Cpu<T>, moe: &Moe, width: usize, tokens: usize) -> Result<Self> {
        let shape = experts::Shape {
            tokens,
            top_k: moe.top_k,
            experts: moe.experts,
            width,
            hidden: moe.hidden,
            gated: moe.gated,
            activation: moe.activation,
        };
        let (slots, w_in, w_out) =
            (shape.rows(), moe.experts * shape.pre() * width, moe.experts * width * moe.hidden);
        // Small and uneven: what the values are does not matter, as long as they are ordinary numbers.
        let stored = |len: usize| -> Result<Buffer<T, T>> {
            let mut buffer = cpu.alloc::<T>(len)?;
            let values: Vec<f64> = (0..len).map(|i| ((i * 7919) % 1009) as f64 / 5045.0 - 0.1).collect();
            upload(cpu, &values, &mut buffer, 0)?;
            Ok(buffer)
        };
        let mut weights = cpu.alloc::<f32>(slots)?;
        upload(cpu, &vec![1.0 / moe.top_k as f64; slots], &mut weights, 0)?;
        Ok(Self {
            shape,
            offsets: cpu.alloc(moe.experts + 1)?,
            token: cpu.alloc(slots)?,
            order: cpu.alloc(slots)?,
            inverse: cpu.alloc(slots)?,
            indices: cpu.alloc(slots)?,
            x: stored(tokens * width)?,
            weights,
            w_in: stored(w_in)?,
            w_out: stored(w_out)?,
            pre: cpu.alloc(slots * shape.pre())?,
            rows: cpu.alloc(slots * width)?,
            y: cpu.alloc(tokens * width)?,
            dweights: cpu.alloc(slots)?,
            dw_in: cpu.alloc(w_in)?,
            dw_out: cpu.alloc(w_out)?,
            workspace: cpu.alloc(cpu.experts_workspace(shape))?,
        })
    }

    fn permutation(&self) -> permutation::Shape {
        permutation::Shape { tokens: self.shape.tokens, top_k: self.shape.top_k, experts: self.shape.experts }
    }

    fn plan(&mut self, cpu: &Cpu<T>, choices: &[u32]) -> Result<()> {
        let slots = choices.len();
        cpu.upload(choices, write(cpu, &mut self.indices, slots)?)?;
        Ok(cpu.plan(permutation::Plan {
            shape: self.permutation(),
            indices: read(cpu, &self.indices, slots)?,
            order: write(cpu, &mut self.order, slots)?,
            token: write(cpu, &mut self.token, slots)?,
            offsets: write(cpu, &mut self.offsets, self.shape.experts + 1)?,
            inverse: write(cpu, &mut self.inverse, slots)?,
        })?)
    }

    /// Forward and backward, the sums over a token's experts included.
    fn run(&mut self, cpu: &Cpu<T>) -> Result<()> {
        let (shape, slots) = (self.shape, self.shape.rows());
        let (x_len, rows_len, pre_len) =
            (shape.tokens * shape.width, slots * shape.width, slots * shape.pre());
        let (in_len, out_len) = (self.w_in.len(), self.w_out.len());
        let workspace_len = self.workspace.len();
        cpu.experts_forward(experts::Forward {
            shape,
            offsets: read(cpu, &self.offsets, shape.experts + 1)?,
            token: read(cpu, &self.token, slots)?,
            x: read(cpu, &self.x, x_len)?,
            w_in: read(cpu, &self.w_in, in_len)?,
            w_out: read(cpu, &self.w_out, out_len)?,
            pre: write(cpu, &mut self.pre, pre_len)?,
            rows: write(cpu, &mut self.rows, rows_len)?,
            workspace: write(cpu, &mut self.workspace, workspace_len)?,
        })?;
        cpu.combine_forward(permutation::Combine {
            shape: self.permutation(),
            width: shape.width,
            inverse: read(cpu, &self.inverse, slots)?,
            weights: read(cpu, &self.weights, slots)?,
            rows: read(cpu, &self.rows, rows_len)?,
            y: write(cpu, &mut self.y, x_len)?,
            accumulate: false,
        })?;
        cpu.experts_backward(experts::Backward {
            shape,
            offsets: read(cpu, &self.offsets, shape.experts + 1)?,
            token: read(cpu, &self.token, slots)?,
            order: read(cpu, &self.order, slots)?,
            x: read(cpu, &self.x, x_len)?,
            weights: read(cpu, &self.weights, slots)?,
            w_in: read(cpu, &self.w_in, in_len)?,
            w_out: read(cpu, &self.w_out, out_len)?,
            pre: read(cpu, &self.pre, pre_len)?,
            dy: read(cpu, &self.x, x_len)?,
            row_grad: None,
            dx_rows: write(cpu, &mut self.rows, rows_len)?,
            dweights: write(cpu, &mut self.dweights, slots)?,
            dw_in: write(cpu, &mut self.dw_in, in_len)?,
            dw_out: write(cpu, &mut self.dw_out, out_len)?,
            workspace: write(cpu, &mut self.workspace, workspace_len)?,
        })?;
        Ok(cpu.dispatch_backward(permutation::DispatchBackward {
            shape: self.permutation(),
            width: shape.width,
            inverse: read(cpu, &self.inverse, slots)?,
            drows: read(cpu, &self.rows, rows_len)?,
            dx: write(cpu, &mut self.y, x_len)?,
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routings_are_what_they_are_called() {
        let (tokens, top_k, experts) = (64, 4, 16);
        for routing in [balanced, skewed] {
            for token in routing(tokens, top_k, experts).chunks(top_k) {
                let mut choices = token.to_vec();
                choices.sort_unstable();
                choices.dedup();
                assert_eq!(choices.len(), top_k, "an expert twice");
            }
        }
        let count = |choices: &[u32], expert| choices.iter().filter(|&&choice| choice == expert).count();
        let (even, uneven) = (balanced(tokens, top_k, experts), skewed(tokens, top_k, experts));
        assert!((0..16).all(|expert| count(&even, expert) == tokens * top_k / experts));
        assert_eq!(count(&uneven, 0), tokens / 2);
    }
}

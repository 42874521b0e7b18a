//! The backward pass, in one pass as well.

use crate::cpu::simd::{Kernel, Simd, Storage};
use crate::cpu::threads::DisjointMut;
use crate::cpu::{Cpu, vector};
use crate::ops::router::{Backward, Normalise, RouterConfig, Score, SharedWeight};
use crate::{Result, host};

use super::forward::norm;
use super::{Inputs, TOKENS, Token};

/// Experts of a task of the bias's gradient.
const COLUMNS: usize = 16;

pub(in crate::cpu) fn backward<T: Storage>(cpu: &Cpu<T>, args: Backward<'_, Cpu<T>>) -> Result<()> {
    const OP: &str = "router_backward";
    args.check()?;
    let Backward { config, tokens, logits, bias, keep, probs, weights, indices, lse, .. } = args;
    let inputs = Inputs::new(config, logits, bias, keep);
    inputs.check(OP, tokens)?;
    host::router_slots(OP, config, indices)?;
    let (experts, routed, top_k) = (config.experts, config.routed(), config.top_k);
    cpu.threads.for_each_chunk(&mut *args.dlogits, TOKENS * experts, |block, dlogits, _| {
        let first = block * TOKENS;
        let end = first + dlogits.len() / experts;
        cpu.isa.dispatch(Tokens {
            inputs,
            first,
            probs: &probs[first * routed..end * routed],
            weights: &weights[first * top_k..end * top_k],
            indices: &indices[first * top_k..end * top_k],
            lse: &lse[first..end],
            dweights: &args.dweights[first * top_k..end * top_k],
            dprobs: args.dprobs.map(|dprobs| &dprobs[first * routed..end * routed]),
            z_coefficient: args.z_coefficient,
            dlogits,
        });
    });
    if let Some(dbias) = args.dbias {
        let (dlogits, dbias) = (&*args.dlogits, DisjointMut::new(dbias));
        cpu.threads.for_each(experts.div_ceil(COLUMNS), |task, _| {
            let columns = task * COLUMNS..experts.min((task + 1) * COLUMNS);
            // SAFETY: tasks are distinct, so the columns are disjoint.
            let dbias = unsafe { dbias.slice_mut(columns.clone()) };
            let mut sums = [0.0f64; COLUMNS];
            for row in dlogits.chunks_exact(experts) {
                for (sum, &d) in sums.iter_mut().zip(&row[columns.clone()]) {
                    *sum += f64::from(d);
                }
            }
            for (dbias, sum) in dbias.iter_mut().zip(sums) {
                *dbias = (f64::from(*dbias) + sum) as f32;
            }
        });
    }
    Ok(())
}

/// A block of tokens from `first`.
struct Tokens<'a, 'i> {
    inputs: Inputs<'i>,
    first: usize,
    probs: &'a [f32],
    weights: &'a [f32],
    indices: &'a [u32],
    lse: &'a [f32],
    dweights: &'a [f32],
    dprobs: Option<&'a [f32]>,
    z_coefficient: f64,
    dlogits: &'a mut [f32],
}

impl Kernel for Tokens<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let config = self.inputs.config;
        let (routed, routed_k, top_k) = (config.routed(), config.routed_k(), config.top_k);
        for (i, dlogits) in self.dlogits.chunks_exact_mut(config.experts).enumerate() {
            let token = self.inputs.token(self.first + i);
            let p = &self.probs[i * routed..][..routed];
            let slots = i * top_k..(i + 1) * top_k;
            let (indices, shared_indices) = self.indices[slots.clone()].split_at(routed_k);
            let (weights, shared_weights) = self.weights[slots.clone()].split_at(routed_k);
            let (dweights, dshared) = self.dweights[slots].split_at(routed_k);
            let (d, d_shared) = dlogits.split_at_mut(routed);

            let z_factor = 2.0 * self.z_coefficient * f64::from(self.lse[i]);
            z_gradient(s, config, &token, p, z_factor as f32, d);
            let dprobs = self.dprobs.map(|dprobs| &dprobs[i * routed..][..routed]);
            score_gradient(s, config, p, dprobs, &Slots { indices, weights, dweights }, d);

            d_shared.fill(0.0);
            if config.shared_weight == SharedWeight::Softmax {
                let along: f64 =
                    shared_weights.iter().zip(dshared).map(|(&w, &d)| f64::from(w) * f64::from(d)).sum();
                for ((&expert, &w), &dw) in shared_indices.iter().zip(shared_weights).zip(dshared) {
                    let gradient = f64::from(w) * (f64::from(dw) - along) / config.temperature;
                    d_shared[expert as usize - routed] = gradient as f32;
                }
            }
        }
    }
}

/// `d = z_factor softmax(z)`.
#[inline(always)]
fn z_gradient<S: Simd>(
    s: S,
    config: &RouterConfig,
    token: &Token<'_>,
    p: &[f32],
    z_factor: f32,
    d: &mut [f32],
) {
    if z_factor == 0.0 {
        d.fill(0.0);
    } else if config.score == Score::Softmax && config.temperature == 1.0 {
        vector::scaled(s, d, z_factor, p);
    } else if let Some(shift) = token.shift(s, d) {
        let factor = s.splat(z_factor / token.exponentials(s, shift, 1.0, d));
        for part in d.chunks_mut(S::LANES) {
            let scaled = s.load_partial(part, 0.0) * factor;
            s.store_partial(part, scaled);
        }
    } else {
        d.fill(0.0);
    }
}

/// The routed slots of one token.
struct Slots<'a> {
    indices: &'a [u32],
    weights: &'a [f32],
    dweights: &'a [f32],
}

impl Slots<'_> {
    /// Calls `f` with each slot's expert and the gradient that its weight puts on the score.
    #[inline(always)]
    fn for_each(&self, normalise: Normalise, p: &[f32], mut f: impl FnMut(usize, f64)) {
        let Normalise::Lp(q) = normalise else {
            for (&expert, &dw) in self.indices.iter().zip(self.dweights) {
                f(expert as usize, f64::from(dw));
            }
            return;
        };
        let pairs = self.weights.iter().zip(self.dweights).map(|(&w, &dw)| (f64::from(w), f64::from(dw)));
        let along: f64 = pairs.clone().map(|(w, dw)| w * dw).sum();
        let norm = norm(normalise, self.indices.iter().map(|&expert| p[expert as usize]));
        for (&expert, (w, dw)) in self.indices.iter().zip(pairs) {
            // Nothing flows through a score of 0; the power would be infinite for q < 1.
            if w != 0.0 {
                let power = if q == 1.0 { 1.0 } else { w.powf(q - 1.0) };
                f(expert as usize, (dw - power * along) / norm);
            }
        }
    }
}

/// `d += J^T g` with the score function's Jacobian `J` and `g = dprobs + scatter(slots)`. The two parts of `g` are added one
/// after the other, which needs no row to hold it.
#[inline(always)]
fn score_gradient<S: Simd>(
    s: S,
    config: &RouterConfig,
    p: &[f32],
    dprobs: Option<&[f32]>,
    slots: &Slots<'_>,
    d: &mut [f32],
) {
    let inverse_temperature = 1.0 / config.temperature;
    let mut mean = 0.0;
    if config.score == Score::Softmax {
        mean = dprobs.map_or(0.0, |dprobs| f64::from(s.dot(p, dprobs)));
        slots.for_each(config.normalise, p, |expert, g| mean += f64::from(p[expert]) * g);
    }
    let (vector_mean, scale) = (s.splat(mean as f32), s.splat(inverse_temperature as f32));
    for at in (0..p.len()).step_by(S::LANES) {
        let vp = s.load_partial(&p[at..], 0.0);
        let g = dprobs.map_or(s.splat(0.0), |dprobs| s.load_partial(&dprobs[at..], 0.0));
        let slope = match config.score {
            Score::Softmax => vp * (g - vector_mean),
            Score::Sigmoid => vp * (s.splat(1.0) - vp) * g,
        };
        let sum = s.fma(slope, scale, s.load_partial(&d[at..], 0.0));
        s.store_partial(&mut d[at..], sum);
    }
    slots.for_each(config.normalise, p, |expert, g| {
        let p = f64::from(p[expert]);
        let slope = if config.score == Score::Softmax { p } else { p * (1.0 - p) };
        d[expert] = (f64::from(d[expert]) + slope * g * inverse_temperature) as f32;
    });
}

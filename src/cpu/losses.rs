//! Losses on routing.

mod consistency;
mod information;
mod redundancy;

pub(super) use consistency::{domain_consistency, sequence_consistency};
pub(super) use information::mutual_information;
pub(super) use redundancy::redundancy;

use crate::Result;
use crate::ops::losses::LoadBalance;

use super::Cpu;
use super::simd::{Kernel, Simd, Storage};

/// A loss is summed in at most this many parts, whatever the number of threads: the parts fit the stack.
const PARTS: usize = 64;

/// Cuts `rows` rows of `width` elements of `data` into at most [`PARTS`] blocks, calls `f(first row, block)` for each in
/// parallel, and adds the results in order.
fn sum_blocks<T: Storage>(
    cpu: &Cpu<T>,
    data: &mut [f32],
    rows: usize,
    width: usize,
    f: impl Fn(usize, &mut [f32]) -> f64 + Sync,
) -> f64 {
    if rows * width == 0 {
        return 0.0;
    }
    let per_block = rows.div_ceil(PARTS);
    let mut parts = [0.0f64; PARTS];
    let shared = super::threads::DisjointMut::new(&mut parts);
    cpu.threads.for_each_chunk(data, per_block * width, |block, part, _| {
        // SAFETY: an entry belongs to one block.
        let sum = unsafe { shared.slice_mut(block..block + 1) };
        sum[0] = f(block * per_block, part);
    });
    parts.iter().sum()
}

/// Whether token `token` counts.
#[inline(always)]
fn counts(valid: Option<&[u8]>, token: usize) -> bool {
    valid.is_none_or(|valid| valid[token] != 0)
}

pub(super) fn load_balance<T: Storage>(cpu: &Cpu<T>, args: LoadBalance<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let routed = args.routed;
    args.loss[0] += sum_blocks(cpu, args.dprobs, args.tokens, routed, |first, dprobs| {
        let mut sum = 0.0;
        for (i, dprobs) in dprobs.chunks_exact_mut(routed).enumerate() {
            if counts(args.valid, first + i) {
                let probs = &args.probs[(first + i) * routed..][..routed];
                let (coefficient, counts) = (args.coefficient as f32, args.counts);
                sum += f64::from(cpu.isa.dispatch(Balance { coefficient, counts, probs, dprobs }));
            }
        }
        args.coefficient * sum
    });
    Ok(())
}

/// One token: returns `counts . p` and adds the gradient.
struct Balance<'a> {
    coefficient: f32,
    counts: &'a [f32],
    probs: &'a [f32],
    dprobs: &'a mut [f32],
}

impl Kernel for Balance<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        super::vector::add_scaled(s, self.dprobs, self.coefficient, self.counts);
        s.dot(self.counts, self.probs)
    }
}

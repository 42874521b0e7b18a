//! The document pool.

use crate::ops::pool::{Keep, Sizes};
use crate::{Result, host};

use super::Cpu;
use super::simd::{Kernel, Simd, Storage};
use super::threads::DisjointMut;

/// Tokens whose probabilities are summed before they are added to a document's score. It bounds the rounding error of
/// long documents, and the shifts and divisors of one block fit the stack.
const TOKENS: usize = 64;

pub(super) fn sizes<T: Storage>(args: Sizes<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    for (i, &document) in args.documents.iter().enumerate() {
        args.sizes[i] = args.draw(document);
    }
    Ok(())
}

pub(super) fn keep<T: Storage>(cpu: &Cpu<T>, args: Keep<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    host::segments("pool_keep", &args.segments, args.tokens)?;
    let (routed, experts) = (args.routed, args.experts);
    if routed == 0 {
        return Ok(());
    }
    let keep = DisjointMut::new(args.keep);
    let entropies = args.entropy.map(DisjointMut::new);
    cpu.threads.for_each_chunk(args.scores, routed, |segment, score, _| {
        let tokens = args.segments.offsets[segment] as usize..args.segments.offsets[segment + 1] as usize;
        let logits = &args.logits[tokens.start * experts..tokens.end * experts];
        // SAFETY: a segment's row of the mask belongs to one task.
        let keep = unsafe { keep.slice_mut(segment * routed..(segment + 1) * routed) };
        let places = (args.sizes[segment] as usize).saturating_sub(args.forced);
        let scale = Scale {
            bias: args.bias.map(|bias| &bias[..routed]),
            inverse_temperature: (1.0 / args.temperature) as f32,
        };
        let free = routed - args.forced;
        cpu.isa.dispatch(Document { logits, experts, scale, free, places, score: &mut *score, keep });
        if let Some(entropies) = &entropies {
            // SAFETY: a segment's element belongs to one task.
            let target = unsafe { entropies.slice_mut(segment..segment + 1) };
            target[0] = entropy(score);
        }
    });
    Ok(())
}

/// `-sum_i p_i ln p_i` of scores divided by their sum; 0 where there are none.
fn entropy(score: &[f32]) -> f32 {
    let sum: f64 = score.iter().map(|&s| f64::from(s)).sum();
    let term = |&s: &f32| {
        let p = f64::from(s) / sum;
        if s == 0.0 { 0.0 } else { -p * libm::log(p) }
    };
    score.iter().map(term).sum::<f64>() as f32
}

/// What turns logits into the exponents of a softmax.
#[derive(Clone, Copy)]
struct Scale<'a> {
    /// Bias of the routed experts.
    bias: Option<&'a [f32]>,
    inverse_temperature: f32,
}

impl Scale<'_> {
    /// Whether a biased logit is NaN. Slow, for rows without a maximum.
    #[cold]
    fn any_nan(&self, z: &[f32]) -> bool {
        (0..z.len()).any(|at| (z[at] + self.bias.map_or(0.0, |bias| bias[at])).is_nan())
    }

    /// `z + bias` of the experts `at..end`, one vector, `-inf` beyond.
    #[inline(always)]
    fn biased<S: Simd>(&self, s: S, z: &[f32], at: usize, end: usize) -> S::F {
        let logits = s.load_partial(&z[at..end], f32::NEG_INFINITY);
        match self.bias {
            Some(bias) => logits + s.load_partial(&bias[at..end], 0.0),
            None => logits,
        }
    }

    /// `e^((z + bias - shift) / temperature)` of the experts `at..end`, one vector, 0 beyond.
    #[inline(always)]
    fn exponential<S: Simd>(&self, s: S, z: &[f32], at: usize, end: usize, shift: f32) -> S::F {
        let above = self.biased(s, z, at, end) - s.splat(shift);
        s.exp(above * s.splat(self.inverse_temperature))
    }
}

/// Scores and mask of one document.
struct Document<'a> {
    logits: &'a [f32],
    experts: usize,
    scale: Scale<'a>,
    /// Routed experts that compete: all but the forced ones.
    free: usize,
    /// How many of those are kept.
    places: usize,
    score: &'a mut [f32],
    keep: &'a mut [u8],
}

impl Kernel for Document<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let routed = self.score.len();
        self.score.fill(0.0);
        for block in self.logits.chunks(TOKENS * self.experts) {
            let mut rows = [(0.0f32, 0.0f32); TOKENS];
            for (row, z) in rows.iter_mut().zip(block.chunks_exact(self.experts)) {
                *row = shift_and_factor(s, self.scale, &z[..routed]);
            }
            for at in (0..routed).step_by(S::LANES) {
                let end = routed.min(at + S::LANES);
                let mut sum = s.splat(0.0);
                for (z, &(shift, factor)) in block.chunks_exact(self.experts).zip(&rows) {
                    let e = self.scale.exponential(s, z, at, end, shift);
                    sum = s.fma(e, s.splat(factor), sum);
                }
                let total = s.load_partial(&self.score[at..end], 0.0) + sum;
                s.store_partial(&mut self.score[at..end], total);
            }
        }
        let (free, forced) = self.keep.split_at_mut(self.free);
        forced.fill(1);
        if self.places >= self.free {
            free.fill(1);
            return;
        }
        let score = &self.score[..self.free];
        for (i, keep) in free.iter_mut().enumerate() {
            *keep = u8::from(ahead(score, i) < self.places);
        }
    }
}

/// The greatest biased logit, and 1 over the sum of exponentials above it: what turns logits into probabilities. A row of
/// `-inf` has none; a NaN, which no maximum sees, makes all of them NaN.
#[inline(always)]
fn shift_and_factor<S: Simd>(s: S, scale: Scale<'_>, z: &[f32]) -> (f32, f32) {
    let vectors = (0..z.len()).step_by(S::LANES).map(|at| (at, z.len().min(at + S::LANES)));
    let mut max = s.splat(f32::NEG_INFINITY);
    for (at, end) in vectors.clone() {
        max = s.max(scale.biased(s, z, at, end), max);
    }
    let max = s.reduce_max(max);
    if max == f32::NEG_INFINITY {
        return (0.0, if scale.any_nan(z) { f32::NAN } else { 0.0 });
    }
    let mut sum = s.splat(0.0);
    for (at, end) in vectors {
        sum = sum + scale.exponential(s, z, at, end, max);
    }
    (max, 1.0 / s.reduce_add(sum))
}

/// How many experts come before expert `i`: those with a greater score, and those of equal score and lower index.
#[inline(always)]
fn ahead(score: &[f32], i: usize) -> usize {
    let own = score[i];
    let greater = score.iter().fold(0u32, |n, &other| n + u32::from(other > own));
    let equal = score[..i].iter().fold(0u32, |n, &other| n + u32::from(other == own));
    (greater + equal) as usize
}

//! The forward pass: one token after the other, everything in one pass over its logits.

use crate::Result;
use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, Simd, Storage};
use crate::cpu::threads::DisjointMut;
use crate::ops::router::{Forward, Normalise, RouterConfig, Score, SharedWeight};

use super::counts::Counts;
use super::plain::{self, Plain, TOGETHER};
use super::select::{self, Ranking};
use super::{Inputs, TOKENS, Token};

/// Tokens of a task of the commonest router, where there are enough: each adds up its counts once.
const MANY_TOKENS: usize = 512;

pub(in crate::cpu) fn forward<T: Storage>(cpu: &Cpu<T>, args: Forward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let Forward { config, tokens, logits, bias, selection_bias, keep, probs, weights, indices, counts, lse } =
        args;
    let inputs = Inputs::new(config, logits, bias, keep);
    inputs.check("router_forward", tokens)?;
    let (routed, top_k) = (config.routed(), config.top_k);
    let (all_weights, all_indices) = (DisjointMut::new(weights), DisjointMut::new(indices));
    let (all_lse, counts) = (DisjointMut::new(lse), Counts::new(counts));
    let plain = plain::applies(&inputs, selection_bias);
    let block_tokens = (tokens / (8 * cpu.threads.len())).clamp(TOKENS, MANY_TOKENS);
    cpu.threads.for_each_chunk(probs, block_tokens * routed, |block, probs, _| {
        let first = block * block_tokens;
        let end = first + probs.len() / routed;
        // SAFETY: tasks are distinct blocks of tokens, so the ranges are disjoint.
        let (weights, indices, lse) = unsafe {
            (
                all_weights.slice_mut(first * top_k..end * top_k),
                all_indices.slice_mut(first * top_k..end * top_k),
                all_lse.slice_mut(first..end),
            )
        };
        cpu.isa.dispatch(Tokens {
            inputs,
            selection_bias,
            first,
            plain,
            probs,
            weights,
            indices: &mut *indices,
            lse,
        });
        counts.add(indices);
    });
    Ok(())
}

/// A block of tokens from `first`.
struct Tokens<'a, 'i> {
    inputs: Inputs<'i>,
    selection_bias: Option<&'a [f32]>,
    first: usize,
    /// Whether [`Plain`] applies.
    plain: bool,
    probs: &'a mut [f32],
    weights: &'a mut [f32],
    indices: &'a mut [u32],
    lse: &'a mut [f32],
}

impl Kernel for Tokens<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let config = self.inputs.config;
        let (routed, routed_k, top_k) = (config.routed(), config.routed_k(), config.top_k);
        let mut keys = [f32::NEG_INFINITY; select::EXPERTS];
        let mut plain = Plain::new();
        let rows = self.probs.chunks_mut(TOGETHER * routed).zip(self.weights.chunks_mut(TOGETHER * top_k));
        let rows = rows.zip(self.indices.chunks_mut(TOGETHER * top_k)).zip(self.lse.chunks_mut(TOGETHER));
        for (block, (((probs, weights), indices), lse)) in rows.enumerate() {
            let first = self.first + block * TOGETHER;
            if self.plain {
                let logits = &self.inputs.logits[first * config.experts..][..lse.len() * config.experts];
                plain.score(s, (config.experts, routed, routed_k), logits, probs);
            }
            let rows = probs.chunks_exact_mut(routed).zip(weights.chunks_exact_mut(top_k));
            let rows = rows.zip(indices.chunks_exact_mut(top_k)).zip(&mut *lse);
            for (i, (((p, weights), indices), lse)) in rows.enumerate() {
                let token = self.inputs.token(first + i);
                let (weights, shared_weights) = weights.split_at_mut(routed_k);
                let (indices, shared_indices) = indices.split_at_mut(routed_k);
                if self.plain && plain.top(s, i, indices) {
                    *lse = log_sum(plain.greatest[i].into(), plain.sum[i]);
                } else {
                    *lse = choose(s, config, &token, self.selection_bias, &mut keys, p, indices);
                }
                weigh(config, p, indices, weights);
                share(config, &token, shared_indices, shared_weights);
            }
        }
    }
}

/// Writes the scores and the best experts of one token and returns its log-sum-exp.
#[inline(always)]
fn choose<S: Simd>(
    s: S,
    config: &RouterConfig,
    token: &Token<'_>,
    selection_bias: Option<&[f32]>,
    keys: &mut [f32; select::EXPERTS],
    p: &mut [f32],
    indices: &mut [u32],
) -> f32 {
    let (lse, greatest) = score(s, config, token, p);
    let (taken, free) = indices.split_at_mut(config.always_active.len());
    taken.copy_from_slice(&config.always_active);
    let ranking = Ranking { token, config, greatest, scores: p, selection_bias, taken };
    if !ranking.top(s, keys, free) {
        ranking.top_by_insertion(free);
    }
    lse
}

/// The weights of the chosen routed experts.
#[inline(always)]
fn weigh(config: &RouterConfig, p: &[f32], indices: &[u32], weights: &mut [f32]) {
    for (weight, &expert) in weights.iter_mut().zip(indices) {
        *weight = p[expert as usize];
    }
    let norm = norm(config.normalise, weights.iter().copied());
    for weight in weights.iter_mut().filter(|_| norm != 1.0) {
        *weight = if norm == 0.0 { 0.0 } else { (f64::from(*weight) / norm) as f32 };
    }
}

/// The shared experts and their weights.
#[inline(always)]
fn share(config: &RouterConfig, token: &Token<'_>, indices: &mut [u32], weights: &mut [f32]) {
    for (i, expert) in indices.iter_mut().enumerate() {
        *expert = (config.routed() + i) as u32;
    }
    match config.shared_weight {
        SharedWeight::One => weights.fill(1.0),
        SharedWeight::Softmax => {
            token.shared_softmax(config.temperature, weights);
            sort_descending(weights, indices);
        }
    }
}

/// `ln(sum e^z)` from the greatest `z` and the sum of `e^(z - greatest)`.
#[inline(always)]
fn log_sum(greatest: f64, sum: f32) -> f32 {
    (greatest + f64::from(sum).ln()) as f32
}

/// Writes the scores of one token and returns its log-sum-exp and its greatest biased logit.
#[inline(always)]
fn score<S: Simd>(s: S, config: &RouterConfig, token: &Token<'_>, p: &mut [f32]) -> (f32, f64) {
    let Some(shift) = token.shift(s, p) else {
        p.fill(0.0);
        return (0.0, f64::NEG_INFINITY);
    };
    let inverse_temperature = (1.0 / config.temperature) as f32;
    // The log-sum-exp belongs to the logits before the temperature.
    let mut sum = token.exponentials(s, shift, 1.0, p);
    let lse = log_sum(shift.value(), sum);
    match config.score {
        Score::Softmax => {
            if config.temperature != 1.0 {
                sum = token.exponentials(s, shift, inverse_temperature, p);
            }
            let factor = s.splat(1.0 / sum);
            for part in p.chunks_mut(S::LANES) {
                let scaled = s.load_partial(part, 0.0) * factor;
                s.store_partial(part, scaled);
            }
        }
        Score::Sigmoid => {
            for at in (0..p.len()).step_by(S::LANES) {
                let end = p.len().min(at + S::LANES);
                let z = token.biased(s, at, end) * s.splat(inverse_temperature);
                s.store_partial(&mut p[at..end], s.sigmoid(z));
            }
            for (expert, p) in p.iter_mut().enumerate() {
                if token.forbidden(expert) {
                    *p = 0.0;
                }
            }
        }
    }
    (lse, shift.value())
}

/// The divisor of the selected scores, 1 without normalisation.
#[inline(always)]
pub(super) fn norm(normalise: Normalise, selected: impl Iterator<Item = f32>) -> f64 {
    match normalise {
        Normalise::None => 1.0,
        Normalise::Lp(1.0) => selected.map(f64::from).sum(),
        Normalise::Lp(q) => selected.map(|p| f64::from(p).powf(q)).sum::<f64>().powf(1.0 / q),
    }
}

/// Sorts the few shared experts by weight, stably.
#[inline(always)]
fn sort_descending(weights: &mut [f32], indices: &mut [u32]) {
    for end in 1..weights.len() {
        let mut at = end;
        while at > 0 && weights[at] > weights[at - 1] {
            weights.swap(at, at - 1);
            indices.swap(at, at - 1);
            at -= 1;
        }
    }
}

//! The forward pass: one token after the other, everything in one pass over its logits.

use crate::Result;
use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, Simd, Storage};
use crate::cpu::threads::DisjointMut;
use crate::ops::router::{Forward, Normalise, RouterConfig, Score, SharedWeight};

use super::select::{self, Ranking};
use super::{Inputs, TOKENS};

pub(in crate::cpu) fn forward<T: Storage>(cpu: &Cpu<T>, args: Forward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let Forward { config, tokens, logits, bias, selection_bias, keep, probs, weights, indices, counts, lse } =
        args;
    let inputs = Inputs::new(config, logits, bias, keep);
    inputs.check("router_forward", tokens)?;
    let (routed, top_k) = (config.routed(), config.top_k);
    let (all_weights, all_indices) = (DisjointMut::new(weights), DisjointMut::new(&mut *indices));
    let all_lse = DisjointMut::new(lse);
    cpu.threads.for_each_chunk(probs, TOKENS * routed, |block, probs, _| {
        let first = block * TOKENS;
        let end = first + probs.len() / routed;
        // SAFETY: tasks are distinct blocks of tokens, so the ranges are disjoint.
        let (weights, indices, lse) = unsafe {
            (
                all_weights.slice_mut(first * top_k..end * top_k),
                all_indices.slice_mut(first * top_k..end * top_k),
                all_lse.slice_mut(first..end),
            )
        };
        cpu.isa.dispatch(Tokens { inputs, selection_bias, first, probs, weights, indices, lse });
    });
    counts.fill(0);
    for &expert in indices.iter() {
        counts[expert as usize] += 1;
    }
    Ok(())
}

/// A block of tokens from `first`.
struct Tokens<'a, 'i> {
    inputs: Inputs<'i>,
    selection_bias: Option<&'a [f32]>,
    first: usize,
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
        let always = config.always_active.len();
        let mut keys = [f32::NEG_INFINITY; select::EXPERTS];
        let rows = self.probs.chunks_exact_mut(routed).zip(self.weights.chunks_exact_mut(top_k));
        let rows = rows.zip(self.indices.chunks_exact_mut(top_k)).zip(self.lse);
        for (i, (((p, weights), indices), lse)) in rows.enumerate() {
            let token = self.inputs.token(self.first + i);
            let greatest;
            (*lse, greatest) = score(s, config, &token, p);

            let (weights, shared_weights) = weights.split_at_mut(routed_k);
            let (indices, shared_indices) = indices.split_at_mut(routed_k);
            let (taken, free) = indices.split_at_mut(always);
            taken.copy_from_slice(&config.always_active);
            let ranking = Ranking {
                token: &token,
                config,
                greatest,
                scores: p,
                selection_bias: self.selection_bias,
                taken,
            };
            if !ranking.top(s, &mut keys, free) {
                ranking.top_by_insertion(free);
            }
            for (weight, &expert) in weights.iter_mut().zip(&*indices) {
                *weight = p[expert as usize];
            }
            let norm = norm(config.normalise, weights.iter().copied());
            for weight in weights.iter_mut().filter(|_| norm != 1.0) {
                *weight = if norm == 0.0 { 0.0 } else { (f64::from(*weight) / norm) as f32 };
            }

            for (i, expert) in shared_indices.iter_mut().enumerate() {
                *expert = (routed + i) as u32;
            }
            match config.shared_weight {
                SharedWeight::One => shared_weights.fill(1.0),
                SharedWeight::Softmax => {
                    token.shared_softmax(config.temperature, shared_weights);
                    sort_descending(shared_weights, shared_indices);
                }
            }
        }
    }
}

/// Writes the scores of one token and returns its log-sum-exp and its greatest biased logit.
#[inline(always)]
fn score<S: Simd>(s: S, config: &RouterConfig, token: &super::Token<'_>, p: &mut [f32]) -> (f32, f64) {
    let Some(shift) = token.shift(s, p) else {
        p.fill(0.0);
        return (0.0, f64::NEG_INFINITY);
    };
    let inverse_temperature = (1.0 / config.temperature) as f32;
    // The log-sum-exp belongs to the logits before the temperature.
    let mut sum = token.exponentials(s, shift, 1.0, p);
    let lse = (shift.value() + f64::from(sum).ln()) as f32;
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

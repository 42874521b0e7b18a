//! Document pools that look back only, for use after training: chosen from the beginning of a document, or at each token
//! from the document so far.
//!
//! The choice is the one of [`emo::ops::pool`] over fewer tokens, computed on the host in f64.

use emo::Result;
use emo::backend::Backend;

use super::Context;
use super::moe::Layer;
use crate::model::activations::{download, write};
use crate::model::config::Moe;
use crate::model::inputs::PoolFrom;

/// Writes the mask `[tokens, E_r]` of every token.
pub(crate) fn keep<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer<'_, B>,
    bias: Option<Vec<f64>>,
    logits: &B::Buffer<B::Real>,
    keep: &mut B::Buffer<u8>,
) -> Result<()> {
    let moe = layer.moe;
    let tokens = cx.tokens();
    let logits = download::<B, _>(cx.backend, logits, 0..tokens * moe.experts)?;
    let pools = Pools {
        moe,
        bias: bias.as_deref(),
        offsets: cx.batch.routing_offsets(),
        sizes: cx.batch.host_pool_sizes(layer.ordinal),
        from: cx.batch.pool_from,
    };
    cx.backend.upload(&pools.keep(&logits), write(cx.backend, keep, tokens * moe.routed())?)
}

struct Pools<'a> {
    moe: &'a Moe,
    bias: Option<&'a [f64]>,
    offsets: &'a [u32],
    sizes: &'a [u32],
    from: PoolFrom,
}

impl Pools<'_> {
    fn keep(&self, logits: &[f64]) -> Vec<u8> {
        let (experts, routed) = (self.moe.experts, self.moe.routed());
        let mut keep = vec![1u8; logits.len() / experts * routed];
        for (ends, &size) in self.offsets.windows(2).zip(self.sizes) {
            let (start, end) = (ends[0] as usize, ends[1] as usize);
            let mut scores = vec![0.0; routed];
            let add = |token: usize, scores: &mut [f64]| {
                self.add_probabilities(&logits[token * experts..][..routed], scores);
            };
            match self.from {
                // Whole documents are the backend's own op.
                PoolFrom::Document => {}
                PoolFrom::SoFar => {
                    for token in start..end {
                        add(token, &mut scores);
                        self.choose(&scores, size, &mut keep[token * routed..][..routed]);
                    }
                }
                PoolFrom::Prefix(prefix) => {
                    let prefix_end = end.min(start + prefix);
                    (start..prefix_end).for_each(|token| add(token, &mut scores));
                    let mut pool = vec![1; routed];
                    self.choose(&scores, size, &mut pool);
                    keep[prefix_end * routed..end * routed]
                        .chunks_exact_mut(routed)
                        .for_each(|row| row.copy_from_slice(&pool));
                }
            }
        }
        keep
    }

    /// `scores += softmax((z + bias) / temperature)`.
    fn add_probabilities(&self, logits: &[f64], scores: &mut [f64]) {
        let z = |i: usize| (logits[i] + self.bias.map_or(0.0, |bias| bias[i])) / self.moe.temperature;
        let greatest = (0..logits.len()).map(z).fold(f64::NEG_INFINITY, f64::max);
        if greatest == f64::NEG_INFINITY {
            return;
        }
        let sum: f64 = (0..logits.len()).map(|i| (z(i) - greatest).exp()).sum();
        scores.iter_mut().enumerate().for_each(|(i, score)| *score += (z(i) - greatest).exp() / sum);
    }

    /// The forced experts and the best others until `size` are kept, ties to the lower index.
    fn choose(&self, scores: &[f64], size: u32, keep: &mut [u8]) {
        let (free, forced) = keep.split_at_mut(scores.len() - self.moe.forced);
        forced.fill(1);
        free.fill(0);
        let mut order: Vec<usize> = (0..free.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        let places = (size as usize).saturating_sub(self.moe.forced);
        order.into_iter().take(places).for_each(|expert| free[expert] = 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two documents of three and two tokens, three routed experts and a shared one that must not count.
    const LOGITS: [f64; 20] = [
        2.0, 1.0, 0.0, 9.0, //
        0.0, 4.0, 0.0, 9.0, //
        0.0, 0.0, 9.0, 9.0, //
        0.0, 1.0, 2.0, 9.0, //
        5.0, 0.0, 0.0, 9.0,
    ];

    fn keep(from: PoolFrom, sizes: &[u32], forced: usize) -> Vec<u8> {
        let moe = Moe { forced, ..Moe::emo(4, 2, 1, 8) };
        Pools { moe: &moe, bias: None, offsets: &[0, 3, 5], sizes, from }.keep(&LOGITS)
    }

    #[test]
    fn the_document_so_far_never_sees_a_later_token() {
        let found = keep(PoolFrom::SoFar, &[1, 1], 0);
        // Token 1 has both 0.67 + 0.02 for expert 0 and 0.24 + 0.96 for expert 1.
        assert_eq!(found, [1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0]);
    }

    #[test]
    fn a_prefix_uses_all_experts_and_the_rest_what_it_chose() {
        let found = keep(PoolFrom::Prefix(2), &[1, 2], 0);
        // The second document is no longer than the prefix.
        assert_eq!(found, [1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1]);
        let forced = keep(PoolFrom::Prefix(1), &[2, 1], 1);
        assert_eq!(forced, [1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 1]);
    }
}

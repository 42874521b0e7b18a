//! The document pool, the heart of EMO: every document chooses the experts that its tokens may use.

use super::check::{length, optional, positive, require};
use super::segments::Segments;
use crate::Result;
use crate::backend::{Backend, Indices, IndicesMut, Len, View, ViewMut};

/// `score_D[i] = sum_{t in D} softmax((logits_t[..E_r] + bias[..E_r]) / temperature)_i`; `keep[D, i] = 1` for the `size_D` largest scores, the last
/// `forced` routed experts always among them (ties: lower index). A size of `E_r` or more keeps every expert.
///
/// No gradient passes through the choice. Source: emo.md 2.1 steps 3-7.
pub struct Keep<'a, B: Backend> {
    /// Rows (tokens).
    pub tokens: usize,
    /// Columns of the logits: all experts, shared ones included.
    pub experts: usize,
    /// `E_r`: the first columns, which take part.
    pub routed: usize,
    /// The last `forced` routed experts are in every pool.
    pub forced: usize,
    /// Documents.
    pub segments: Segments<'a, B>,
    /// `[tokens, experts]`.
    pub logits: View<'a, B>,
    /// The router's gate bias `[experts]`, so that a document's scores are made of what its tokens' scores are made of.
    pub bias: Option<View<'a, B>>,
    /// The router's temperature; 1 leaves the logits.
    pub temperature: f64,
    /// Pool size of each segment, `[segments]`; see [`draw_size`].
    pub sizes: Indices<'a, B>,
    /// Output `[segments, E_r]`, 1 = may be used.
    pub keep: B::ViewMut<'a, u8>,
    /// Output `[segments, E_r]`: the scores.
    pub scores: ViewMut<'a, B>,
    /// Output `[segments]`: `H_D = -sum_i p_i ln p_i` in nats, where `p = score_D / sum_j score_D[j]` over all `E_r` routed
    /// experts, kept or not; 0 for a document without scores. Between 0 (one expert) and `ln E_r` (all alike).
    pub entropy: Option<ViewMut<'a, B>>,
}

impl<B: Backend> Keep<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "pool_keep";
        positive(OP, "routed", self.routed)?;
        require(
            self.routed <= self.experts,
            OP,
            "routed",
            format_args!("at most {}", self.experts),
            self.routed,
        )?;
        require(
            self.forced <= self.routed,
            OP,
            "forced",
            format_args!("at most {}", self.routed),
            self.forced,
        )?;
        self.segments.check(OP, self.tokens)?;
        length(OP, "logits", &self.logits, &[self.tokens, self.experts])?;
        optional(OP, "bias", &self.bias, &[self.experts])?;
        let temperature = self.temperature;
        require(
            temperature.is_finite() && temperature > 0.0,
            OP,
            "temperature",
            "positive and finite",
            temperature,
        )?;
        length(OP, "sizes", &self.sizes, &[self.segments.count()])?;
        length(OP, "keep", &self.keep, &[self.segments.count(), self.routed])?;
        length(OP, "scores", &self.scores, &[self.segments.count(), self.routed])?;
        optional(OP, "entropy", &self.entropy, &[self.segments.count()])
    }
}

/// `sizes_i = draw_size(seed, step, layer, documents_i, min, max)`: the pool sizes of a batch, drawn where the pools are made.
pub struct Sizes<'a, B: Backend> {
    /// Of the run.
    pub seed: u64,
    /// Optimiser step.
    pub step: u64,
    /// Layer of the model.
    pub layer: u32,
    /// Smallest size.
    pub min: u32,
    /// Largest size.
    pub max: u32,
    /// The number of each document in the run, `[segments]`.
    pub documents: B::View<'a, u64>,
    /// Output `[segments]`.
    pub sizes: IndicesMut<'a, B>,
}

impl<B: Backend> Sizes<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        length("pool_sizes", "sizes", &self.sizes, &[self.documents.len()])
    }

    /// The size of one document.
    pub(crate) fn draw(&self, document: u64) -> u32 {
        draw_size(self.seed, self.step, self.layer, document, self.min, self.max)
    }
}

/// A pool size uniform on `min..=max` from a counter-based generator: the same for a given
/// `(seed, step, layer, document)` whatever the batching, the threads or the ranks, so that resuming is exact.
///
/// The counter is mixed by four rounds of SplitMix64's finaliser (Steele et al. 2014); the range is mapped by
/// multiply-shift on 64 bits, whose bias is below `(max - min + 1) / 2^64`.
pub fn draw_size(seed: u64, step: u64, layer: u32, document: u64, min: u32, max: u32) -> u32 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for word in [seed, step, u64::from(layer), document] {
        state = mix(state ^ mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    }
    let (min, max) = (min.min(max), min.max(max));
    let span = u128::from(max - min) + 1;
    min + ((u128::from(state) * span) >> 64) as u32
}

/// SplitMix64's finaliser: a bijection of 64-bit words in which every input bit moves every output bit.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::draw_size;

    #[test]
    fn draws_cover_the_range_evenly_and_depend_on_every_word() {
        let mut seen = [0usize; 8];
        for document in 0..8000 {
            seen[(draw_size(1, 2, 3, document, 5, 12) - 5) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
        let base: Vec<u32> = (0..64).map(|d| draw_size(1, 2, 3, d, 0, 1000)).collect();
        for (seed, step, layer) in [(2, 2, 3), (1, 3, 3), (1, 2, 4)] {
            let other: Vec<u32> = (0..64).map(|d| draw_size(seed, step, layer, d, 0, 1000)).collect();
            assert_ne!(base, other);
        }
        assert_eq!(draw_size(9, 9, 9, 9, 7, 7), 7);
    }
}

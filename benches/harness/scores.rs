//! The outputs of a router, as inputs of what comes after it.

use super::device::{Held, HeldSegments, hold, segments, unset_indices};
use super::shapes::Routed;
use super::{floats, zeros};
use emo::Backend;
use emo::ops::pool::Keep;
use emo::ops::router::{Forward, KeepMask};

/// A router's inputs and outputs.
pub struct Scores<'b, B: Backend> {
    pub segments: HeldSegments<'b, B>,
    pub logits: Held<'b, B, B::Real>,
    /// Pool size of each document.
    pub sizes: Held<'b, B, u32>,
    pub keep: Held<'b, B, u8>,
    pub probs: Held<'b, B, B::Real>,
    pub weights: Held<'b, B, B::Real>,
    pub indices: Held<'b, B, u32>,
    pub counts: Held<'b, B, u32>,
    pub lse: Held<'b, B, B::Real>,
}

impl<'b, B: Backend> Scores<'b, B> {
    /// Buffers, and logits in [-1, 1).
    pub fn new(device: &'b B, case: &Routed) -> Self {
        let (tokens, documents, config) = (case.tokens(), case.offsets.len() - 1, &case.config);
        Self {
            segments: segments(device, &case.offsets),
            logits: floats(device, tokens * config.experts, 1),
            sizes: hold(device, &vec![config.routed() as u32 / 4; documents]),
            keep: hold(device, &vec![1u8; documents * config.routed()]),
            probs: zeros(device, tokens * config.routed()),
            weights: zeros(device, tokens * config.top_k),
            indices: unset_indices(device, tokens * config.top_k),
            counts: unset_indices(device, config.experts),
            lse: zeros(device, tokens),
        }
    }

    /// Every document's pool of a quarter of the experts; `scores` is `[documents, routed]`.
    pub fn choose(
        &mut self,
        device: &B,
        case: &Routed,
        scores: &mut Held<'b, B, B::Real>,
    ) -> emo::Result<()> {
        device.pool_keep(Keep {
            tokens: case.tokens(),
            experts: case.config.experts,
            routed: case.config.routed(),
            forced: 0,
            segments: self.segments.all(),
            logits: self.logits.all(),
            bias: None,
            temperature: case.config.temperature,
            sizes: self.sizes.all(),
            keep: self.keep.all_mut(),
            scores: scores.all_mut(),
            entropy: None,
        })
    }

    /// Which experts a token may use.
    pub fn mask(&self, case: &Routed) -> KeepMask<'_, B> {
        if case.pool { KeepMask::PerSegment(self.keep.all(), self.segments.all()) } else { KeepMask::All }
    }

    /// The router.
    pub fn route(&mut self, device: &B, case: &Routed) -> emo::Result<()> {
        device.router_forward(Forward {
            config: &case.config,
            tokens: case.tokens(),
            logits: self.logits.all(),
            bias: None,
            selection_bias: None,
            keep: if case.pool {
                KeepMask::PerSegment(self.keep.all(), self.segments.all())
            } else {
                KeepMask::All
            },
            probs: self.probs.all_mut(),
            weights: self.weights.all_mut(),
            indices: self.indices.all_mut(),
            counts: self.counts.all_mut(),
            lse: self.lse.all_mut(),
        })
    }
}

//! The outputs of a router, as inputs of what comes after it.

use super::device::{Held, HeldSegments, hold, segments, unset_indices};
use super::shapes::Routed;
use super::{floats, zeros};
use emo::Backend;
use emo::cpu::Cpu;
use emo::ops::pool::Keep;
use emo::ops::router::{Forward, KeepMask};

/// A router's inputs and outputs.
pub struct Scores<'b> {
    pub segments: HeldSegments<'b, Cpu>,
    pub logits: Held<'b, Cpu, f32>,
    /// Pool size of each document.
    pub sizes: Held<'b, Cpu, u32>,
    pub keep: Held<'b, Cpu, u8>,
    pub probs: Held<'b, Cpu, f32>,
    pub weights: Held<'b, Cpu, f32>,
    pub indices: Held<'b, Cpu, u32>,
    pub counts: Held<'b, Cpu, u32>,
    pub lse: Held<'b, Cpu, f32>,
}

impl<'b> Scores<'b> {
    /// Buffers, and logits in [-1, 1).
    pub fn new(cpu: &'b Cpu, case: &Routed) -> Self {
        let (tokens, documents, config) = (case.tokens(), case.offsets.len() - 1, &case.config);
        Self {
            segments: segments(cpu, &case.offsets),
            logits: floats(cpu, tokens * config.experts, 1),
            sizes: hold(cpu, &vec![config.routed() as u32 / 4; documents]),
            keep: hold(cpu, &vec![1u8; documents * config.routed()]),
            probs: zeros(cpu, tokens * config.routed()),
            weights: zeros(cpu, tokens * config.top_k),
            indices: unset_indices(cpu, tokens * config.top_k),
            counts: unset_indices(cpu, config.experts),
            lse: zeros(cpu, tokens),
        }
    }

    /// Every document's pool of a quarter of the experts; `scores` is `[documents, routed]`.
    pub fn choose(&mut self, cpu: &Cpu, case: &Routed, scores: &mut Held<'b, Cpu, f32>) -> emo::Result<()> {
        cpu.pool_keep(Keep {
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
        })
    }

    /// Which experts a token may use.
    pub fn mask(&self, case: &Routed) -> KeepMask<'_, Cpu> {
        if case.pool { KeepMask::PerSegment(self.keep.all(), self.segments.all()) } else { KeepMask::All }
    }

    /// The router.
    pub fn route(&mut self, cpu: &Cpu, case: &Routed) -> emo::Result<()> {
        cpu.router_forward(Forward {
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

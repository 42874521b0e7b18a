//! The losses on one layer's routing: values into their slots, gradients onto scores and expert rows.

use emo::Result;
use emo::backend::Backend;
use emo::ops::{adamw, losses};

use super::Context;
use super::moe::{Cache, Layer, Scratch};
use crate::model::activations::{read, write};
use crate::model::objective::{Coefficients, LayerLosses};

/// Slots of a layer in the buffer of loss values, in the order of [`LayerLosses`].
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    LoadBalance,
    /// Holds `sum lse^2`, not weighted.
    RouterZ,
    MutualInformation,
    SequenceConsistency,
    DomainConsistency,
    Redundancy,
}

fn slot<'a, B: Backend>(
    backend: &B,
    losses: &'a mut B::Buffer<f64>,
    ordinal: usize,
    slot: Slot,
) -> Result<B::ViewMut<'a, f64>> {
    let index = ordinal * LayerLosses::COUNT + slot as usize;
    backend.view_mut(losses, index..index + 1)
}

/// A layer's losses from its slots.
pub(crate) fn collect(slots: &[f64], router_z: f64) -> LayerLosses {
    let value = |slot: Slot| slots[slot as usize];
    LayerLosses {
        load_balance: value(Slot::LoadBalance),
        router_z: router_z * value(Slot::RouterZ),
        mutual_information: value(Slot::MutualInformation),
        sequence_consistency: value(Slot::SequenceConsistency),
        domain_consistency: value(Slot::DomainConsistency),
        redundancy: value(Slot::Redundancy),
    }
}

/// Every loss on the scores; whether there was one, and with it a gradient in `scratch.dprobs`.
pub(crate) fn on_scores<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer<'_, B>,
    weights: &Coefficients,
    domains: usize,
    cache: &Cache<B>,
    scratch: &mut Scratch<B>,
    values: &mut B::Buffer<f64>,
    workspace: &mut B::Buffer<B::Real>,
) -> Result<bool> {
    let (backend, tokens, routed) = (cx.backend, cx.tokens(), layer.moe.routed());
    let ordinal = layer.ordinal;
    let scores = tokens * routed;
    let dprobs = &mut scratch.dprobs;
    backend.zero(write(backend, dprobs, scores)?)?;
    let mut any = false;
    if weights.router_z != 0.0 {
        backend.sum_of_squares(adamw::SumOfSquares {
            x: read(backend, &cache.lse, tokens)?,
            out: slot(backend, values, ordinal, Slot::RouterZ)?,
        })?;
    }
    if weights.load_balance != 0.0 {
        any = true;
        backend.load_balance(losses::LoadBalance {
            tokens,
            routed,
            coefficient: weights.load_balance,
            counts: read(backend, &cache.balance_counts, routed)?,
            valid: cx.batch.valid(backend)?,
            probs: read(backend, &cache.probs, scores)?,
            dprobs: write(backend, dprobs, scores)?,
            loss: slot(backend, values, ordinal, Slot::LoadBalance)?,
        })?;
    }
    if weights.token_entropy != 0.0 || weights.marginal_entropy != 0.0 {
        any = true;
        backend.mutual_information(losses::MutualInformation {
            tokens,
            routed,
            token_weight: weights.token_entropy,
            marginal_weight: weights.marginal_entropy,
            valid: Some(cx.batch.labelled(backend)?),
            probs: read(backend, &cache.probs, scores)?,
            dprobs: write(backend, dprobs, scores)?,
            loss: slot(backend, values, ordinal, Slot::MutualInformation)?,
        })?;
    }
    if weights.sequence_consistency != 0.0 {
        any = true;
        backend.sequence_consistency(losses::SequenceConsistency {
            tokens,
            routed,
            coefficient: weights.sequence_consistency,
            segments: cx.batch.routing(backend)?,
            probs: read(backend, &cache.probs, scores)?,
            dprobs: write(backend, dprobs, scores)?,
            loss: slot(backend, values, ordinal, Slot::SequenceConsistency)?,
        })?;
    }
    if let (true, Some(domain)) = (weights.domain_consistency != 0.0, cx.batch.domain(backend)?) {
        any = true;
        let means = (cx.batch.routing_count() + domains) * routed;
        backend.domain_consistency(losses::DomainConsistency {
            tokens,
            routed,
            domains,
            coefficient: weights.domain_consistency,
            segments: cx.batch.routing(backend)?,
            domain,
            probs: read(backend, &cache.probs, scores)?,
            dprobs: write(backend, dprobs, scores)?,
            loss: slot(backend, values, ordinal, Slot::DomainConsistency)?,
            workspace: write(backend, workspace, means)?,
        })?;
    }
    Ok(any)
}

/// The redundancy loss on the expert rows; its gradient overwrites `row_grad`.
pub(crate) fn redundancy<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer<'_, B>,
    coefficient: f64,
    inverse: &B::Buffer<u32>,
    rows: &B::Buffer<B::Storage>,
    row_grad: &mut B::Buffer<B::Storage>,
    values: &mut B::Buffer<f64>,
) -> Result<()> {
    let (backend, tokens, width, moe) = (cx.backend, cx.tokens(), cx.config.width, layer.moe);
    let elements = tokens * moe.top_k * width;
    backend.redundancy(losses::Redundancy {
        tokens,
        top_k: moe.top_k,
        routed_k: moe.top_k - moe.shared,
        width,
        coefficient,
        inverse: read(backend, inverse, tokens * moe.top_k)?,
        rows: read(backend, rows, elements)?,
        drows: write(backend, row_grad, elements)?,
        loss: slot(backend, values, layer.ordinal, Slot::Redundancy)?,
    })
}

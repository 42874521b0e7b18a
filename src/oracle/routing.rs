//! Router, pools, smoothing and the losses on routing.

use super::{OracleIn, add_to, wide};
use crate::backend::Real;
use crate::ops::segments::Segments;
use crate::ops::{losses, pool, router, router_logits, smoothing};
use crate::{Result, host, reference};

fn valid(mask: Option<&[u8]>) -> Option<Vec<bool>> {
    mask.map(|mask| mask.iter().map(|&flag| flag != 0).collect())
}

/// A keep mask as one flag a token and expert.
fn keep<S: Real>(
    op: &'static str,
    mask: router::KeepMask<'_, OracleIn<S>>,
    tokens: usize,
    routed: usize,
) -> Result<Option<Vec<bool>>> {
    Ok(match mask {
        router::KeepMask::All => None,
        router::KeepMask::PerToken(keep) => valid(Some(keep)),
        router::KeepMask::PerSegment(keep, of) => {
            host::segments(op, &of, tokens)?;
            let keep: Vec<bool> = keep.iter().map(|&flag| flag != 0).collect();
            Some(reference::pool::per_token(&keep, routed, of.offsets))
        }
    })
}

fn filter(shape: smoothing::Shape, taps: &[f64]) -> reference::smoothing::Filter<'_> {
    reference::smoothing::Filter {
        taps,
        width: shape.width,
        ahead: shape.ahead,
        renormalise: shape.renormalise,
    }
}

fn weighted(coefficient: f64, loss: reference::losses::Loss, gradient: &mut [f64], total: &mut [f64]) {
    total[0] += coefficient * loss.loss;
    gradient.iter_mut().zip(&loss.grad).for_each(|(target, gradient)| *target += coefficient * gradient);
}

pub(super) fn router_logits_forward<S: Real>(args: router_logits::Forward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let router_logits::Shape { width, experts, .. } = args.shape;
    args.logits.copy_from_slice(&reference::router_logits::forward(&wide(args.x), args.w, width, experts));
    Ok(())
}

pub(super) fn router_logits_backward<S: Real>(args: router_logits::Backward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let router_logits::Shape { width, experts, .. } = args.shape;
    let (dx, dw) = reference::router_logits::backward(&wide(args.x), args.w, args.dlogits, width, experts);
    add_to(args.dx, &dx);
    add_to(args.dw, &dw);
    Ok(())
}

pub(super) fn smoothing_forward<S: Real>(args: smoothing::Forward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    host::segments("smoothing_forward", &args.segments, args.shape.tokens)?;
    let filter = filter(args.shape, args.taps);
    let y = reference::smoothing::forward(&filter, args.x, args.shape.channels, args.segments.offsets);
    args.y.copy_from_slice(&y);
    Ok(())
}

pub(super) fn smoothing_backward<S: Real>(args: smoothing::Backward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    host::segments("smoothing_backward", &args.segments, args.shape.tokens)?;
    let filter = filter(args.shape, args.taps);
    let (dx, dtaps) =
        reference::smoothing::backward(&filter, args.x, args.dy, args.shape.channels, args.segments.offsets);
    args.dx.copy_from_slice(&dx);
    if let Some(target) = args.dtaps {
        add_to(target, &dtaps);
    }
    Ok(())
}

pub(super) fn pool_sizes<S: Real>(args: pool::Sizes<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    for (i, &document) in args.documents.iter().enumerate() {
        args.sizes[i] = args.draw(document);
    }
    Ok(())
}

pub(super) fn pool_keep<S: Real>(args: pool::Keep<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    host::segments("pool_keep", &args.segments, args.tokens)?;
    let bias = |expert: usize| args.bias.map_or(0.0, |bias| bias[expert]);
    let scaled = |(at, logit): (usize, &f64)| (logit + bias(at % args.experts)) / args.temperature;
    let logits: Vec<f64> = args.logits.iter().enumerate().map(scaled).collect();
    let scores = reference::pool::scores(&logits, args.experts, args.routed, args.segments.offsets);
    let keep = reference::pool::select(&scores, args.routed, args.sizes, args.forced);
    if let Some(entropy) = args.entropy {
        entropy.copy_from_slice(&reference::pool::entropies(&scores, args.routed));
    }
    args.scores.copy_from_slice(&scores);
    args.keep.iter_mut().zip(keep).for_each(|(target, keep)| *target = u8::from(keep));
    Ok(())
}

pub(super) fn router_forward<S: Real>(args: router::Forward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let keep = keep("router_forward", args.keep, args.tokens, args.config.routed())?;
    let out =
        reference::router::forward(args.config, args.logits, args.bias, args.selection_bias, keep.as_deref());
    args.probs.copy_from_slice(&out.probs);
    args.weights.copy_from_slice(&out.weights);
    args.indices.copy_from_slice(&out.indices);
    args.counts.iter_mut().zip(&out.counts).for_each(|(target, count)| *target = *count as u32);
    args.lse.copy_from_slice(&out.lse);
    Ok(())
}

/// Smooths `logits` into `smoothing.smoothed` and returns that.
fn smoothed<'a, S: Real>(
    smoothing: smoothing::InFront<'a, OracleIn<S>>,
    logits: &'a [f64],
) -> Result<&'a [f64]> {
    let smoothing::InFront { shape, segments: Segments { offsets, of_token }, taps, smoothed } = smoothing;
    // Made anew: `segments` lives as long as `smoothed`, which is lent out for the call only.
    let segments: Segments<'_, OracleIn<S>> = Segments { offsets, of_token };
    smoothing_forward(smoothing::Forward { shape, segments, x: logits, taps, y: &mut *smoothed })?;
    Ok(smoothed)
}

pub(super) fn smoothed_router<S: Real>(args: smoothing::Router<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let logits = smoothed(args.smoothing, args.router.logits)?;
    router_forward(router::Forward { logits, ..args.router })
}

pub(super) fn smoothed_pool<S: Real>(args: smoothing::Pool<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let logits = smoothed(args.smoothing, args.pool.logits)?;
    pool_keep(pool::Keep { logits, ..args.pool })
}

pub(super) fn router_backward<S: Real>(args: router::Backward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let config = args.config;
    host::router_slots("router_backward", config, args.indices)?;
    let keep = keep("router_backward", args.keep, args.tokens, config.routed())?;
    let out = reference::router::Output {
        probs: args.probs.to_vec(),
        weights: args.weights.to_vec(),
        indices: args.indices.to_vec(),
        counts: Vec::new(),
        lse: args.lse.to_vec(),
    };
    let none = vec![0.0; args.probs.len()];
    let dlse: Vec<f64> = args.lse.iter().map(|lse| 2.0 * args.z_coefficient * lse).collect();
    let gradients = reference::router::backward(
        config,
        args.logits,
        args.bias,
        keep.as_deref(),
        &out,
        args.dweights,
        args.dprobs.unwrap_or(&none),
        &dlse,
    );
    args.dlogits.copy_from_slice(&gradients.dlogits);
    if let Some(dbias) = args.dbias {
        add_to(dbias, &gradients.dbias);
    }
    Ok(())
}

pub(super) fn load_balance<S: Real>(args: losses::LoadBalance<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let mask = valid(args.valid);
    let tokens = mask.as_ref().map_or(args.tokens, |mask| mask.iter().filter(|&&flag| flag).count());
    let counts: Vec<u64> = args.counts.iter().map(|&count| count as u64).collect();
    let scale = args.coefficient * tokens as f64;
    let loss = reference::losses::load_balance(&counts, args.probs, scale, 1.0, mask.as_deref());
    args.loss[0] += loss.loss;
    add_to(args.dprobs, &loss.grad);
    Ok(())
}

pub(super) fn mutual_information<S: Real>(args: losses::MutualInformation<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let (token, marginal) = (args.token_weight, args.marginal_weight);
    let mask = valid(args.valid);
    let loss =
        reference::losses::mutual_information(args.probs, args.routed, token, marginal, mask.as_deref());
    args.loss[0] += loss.loss;
    add_to(args.dprobs, &loss.grad);
    Ok(())
}

pub(super) fn sequence_consistency<S: Real>(
    args: losses::SequenceConsistency<'_, OracleIn<S>>,
) -> Result<()> {
    args.check()?;
    host::segments("sequence_consistency", &args.segments, args.tokens)?;
    let loss = reference::losses::sequence_consistency(args.probs, args.routed, args.segments.offsets, None);
    weighted(args.coefficient, loss, args.dprobs, args.loss);
    Ok(())
}

pub(super) fn domain_consistency<S: Real>(args: losses::DomainConsistency<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    host::segments("domain_consistency", &args.segments, args.tokens)?;
    host::below("domain_consistency", "domain", args.domain, args.domains)?;
    let offsets = args.segments.offsets;
    let loss = reference::losses::domain_consistency(args.probs, args.routed, offsets, args.domain, None);
    weighted(args.coefficient, loss, args.dprobs, args.loss);
    Ok(())
}

pub(super) fn redundancy<S: Real>(args: losses::Redundancy<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let losses::Redundancy { tokens, top_k, routed_k, width, .. } = args;
    host::permutation("redundancy", "inverse", args.inverse, &mut vec![0u32; args.inverse.len()], 1)?;
    let routed_slots = || (0..tokens * top_k).filter(|slot| slot % top_k < routed_k);
    let row = |slot: usize| args.inverse[slot] as usize * width;
    let rows: Vec<f64> = routed_slots().flat_map(|slot| wide(&args.rows[row(slot)..][..width])).collect();
    args.drows.fill(S::from_f64(0.0));
    if rows.is_empty() {
        return Ok(());
    }
    let loss = reference::losses::redundancy(&rows, routed_k, width, None);
    for (slot, gradient) in routed_slots().zip(loss.grad.chunks_exact(width)) {
        let target = &mut args.drows[row(slot)..][..width];
        let scaled = |gradient: &f64| S::from_f64(args.coefficient * gradient);
        target.iter_mut().zip(gradient).for_each(|(target, gradient)| *target = scaled(gradient));
    }
    args.loss[0] += args.coefficient * loss.loss;
    Ok(())
}

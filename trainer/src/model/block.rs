//! One block: norms, attention, feed-forward part and the residual stream between them.

use emo::backend::Backend;
use emo::{Error, Result};

use super::activations::{FeedForwardCache, LayerCache, Scratch, read, write};
use super::config::{Dense, FeedForward, NormPlacement};
use super::layers::{Context, attention, dense, moe, norm};
use super::layout::{FeedForwardLayout, Layer};
use super::objective::Coefficients;
use super::past::{Growth, LayerPast};

/// The feed-forward part of one block with its parameters.
pub(crate) enum Part<'a, B: Backend> {
    Moe(moe::Layer<'a, B>),
    Dense(&'a Dense, dense::Weights<'a>),
}

impl<'a, B: Backend> Part<'a, B> {
    /// Puts configuration, parameters and state of a layer together; `experts` is there for layers with experts.
    pub fn new(
        kind: &'a FeedForward,
        layout: &'a FeedForwardLayout,
        experts: Option<(&'a emo::ops::router::RouterConfig, &'a moe::State<B>, usize)>,
    ) -> Result<Self> {
        match (kind, layout, experts) {
            (
                FeedForward::Moe(moe),
                FeedForwardLayout::Moe { router: gate, bias, taps, w_in, w_out },
                Some((router, state, ordinal)),
            ) => {
                let weights = moe::Weights { router: gate, bias, taps, w_in, w_out };
                Ok(Self::Moe(moe::Layer::new(moe, router, weights, state, ordinal)))
            }
            (FeedForward::Dense(dense), FeedForwardLayout::Dense { w_in, bias_in, w_out, bias_out }, _) => {
                Ok(Self::Dense(dense, dense::Weights { w_in, bias_in, w_out, bias_out }))
            }
            _ => Err(mismatch()),
        }
    }
}

fn mismatch() -> Error {
    Error::argument("model", "feed_forward", "configuration and memory of the same kind", "different kinds")
}

/// What a block needs beside its own parameters.
pub(crate) struct Surroundings<'a, B: Backend> {
    pub layer: &'a Layer,
    pub part: Part<'a, B>,
    pub longest: usize,
    pub cos: &'a B::Buffer<B::Real>,
    pub sin: &'a B::Buffer<B::Real>,
}

/// `residual[0] -> residual[1]` by attention, `residual[1] -> residual[2]` by the feed-forward part. With a `past`, tokens
/// continue sequences that it remembers.
pub(crate) fn forward<B: Backend>(
    cx: &Context<'_, B>,
    block: &Surroundings<'_, B>,
    residual: [&mut B::Buffer<B::Storage>; 3],
    cache: &mut LayerCache<B>,
    scratch: &mut Scratch<B>,
    mut past: Option<(&mut Growth<B>, &mut LayerPast<B>)>,
) -> Result<()> {
    let [x, u, y] = residual;
    let layer = block.layer;
    let tables = (block.cos, block.sin);
    let pre = cx.config.norm == NormPlacement::Pre;
    let Scratch { normed, attention: attend, workspace, .. } = scratch;
    let longest = block.longest;
    if pre {
        norm::forward(cx, &layer.attention_norm, x, normed, &mut cache.attention_rstd)?;
    }
    let input = if pre { &*normed } else { &*x };
    let out = cache.attention_out.as_mut().unwrap_or(u);
    let before = past.as_mut().map(|(growth, past)| (&**growth, &mut **past));
    let kept = &mut cache.attention;
    attention::forward(cx, layer, longest, tables, input, out, kept, attend, workspace, before)?;
    if let Some(out) = &cache.attention_out {
        norm::forward(cx, &layer.attention_norm, out, u, &mut cache.attention_rstd)?;
    }
    add(cx, x, u)?;

    if pre {
        norm::forward(cx, &layer.feed_forward_norm, u, normed, &mut cache.feed_forward_rstd)?;
    }
    let input = if pre { &scratch.normed } else { &*u };
    let out = cache.feed_forward_out.as_mut().unwrap_or(y);
    match (&block.part, &mut cache.feed_forward, &mut scratch.moe, &mut scratch.dense) {
        (Part::Moe(layer), FeedForwardCache::Moe(cache), Some(rows), _) => {
            moe::forward(cx, layer, input, out, cache, rows, &mut scratch.workspace, past)?;
        }
        (Part::Dense(dense, weights), FeedForwardCache::Dense(cache), _, Some(rows)) => {
            dense::forward(cx, dense, *weights, input, out, cache, rows, &mut scratch.workspace)?;
        }
        _ => return Err(mismatch()),
    }
    if let Some(out) = &cache.feed_forward_out {
        norm::forward(cx, &layer.feed_forward_norm, out, y, &mut cache.feed_forward_rstd)?;
    }
    add(cx, u, y)
}

/// What the backward pass writes to.
pub(crate) struct Gradients<'a, B: Backend> {
    pub grads: &'a mut B::Buffer<B::Real>,
    pub losses: &'a mut B::Buffer<f64>,
}

/// Gradient of [`forward`] in place of `scratch.dresidual`: that of `residual[2]` before, of `residual[0]` after.
pub(crate) fn backward<B: Backend>(
    cx: &Context<'_, B>,
    block: &Surroundings<'_, B>,
    coefficients: Option<&Coefficients>,
    domains: usize,
    residual: [&B::Buffer<B::Storage>; 2],
    cache: &mut LayerCache<B>,
    gradients: &mut Gradients<'_, B>,
    scratch: &mut Scratch<B>,
) -> Result<()> {
    feed_forward_backward(cx, block, coefficients, domains, residual[1], cache, gradients, scratch)?;
    attention_backward(cx, block, residual[0], cache, gradients, scratch)
}

fn feed_forward_backward<B: Backend>(
    cx: &Context<'_, B>,
    block: &Surroundings<'_, B>,
    coefficients: Option<&Coefficients>,
    domains: usize,
    u: &B::Buffer<B::Storage>,
    cache: &mut LayerCache<B>,
    gradients: &mut Gradients<'_, B>,
    scratch: &mut Scratch<B>,
) -> Result<()> {
    let weight = &block.layer.feed_forward_norm;
    let LayerCache { feed_forward: kept, feed_forward_rstd: rstd, feed_forward_out, .. } = cache;
    let Scratch { normed, branch: dx, dbranch, dresidual, workspace, dense, moe, .. } = scratch;
    let Gradients { grads, losses } = gradients;
    let post = feed_forward_out.as_ref().zip(dbranch.as_mut());
    let (x, dy) = match post {
        None => {
            norm::forward(cx, weight, u, normed, rstd)?;
            (&*normed, &*dresidual)
        }
        Some((out, dbranch)) => {
            norm::backward(cx, weight, out, rstd, dresidual, dbranch, false, grads, workspace)?;
            (u, &*dbranch)
        }
    };
    match (&block.part, kept, moe, dense, coefficients) {
        (Part::Moe(layer), FeedForwardCache::Moe(kept), Some(rows), _, Some(weights)) => {
            moe::backward(cx, layer, weights, domains, x, dy, dx, kept, grads, losses, rows, workspace)?;
        }
        (Part::Dense(dense, weights), FeedForwardCache::Dense(kept), _, Some(rows), _) => {
            dense::backward(cx, dense, *weights, x, dy, dx, kept, grads, rows, workspace)?;
        }
        _ => return Err(mismatch()),
    }
    if feed_forward_out.is_some() {
        add(cx, dx, dresidual)
    } else {
        norm::backward(cx, weight, u, rstd, dx, dresidual, true, grads, workspace)
    }
}

fn attention_backward<B: Backend>(
    cx: &Context<'_, B>,
    block: &Surroundings<'_, B>,
    x: &B::Buffer<B::Storage>,
    cache: &mut LayerCache<B>,
    gradients: &mut Gradients<'_, B>,
    scratch: &mut Scratch<B>,
) -> Result<()> {
    let layer = block.layer;
    let weight = &layer.attention_norm;
    let LayerCache { attention: kept, attention_rstd: rstd, attention_out, .. } = cache;
    let Scratch { normed, branch: dx, dbranch, dresidual, workspace, attention: rows, .. } = scratch;
    let Gradients { grads, .. } = gradients;
    let post = attention_out.as_ref().zip(dbranch.as_mut());
    let (input, dy) = match post {
        None => {
            norm::forward(cx, weight, x, normed, rstd)?;
            (&*normed, &*dresidual)
        }
        Some((out, dbranch)) => {
            norm::backward(cx, weight, out, rstd, dresidual, dbranch, false, grads, workspace)?;
            (x, &*dbranch)
        }
    };
    let tables = (block.cos, block.sin);
    attention::backward(cx, layer, block.longest, tables, input, dy, dx, kept, grads, rows, workspace)?;
    if attention_out.is_some() {
        add(cx, dx, dresidual)
    } else {
        norm::backward(cx, weight, x, rstd, dx, dresidual, true, grads, workspace)
    }
}

/// `y += x` over the rows of the batch.
fn add<B: Backend>(
    cx: &Context<'_, B>,
    x: &B::Buffer<B::Storage>,
    y: &mut B::Buffer<B::Storage>,
) -> Result<()> {
    let len = cx.tokens() * cx.config.width;
    cx.backend.add(read(cx.backend, x, len)?, write(cx.backend, y, len)?)
}

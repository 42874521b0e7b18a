//! The mixture of experts: `x -> logits -> (smoothing) -> (pool) -> route -> plan -> experts -> combine`.

use std::ops::Range;

use emo::Result;
use emo::backend::Backend;
use emo::ops::router::{KeepMask, RouterConfig};
use emo::ops::{experts, permutation, pool, router, router_logits, smoothing};

use super::moe_kept::KeptRouter;
use super::{Context, whole};
use crate::model::activations::{Capacity, Planner, Purpose, download, read, upload, write};
use crate::model::config::{ModelConfig, Moe};
use crate::model::inputs::PoolFrom;
use crate::model::layers::{moe_losses, moe_pool};
use crate::model::objective::Coefficients;
use crate::model::past::{Growth, LayerPast};

/// Parameters of one layer.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub router: &'a Range<usize>,
    pub bias: &'a Option<Range<usize>>,
    pub taps: &'a Option<Range<usize>>,
    pub w_in: &'a Range<usize>,
    pub w_out: &'a Range<usize>,
}

/// One layer as its functions see it.
pub(crate) struct Layer<'a, B: Backend> {
    /// The experts that may be used: all of the layer's, or those that a request keeps.
    pub moe: &'a Moe,
    pub router: &'a RouterConfig,
    /// Experts in the arena.
    pub experts: usize,
    pub weights: Weights<'a>,
    pub state: &'a State<B>,
    /// Which of the layers with experts this is.
    pub ordinal: usize,
}

/// Values that no gradient trains.
pub(crate) struct State<B: Backend> {
    /// Score-correction bias `[E_r]`.
    pub selection_bias: Option<B::Buffer<B::Real>>,
    /// Taps of a fixed smoothing filter.
    pub taps: Option<B::Buffer<B::Real>>,
    /// The experts that requests may use, where not all of them.
    pub kept: Option<KeptRouter<B>>,
}

impl<B: Backend> State<B> {
    pub fn plan(plan: &mut Planner<'_, B>, moe: &Moe, name: &str) -> Result<Self> {
        let fixed = moe.smoothing.filter(|smoothing| !smoothing.learned);
        let bias = format!("{name}.selection_bias");
        Ok(Self {
            selection_bias: moe
                .selection_bias
                .then(|| plan.real(Purpose::Parameters, bias, moe.routed()))
                .transpose()?,
            taps: fixed
                .map(|_| plan.real(Purpose::Parameters, format!("{name}.smoothing_taps"), moe.taps()))
                .transpose()?,
            kept: None,
        })
    }

    /// Writes the fixed taps, all equal.
    pub fn fill(&mut self, backend: &B, moe: &Moe) -> Result<()> {
        if let (Some(taps), Some(smoothing)) = (&mut self.taps, moe.smoothing) {
            upload(backend, &vec![1.0 / smoothing.width as f64; moe.taps()], taps, 0)?;
        }
        Ok(())
    }
}

/// Kept for the backward pass.
pub(crate) struct Cache<B: Backend> {
    /// Logits before smoothing.
    pub raw_logits: Option<B::Buffer<B::Real>>,
    pub logits: B::Buffer<B::Real>,
    pub probs: B::Buffer<B::Real>,
    pub weights: B::Buffer<B::Real>,
    pub indices: B::Buffer<u32>,
    pub counts: B::Buffer<u32>,
    pub lse: B::Buffer<B::Real>,
    /// `[segments, E_r]`: the document pools; `[tokens, E_r]` where they look back only.
    pub keep: B::Buffer<u8>,
    order: B::Buffer<u32>,
    token: B::Buffer<u32>,
    offsets: B::Buffer<u32>,
    pub inverse: B::Buffer<u32>,
    pre: B::Buffer<B::Storage>,
    /// Expert outputs, where the redundancy loss needs them in the backward pass.
    pub rows: Option<B::Buffer<B::Storage>>,
    /// What the load balance loss multiplies with, `[E_r]`.
    pub balance_counts: B::Buffer<B::Real>,
}

impl<B: Backend> Cache<B> {
    pub fn plan(
        plan: &mut Planner<'_, B>,
        moe: &Moe,
        width: usize,
        capacity: &Capacity,
        name: &str,
    ) -> Result<Self> {
        let tokens = capacity.tokens;
        use Purpose::Activations as Keep;
        let label = |part: &str| format!("{name}.{part}");
        let rows = tokens * moe.top_k;
        let logits = tokens * moe.experts;
        let scores = tokens * moe.routed();
        let raw = moe.smoothing.is_some();
        Ok(Self {
            raw_logits: raw.then(|| plan.real(Keep, label("raw_logits"), logits)).transpose()?,
            logits: plan.real(Keep, label("logits"), logits)?,
            probs: plan.real(Keep, label("scores"), scores)?,
            weights: plan.real(Keep, label("weights"), rows)?,
            indices: plan.buffer(Keep, label("indices"), rows)?,
            counts: plan.buffer(Keep, label("counts"), moe.experts)?,
            lse: plan.real(Keep, label("lse"), tokens)?,
            keep: plan.buffer(Keep, label("pools"), scores)?,
            order: plan.buffer(Keep, label("order"), rows)?,
            token: plan.buffer(Keep, label("token"), rows)?,
            offsets: plan.buffer(Keep, label("offsets"), moe.experts + 1)?,
            inverse: plan.buffer(Keep, label("inverse"), rows)?,
            pre: plan.stored(Keep, label("pre"), rows * moe.pre())?,
            rows: (capacity.redundancy && capacity.backward)
                .then(|| plan.stored(Keep, label("rows"), rows * width))
                .transpose()?,
            balance_counts: plan.real(Keep, label("balance_counts"), moe.routed())?,
        })
    }
}

/// Rows and gradients that pass through.
pub(crate) struct Scratch<B: Backend> {
    /// Expert outputs that are not kept; in the backward pass the gradients of their inputs.
    pub rows: B::Buffer<B::Storage>,
    /// Gradient that the redundancy loss puts on the rows.
    row_grad: Option<B::Buffer<B::Storage>>,
    /// Document scores of the pools.
    scores: B::Buffer<B::Real>,
    dweights: B::Buffer<B::Real>,
    pub dprobs: B::Buffer<B::Real>,
    dlogits: B::Buffer<B::Real>,
    draw_logits: Option<B::Buffer<B::Real>>,
}

impl<B: Backend> Scratch<B> {
    pub fn plan(
        plan: &mut Planner<'_, B>,
        config: &ModelConfig,
        capacity: &Capacity,
    ) -> Result<Option<Self>> {
        use Purpose::Scratch as Use;
        let most = |size: fn(&Moe) -> usize| {
            capacity.tokens * config.moe_layers().map(|(_, moe)| size(moe)).max().unwrap_or(0)
        };
        if config.moe_layers().next().is_none() {
            return Ok(None);
        }
        let back = usize::from(capacity.backward);
        let rows = most(|moe| moe.top_k) * config.width;
        let logits = most(|moe| moe.experts);
        let smoothed = capacity.backward && config.moe_layers().any(|(_, moe)| moe.smoothing.is_some());
        Ok(Some(Self {
            rows: plan.stored(Use, "moe.rows", rows)?,
            row_grad: (capacity.redundancy && capacity.backward)
                .then(|| plan.stored(Use, "moe.row_gradients", rows))
                .transpose()?,
            scores: plan.real(Use, "moe.pool_scores", most(Moe::routed))?,
            dweights: plan.real(Use, "moe.dweights", back * most(|moe| moe.top_k))?,
            dprobs: plan.real(Use, "moe.dscores", back * most(Moe::routed))?,
            dlogits: plan.real(Use, "moe.dlogits", back * logits)?,
            draw_logits: smoothed.then(|| plan.real(Use, "moe.draw_logits", logits)).transpose()?,
        }))
    }
}

pub(crate) fn workspace<B: Backend>(backend: &B, config: &ModelConfig, capacity: &Capacity) -> usize {
    config
        .moe_layers()
        .flat_map(|(_, moe)| {
            let experts = backend.experts_workspace(experts_shape(moe, config.width, capacity.tokens));
            // A document has at least one token.
            let means = if capacity.domains > 0 { capacity.tokens + capacity.domains } else { 0 };
            [experts, means * moe.routed()]
        })
        .max()
        .unwrap_or(0)
}

fn experts_shape(moe: &Moe, width: usize, tokens: usize) -> experts::Shape {
    experts::Shape {
        tokens,
        top_k: moe.top_k,
        experts: moe.experts,
        width,
        hidden: moe.hidden,
        gated: moe.gated,
        activation: moe.activation,
    }
}

fn smoothing_shape(moe: &Moe, tokens: usize) -> Option<smoothing::Shape> {
    moe.smoothing.map(|smoothing| smoothing::Shape {
        tokens,
        channels: moe.experts,
        width: smoothing.width,
        ahead: smoothing.ahead,
        depthwise: smoothing.depthwise,
        renormalise: smoothing.renormalise,
    })
}

impl<B: Backend> Layer<'_, B> {
    fn keep<'s>(&self, cx: &'s Context<'_, B>, keep: &'s B::Buffer<u8>) -> Result<KeepMask<'s, B>> {
        if !cx.batch.pools {
            return Ok(KeepMask::All);
        }
        if cx.batch.pool_from != PoolFrom::Document {
            return Ok(KeepMask::PerToken(read(cx.backend, keep, cx.tokens() * self.moe.routed())?));
        }
        let keep = read(cx.backend, keep, cx.batch.routing_count() * self.moe.routed())?;
        Ok(KeepMask::PerSegment(keep, cx.batch.routing(cx.backend)?))
    }

    fn permutation(&self, tokens: usize) -> permutation::Shape {
        permutation::Shape { tokens, top_k: self.moe.top_k, experts: self.moe.experts }
    }

    /// The products, over every expert in the arena.
    fn products(&self, cx: &Context<'_, B>) -> experts::Shape {
        experts::Shape { experts: self.experts, ..experts_shape(self.moe, cx.config.width, cx.tokens()) }
    }
}

/// `y = sum_j weight_j E_j(x)`.
pub(crate) fn forward<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer<'_, B>,
    x: &B::Buffer<B::Storage>,
    y: &mut B::Buffer<B::Storage>,
    cache: &mut Cache<B>,
    scratch: &mut Scratch<B>,
    workspace: &mut B::Buffer<B::Real>,
    past: Option<(&mut Growth<B>, &mut LayerPast<B>)>,
) -> Result<()> {
    route(cx, layer, x, cache, scratch, past)?;
    let (backend, tokens, d) = (cx.backend, cx.tokens(), cx.config.width);
    let rows = tokens * layer.moe.top_k;
    backend.plan(permutation::Plan {
        shape: layer.permutation(tokens),
        indices: read(backend, &cache.indices, rows)?,
        order: write(backend, &mut cache.order, rows)?,
        token: write(backend, &mut cache.token, rows)?,
        offsets: write(backend, &mut cache.offsets, layer.moe.experts + 1)?,
        inverse: write(backend, &mut cache.inverse, rows)?,
    })?;
    if let Some(kept) = &layer.state.kept {
        kept.spread_offsets(backend, layer.experts, &mut cache.offsets)?;
    }
    let shape = layer.products(cx);
    let outputs = cache.rows.as_mut().unwrap_or(&mut scratch.rows);
    backend.experts_forward(experts::Forward {
        shape,
        offsets: read(backend, &cache.offsets, shape.experts + 1)?,
        token: read(backend, &cache.token, rows)?,
        x: read(backend, x, tokens * d)?,
        w_in: cx.matrix(layer.weights.w_in)?,
        w_out: cx.matrix(layer.weights.w_out)?,
        pre: write(backend, &mut cache.pre, rows * shape.pre())?,
        rows: write(backend, outputs, rows * d)?,
        workspace: whole(backend, workspace)?,
    })?;
    backend.combine_forward(permutation::Combine {
        shape: layer.permutation(tokens),
        width: d,
        inverse: read(backend, &cache.inverse, rows)?,
        weights: read(backend, &cache.weights, rows)?,
        rows: read(backend, outputs, rows * d)?,
        y: write(backend, y, tokens * d)?,
        accumulate: false,
    })
}

/// Logits, smoothing, pools and the router.
fn route<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer<'_, B>,
    x: &B::Buffer<B::Storage>,
    cache: &mut Cache<B>,
    scratch: &mut Scratch<B>,
    past: Option<(&mut Growth<B>, &mut LayerPast<B>)>,
) -> Result<()> {
    let (backend, tokens, moe) = (cx.backend, cx.tokens(), layer.moe);
    let (elements, routed) = (tokens * moe.experts, moe.routed());
    let product = cache.raw_logits.as_mut().unwrap_or(&mut cache.logits);
    backend.router_logits_forward(router_logits::Forward {
        shape: router_logits::Shape { tokens, width: cx.config.width, experts: moe.experts },
        x: read(backend, x, tokens * cx.config.width)?,
        w: layer.gate(cx)?,
        logits: write(backend, product, elements)?,
    })?;
    if let (Some(raw), Some(shape), Some(taps)) =
        (&cache.raw_logits, smoothing_shape(moe, tokens), layer.taps(cx)?)
    {
        match past {
            None => backend.smoothing_forward(smoothing::Forward {
                shape,
                segments: cx.batch.routing(backend)?,
                x: read(backend, raw, elements)?,
                taps,
                y: write(backend, &mut cache.logits, elements)?,
            })?,
            Some((growth, past)) => growth.smooth(cx, layer, shape, raw, past, &mut cache.logits)?,
        }
    }
    if cx.batch.pools && cx.batch.pool_from != PoolFrom::Document {
        let bias = match &layer.state.kept {
            Some(kept) => kept.bias.as_ref().map(|bias| download::<B, _>(backend, bias, 0..moe.experts)),
            None => layer.weights.bias.as_ref().map(|range| cx.params.get(backend, range.clone())),
        };
        moe_pool::keep(cx, layer, bias.transpose()?, &cache.logits, &mut cache.keep)?;
    } else if cx.batch.pools {
        let scores = cx.batch.routing_count() * routed;
        backend.pool_keep(pool::Keep {
            tokens,
            experts: moe.experts,
            routed,
            forced: moe.forced,
            segments: cx.batch.routing(backend)?,
            logits: read(backend, &cache.logits, elements)?,
            bias: layer.gate_bias(cx)?,
            temperature: layer.router.temperature,
            sizes: cx.batch.pool_sizes(backend, layer.ordinal)?,
            keep: write(backend, &mut cache.keep, scores)?,
            scores: write(backend, &mut scratch.scores, scores)?,
            entropy: None,
        })?;
    }
    backend.router_forward(router::Forward {
        config: layer.router,
        tokens,
        logits: read(backend, &cache.logits, elements)?,
        bias: layer.gate_bias(cx)?,
        selection_bias: layer.selection_bias(cx)?,
        keep: layer.keep(cx, &cache.keep)?,
        probs: write(backend, &mut cache.probs, tokens * routed)?,
        weights: write(backend, &mut cache.weights, tokens * moe.top_k)?,
        indices: write(backend, &mut cache.indices, tokens * moe.top_k)?,
        counts: write(backend, &mut cache.counts, moe.experts)?,
        lse: write(backend, &mut cache.lse, tokens)?,
    })
}

/// Gradient of [`forward`] and of the layer's losses: `dx` overwritten, weight gradients accumulated, loss values
/// added to their slots.
pub(crate) fn backward<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer<'_, B>,
    coefficients: &Coefficients,
    domains: usize,
    x: &B::Buffer<B::Storage>,
    dy: &B::Buffer<B::Storage>,
    dx: &mut B::Buffer<B::Storage>,
    cache: &mut Cache<B>,
    grads: &mut B::Buffer<B::Real>,
    losses: &mut B::Buffer<f64>,
    scratch: &mut Scratch<B>,
    workspace: &mut B::Buffer<B::Real>,
) -> Result<()> {
    let (backend, tokens, d, moe) = (cx.backend, cx.tokens(), cx.config.width, layer.moe);
    let shape = experts_shape(moe, d, tokens);
    let rows = shape.rows();
    let redundancy = match (&cache.rows, &mut scratch.row_grad) {
        (Some(outputs), Some(row_grad)) if coefficients.redundancy != 0.0 => {
            let (weight, inverse) = (coefficients.redundancy, &cache.inverse);
            moe_losses::redundancy(cx, layer, weight, inverse, outputs, row_grad, losses)?;
            Some(read(backend, row_grad, rows * d)?)
        }
        _ => None,
    };
    let [dw_in, dw_out] =
        backend.disjoint_mut(grads, [layer.weights.w_in.clone(), layer.weights.w_out.clone()])?;
    backend.experts_backward(experts::Backward {
        shape,
        offsets: read(backend, &cache.offsets, moe.experts + 1)?,
        token: read(backend, &cache.token, rows)?,
        order: read(backend, &cache.order, rows)?,
        x: read(backend, x, tokens * d)?,
        weights: read(backend, &cache.weights, rows)?,
        w_in: cx.matrix(layer.weights.w_in)?,
        w_out: cx.matrix(layer.weights.w_out)?,
        pre: read(backend, &cache.pre, rows * shape.pre())?,
        dy: read(backend, dy, tokens * d)?,
        row_grad: redundancy,
        dx_rows: write(backend, &mut scratch.rows, rows * d)?,
        dweights: write(backend, &mut scratch.dweights, rows)?,
        dw_in,
        dw_out,
        workspace: whole(backend, workspace)?,
    })?;
    backend.dispatch_backward(permutation::DispatchBackward {
        shape: layer.permutation(tokens),
        width: d,
        inverse: read(backend, &cache.inverse, rows)?,
        drows: read(backend, &scratch.rows, rows * d)?,
        dx: write(backend, dx, tokens * d)?,
    })?;
    let on_scores =
        moe_losses::on_scores(cx, layer, coefficients, domains, cache, scratch, losses, workspace)?;
    route_backward(cx, layer, coefficients, on_scores, x, dx, cache, grads, scratch)
}

fn route_backward<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer<'_, B>,
    coefficients: &Coefficients,
    on_scores: bool,
    x: &B::Buffer<B::Storage>,
    dx: &mut B::Buffer<B::Storage>,
    cache: &Cache<B>,
    grads: &mut B::Buffer<B::Real>,
    scratch: &mut Scratch<B>,
) -> Result<()> {
    let (backend, tokens, d, moe) = (cx.backend, cx.tokens(), cx.config.width, layer.moe);
    let (elements, slots, scores) = (tokens * moe.experts, tokens * moe.top_k, tokens * moe.routed());
    let Scratch { dweights, dprobs, dlogits, draw_logits, .. } = scratch;
    backend.router_backward(router::Backward {
        config: layer.router,
        tokens,
        logits: read(backend, &cache.logits, elements)?,
        bias: cx.optional_weight(layer.weights.bias)?,
        keep: layer.keep(cx, &cache.keep)?,
        probs: read(backend, &cache.probs, scores)?,
        weights: read(backend, &cache.weights, slots)?,
        indices: read(backend, &cache.indices, slots)?,
        lse: read(backend, &cache.lse, tokens)?,
        dweights: read(backend, dweights, slots)?,
        dprobs: on_scores.then(|| read(backend, dprobs, scores)).transpose()?,
        z_coefficient: coefficients.router_z,
        dlogits: write(backend, dlogits, elements)?,
        dbias: layer.weights.bias.as_ref().map(|range| backend.view_mut(grads, range.clone())).transpose()?,
    })?;
    let taps = layer.taps(cx)?;
    let dproduct = match (&cache.raw_logits, draw_logits, smoothing_shape(moe, tokens), taps) {
        (Some(raw), Some(draw), Some(shape), Some(taps)) => {
            let dtaps = layer.weights.taps.as_ref();
            backend.smoothing_backward(smoothing::Backward {
                shape,
                segments: cx.batch.routing(backend)?,
                x: read(backend, raw, elements)?,
                taps,
                dy: read(backend, dlogits, elements)?,
                dx: write(backend, draw, elements)?,
                dtaps: dtaps.map(|range| backend.view_mut(grads, range.clone())).transpose()?,
            })?;
            draw
        }
        _ => dlogits,
    };
    backend.router_logits_backward(router_logits::Backward {
        shape: router_logits::Shape { tokens, width: d, experts: moe.experts },
        x: read(backend, x, tokens * d)?,
        w: cx.weight(layer.weights.router)?,
        dlogits: read(backend, dproduct, elements)?,
        dx: write(backend, dx, tokens * d)?,
        dw: backend.view_mut(grads, layer.weights.router.clone())?,
    })
}

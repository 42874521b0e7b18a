//! Attention: `x -> qkv -> (QK-norm) -> (clip) -> rotate -> attend inside segments -> output product`.

use std::ops::Range;

use emo::Result;
use emo::backend::Backend;
use emo::ops::{activation, attention, linear, rms_norm, rope};

use super::{Context, whole};
use crate::model::activations::{Capacity, Planner, Purpose, read, write};
use crate::model::config::{ModelConfig, QkNorm};
use crate::model::layout::Layer;
use crate::model::past::{Growth, LayerPast};

/// Kept for the backward pass.
pub(crate) struct Cache<B: Backend> {
    /// The product before norm and clip, where there is one of them.
    raw: Option<B::Buffer<B::Storage>>,
    /// Packed, normed, clipped, rotated.
    qkv: B::Buffer<B::Storage>,
    out: B::Buffer<B::Storage>,
    lse: B::Buffer<B::Real>,
    /// `1 / rms` of queries and keys, where they are normed.
    rstd: Option<[B::Buffer<B::Real>; 2]>,
}

impl<B: Backend> Cache<B> {
    pub fn plan(plan: &mut Planner<'_, B>, config: &ModelConfig, tokens: usize, name: &str) -> Result<Self> {
        use Purpose::Activations as Keep;
        let packed = tokens * config.qkv_width();
        let raw = config.qk_norm != QkNorm::None || config.clip_qkv.is_some();
        Ok(Self {
            raw: raw.then(|| plan.stored(Keep, format!("{name}.qkv_raw"), packed)).transpose()?,
            qkv: plan.stored(Keep, format!("{name}.qkv"), packed)?,
            out: plan.stored(Keep, format!("{name}.out"), tokens * config.query_width())?,
            lse: plan.real(Keep, format!("{name}.lse"), tokens * config.heads)?,
            rstd: match qk_norms(config, tokens) {
                None => None,
                Some(norms) => {
                    let [q, k] = norms.map(|(shape, _)| shape.rows * shape.groups);
                    let q = plan.real(Keep, format!("{name}.q_norm.rstd"), q)?;
                    Some([q, plan.real(Keep, format!("{name}.k_norm.rstd"), k)?])
                }
            },
        })
    }
}

/// Packed rows that pass through.
pub(crate) struct Scratch<B: Backend> {
    /// Gradient of the rotated rows; in the forward pass the normed rows before the clip.
    first: B::Buffer<B::Storage>,
    /// Gradient of the raw rows.
    second: Option<B::Buffer<B::Storage>>,
    dout: B::Buffer<B::Storage>,
}

impl<B: Backend> Scratch<B> {
    pub fn plan(plan: &mut Planner<'_, B>, config: &ModelConfig, capacity: &Capacity) -> Result<Self> {
        use Purpose::Scratch as Use;
        let packed = capacity.tokens * config.qkv_width();
        let normed = config.qk_norm != QkNorm::None;
        let first = capacity.backward || (normed && config.clip_qkv.is_some());
        let dout = if capacity.backward { capacity.tokens * config.query_width() } else { 0 };
        Ok(Self {
            first: plan.stored(Use, "attention.dqkv", if first { packed } else { 0 })?,
            second: (normed && capacity.backward)
                .then(|| plan.stored(Use, "attention.dqkv_raw", packed))
                .transpose()?,
            dout: plan.stored(Use, "attention.dout", dout)?,
        })
    }
}

pub(crate) fn workspace<B: Backend>(backend: &B, config: &ModelConfig, capacity: &Capacity) -> usize {
    let tokens = capacity.tokens;
    let norms = qk_norms(config, tokens).into_iter().flatten();
    norms
        .map(|(shape, _)| backend.rms_norm_workspace(shape))
        .chain([
            backend.linear_workspace(qkv_shape(config, tokens)),
            backend.linear_workspace(output_shape(config, tokens)),
            backend.attention_workspace(shape(config, tokens, capacity.longest)),
        ])
        .max()
        .unwrap_or(0)
}

fn qkv_shape(config: &ModelConfig, rows: usize) -> linear::Shape {
    linear::Shape { rows, inputs: config.width, outputs: config.qkv_width() }
}

fn output_shape(config: &ModelConfig, rows: usize) -> linear::Shape {
    linear::Shape { rows, inputs: config.query_width(), outputs: config.width }
}

fn shape(config: &ModelConfig, tokens: usize, longest: usize) -> attention::Shape {
    attention::Shape {
        tokens,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        longest,
    }
}

/// Shape and start inside a packed row of the query norm and the key norm.
fn qk_norms(config: &ModelConfig, rows: usize) -> Option<[(rms_norm::Shape, usize); 2]> {
    let stride = config.qkv_width();
    let [q, k] = match config.qk_norm {
        QkNorm::None => return None,
        QkNorm::FullWidth => [(1, config.query_width()), (1, config.key_width())],
        QkNorm::PerHead => [(config.heads, config.head_dim), (config.kv_heads, config.head_dim)],
    };
    let shape = |(groups, width)| rms_norm::Shape { rows, groups, width, stride };
    Some([(shape(q), 0), (shape(k), config.query_width())])
}

fn qk_weights(layer: &Layer) -> [&Option<Range<usize>>; 2] {
    [&layer.q_norm, &layer.k_norm]
}

/// `y = O(attend(x))`; with a `past`, attention reaches back into it.
pub(crate) fn forward<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer,
    longest: usize,
    tables: (&B::Buffer<B::Real>, &B::Buffer<B::Real>),
    x: &B::Buffer<B::Storage>,
    y: &mut B::Buffer<B::Storage>,
    cache: &mut Cache<B>,
    scratch: &mut Scratch<B>,
    workspace: &mut B::Buffer<B::Real>,
    past: Option<(&Growth<B>, &mut LayerPast<B>)>,
) -> Result<()> {
    let (backend, config, tokens) = (cx.backend, cx.config, cx.tokens());
    let packed = tokens * config.qkv_width();
    let Cache { raw, qkv, out, lse, rstd } = cache;
    match raw {
        None => cx.linear(qkv_shape(config, tokens), x, &layer.qkv, &None, qkv, workspace)?,
        Some(raw) => {
            cx.linear(qkv_shape(config, tokens), x, &layer.qkv, &None, raw, workspace)?;
            match (rstd, config.clip_qkv) {
                (Some(rstd), None) => qk_norm_forward(cx, layer, raw, qkv, rstd)?,
                (Some(rstd), Some(limit)) => {
                    qk_norm_forward(cx, layer, raw, &mut scratch.first, rstd)?;
                    clip(cx, limit, &scratch.first, qkv)?;
                }
                (None, Some(limit)) => clip(cx, limit, raw, qkv)?,
                (None, None) => backend.copy(read(backend, raw, packed)?, write(backend, qkv, packed)?)?,
            }
        }
    }
    rotate(cx, tables, qkv, false)?;
    let (shape, segments) = (shape(config, tokens, longest), cx.batch.attention(backend)?);
    let rows = write(backend, out, tokens * config.query_width())?;
    match past {
        None => backend.attention_forward(attention::Forward {
            shape,
            segments,
            qkv: read(backend, qkv, packed)?,
            out: rows,
            lse: write(backend, lse, tokens * config.heads)?,
            workspace: whole(backend, workspace)?,
        })?,
        Some((growth, past)) => backend.attention_cached(attention::Cached {
            shape,
            places: growth.places,
            segments,
            slots: growth.slots(backend)?,
            past: growth.past(backend)?,
            qkv: read(backend, qkv, packed)?,
            cache: write(backend, &mut past.keys, growth.places * longest * shape.cache_row())?,
            out: rows,
            workspace: whole(backend, workspace)?,
        })?,
    }
    cx.linear(output_shape(config, tokens), out, &layer.output, &None, y, workspace)
}

/// Gradient of [`forward`]: `dx` overwritten, weight gradients accumulated.
pub(crate) fn backward<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer,
    longest: usize,
    tables: (&B::Buffer<B::Real>, &B::Buffer<B::Real>),
    x: &B::Buffer<B::Storage>,
    dy: &B::Buffer<B::Storage>,
    dx: &mut B::Buffer<B::Storage>,
    cache: &mut Cache<B>,
    grads: &mut B::Buffer<B::Real>,
    scratch: &mut Scratch<B>,
    workspace: &mut B::Buffer<B::Real>,
) -> Result<()> {
    let (backend, config, tokens) = (cx.backend, cx.config, cx.tokens());
    let packed = tokens * config.qkv_width();
    let Scratch { first, second, dout } = scratch;
    let output = output_shape(config, tokens);
    cx.linear_backward(output, &cache.out, dy, &layer.output, &None, dout, grads, workspace)?;
    backend.attention_backward(attention::Backward {
        shape: shape(config, tokens, longest),
        segments: cx.batch.attention(backend)?,
        qkv: read(backend, &cache.qkv, packed)?,
        out: read(backend, &cache.out, tokens * config.query_width())?,
        lse: read(backend, &cache.lse, tokens * config.heads)?,
        dout: read(backend, dout, tokens * config.query_width())?,
        dqkv: write(backend, first, packed)?,
        workspace: whole(backend, workspace)?,
    })?;
    rotate(cx, tables, first, true)?;
    let dqkv = match (&cache.raw, &mut cache.rstd, second) {
        (Some(raw), Some(rstd), Some(second)) => {
            if let Some(limit) = config.clip_qkv {
                // The clip's input is the normed row, recomputed.
                qk_norm_forward(cx, layer, raw, second, rstd)?;
                clip_backward(cx, limit, second, first)?;
            }
            qk_norm_backward(cx, layer, raw, rstd, first, second, grads, workspace)?;
            &*second
        }
        (Some(raw), None, _) => {
            if let Some(limit) = config.clip_qkv {
                clip_backward(cx, limit, raw, first)?;
            }
            &*first
        }
        _ => &*first,
    };
    cx.linear_backward(qkv_shape(config, tokens), x, dqkv, &layer.qkv, &None, dx, grads, workspace)
}

fn rotate<B: Backend>(
    cx: &Context<'_, B>,
    (cos, sin): (&B::Buffer<B::Real>, &B::Buffer<B::Real>),
    qkv: &mut B::Buffer<B::Storage>,
    inverse: bool,
) -> Result<()> {
    use emo::backend::Len;
    let (config, rows) = (cx.config, cx.tokens());
    let stride = config.qkv_width();
    let heads = config.heads + config.kv_heads;
    let table = cos.len();
    let positions = 2 * table / config.head_dim;
    cx.backend.rope(rope::Apply {
        shape: rope::Shape { rows, heads, head_dim: config.head_dim, stride, positions },
        position: read(cx.backend, &cx.batch.positions, rows)?,
        cos: read(cx.backend, cos, table)?,
        sin: read(cx.backend, sin, table)?,
        inverse,
        x: write(cx.backend, qkv, rows * stride)?,
    })
}

fn clip<B: Backend>(
    cx: &Context<'_, B>,
    limit: f64,
    x: &B::Buffer<B::Storage>,
    y: &mut B::Buffer<B::Storage>,
) -> Result<()> {
    let packed = cx.tokens() * cx.config.qkv_width();
    cx.backend.clamp_forward(activation::Clamp {
        limit,
        x: read(cx.backend, x, packed)?,
        y: write(cx.backend, y, packed)?,
    })
}

fn clip_backward<B: Backend>(
    cx: &Context<'_, B>,
    limit: f64,
    x: &B::Buffer<B::Storage>,
    dy: &mut B::Buffer<B::Storage>,
) -> Result<()> {
    let packed = cx.tokens() * cx.config.qkv_width();
    cx.backend.clamp_backward(activation::ClampBackward {
        limit,
        x: read(cx.backend, x, packed)?,
        dy: write(cx.backend, dy, packed)?,
    })
}

/// Norms the query and key parts of the rows; the value part is copied.
fn qk_norm_forward<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer,
    x: &B::Buffer<B::Storage>,
    y: &mut B::Buffer<B::Storage>,
    rstd: &mut [B::Buffer<B::Real>; 2],
) -> Result<()> {
    let backend = cx.backend;
    let packed = cx.tokens() * cx.config.qkv_width();
    backend.copy(read(backend, x, packed)?, write(backend, y, packed)?)?;
    let parts = qk_norms(cx.config, cx.tokens()).into_iter().flatten();
    for (((shape, start), rstd), weight) in parts.zip(rstd).zip(qk_weights(layer)) {
        let Some(weight) = weight else { continue };
        backend.rms_norm_forward(rms_norm::Forward {
            shape,
            eps: cx.config.norm_eps,
            x: backend.view(x, start..packed)?,
            weight: cx.weight(weight)?,
            y: backend.view_mut(y, start..packed)?,
            rstd: write(backend, rstd, shape.rows * shape.groups)?,
        })?;
    }
    Ok(())
}

fn qk_norm_backward<B: Backend>(
    cx: &Context<'_, B>,
    layer: &Layer,
    x: &B::Buffer<B::Storage>,
    rstd: &[B::Buffer<B::Real>; 2],
    dy: &B::Buffer<B::Storage>,
    dx: &mut B::Buffer<B::Storage>,
    grads: &mut B::Buffer<B::Real>,
    workspace: &mut B::Buffer<B::Real>,
) -> Result<()> {
    let backend = cx.backend;
    let packed = cx.tokens() * cx.config.qkv_width();
    backend.copy(read(backend, dy, packed)?, write(backend, dx, packed)?)?;
    let parts = qk_norms(cx.config, cx.tokens()).into_iter().flatten();
    for (((shape, start), rstd), weight) in parts.zip(rstd).zip(qk_weights(layer)) {
        let Some(weight) = weight else { continue };
        backend.rms_norm_backward(rms_norm::Backward {
            shape,
            x: backend.view(x, start..packed)?,
            weight: cx.weight(weight)?,
            rstd: read(backend, rstd, shape.rows * shape.groups)?,
            dy: backend.view(dy, start..packed)?,
            dx: backend.view_mut(dx, start..packed)?,
            accumulate: false,
            dweight: backend.view_mut(grads, weight.clone())?,
            workspace: whole(backend, workspace)?,
        })?;
    }
    Ok(())
}

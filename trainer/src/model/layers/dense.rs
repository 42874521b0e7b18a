//! The dense gated MLP: `y = (act(x W_gate^T) * (x W_up^T)) W_out^T`.

use std::ops::Range;

use emo::Result;
use emo::backend::Backend;
use emo::ops::{activation, linear};

use super::Context;
use crate::model::activations::{Capacity, Planner, Purpose, read, write};
use crate::model::config::{Dense, FeedForward, ModelConfig};

/// Parameters of one dense layer.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub w_in: &'a Range<usize>,
    pub bias_in: &'a Option<Range<usize>>,
    pub w_out: &'a Range<usize>,
    pub bias_out: &'a Option<Range<usize>>,
}

/// Kept for the backward pass: the pre-activations.
pub(crate) struct Cache<B: Backend> {
    pre: B::Buffer<B::Storage>,
}

impl<B: Backend> Cache<B> {
    pub fn plan(plan: &mut Planner<'_, B>, dense: &Dense, tokens: usize, name: &str) -> Result<Self> {
        let elements = tokens * 2 * dense.hidden;
        Ok(Self { pre: plan.stored(Purpose::Activations, format!("{name}.pre"), elements)? })
    }
}

/// Hidden rows and their gradients.
pub(crate) struct Scratch<B: Backend> {
    hidden: B::Buffer<B::Storage>,
    dhidden: B::Buffer<B::Storage>,
    dpre: B::Buffer<B::Storage>,
}

impl<B: Backend> Scratch<B> {
    pub fn plan(
        plan: &mut Planner<'_, B>,
        config: &ModelConfig,
        capacity: &Capacity,
    ) -> Result<Option<Self>> {
        let Some(widest) = dense_layers(config).map(|dense| dense.hidden).max() else { return Ok(None) };
        let rows = capacity.tokens * widest;
        let backward = if capacity.backward { rows } else { 0 };
        Ok(Some(Self {
            hidden: plan.stored(Purpose::Scratch, "dense.hidden", rows)?,
            dhidden: plan.stored(Purpose::Scratch, "dense.dhidden", backward)?,
            dpre: plan.stored(Purpose::Scratch, "dense.dpre", 2 * backward)?,
        }))
    }
}

fn dense_layers(config: &ModelConfig) -> impl Iterator<Item = &Dense> {
    config.feed_forward.iter().filter_map(|kind| match kind {
        FeedForward::Dense(dense) => Some(dense),
        FeedForward::Moe(_) => None,
    })
}

pub(crate) fn workspace<B: Backend>(backend: &B, config: &ModelConfig, capacity: &Capacity) -> usize {
    dense_layers(config)
        .flat_map(|dense| {
            let (input, output) = shapes(dense, config.width, capacity.tokens);
            [backend.linear_workspace(input), backend.linear_workspace(output)]
        })
        .max()
        .unwrap_or(0)
}

fn shapes(dense: &Dense, width: usize, rows: usize) -> (linear::Shape, linear::Shape) {
    (
        linear::Shape { rows, inputs: width, outputs: 2 * dense.hidden },
        linear::Shape { rows, inputs: dense.hidden, outputs: width },
    )
}

fn activate<B: Backend>(
    cx: &Context<'_, B>,
    dense: &Dense,
    pre: &B::Buffer<B::Storage>,
    hidden: &mut B::Buffer<B::Storage>,
) -> Result<()> {
    let shape = activation::Shape { rows: cx.tokens(), width: dense.hidden, gated: true };
    cx.backend.activation_forward(activation::Forward {
        shape,
        activation: dense.activation,
        pre: read(cx.backend, pre, shape.rows * shape.pre())?,
        out: write(cx.backend, hidden, shape.rows * shape.width)?,
    })
}

/// The MLP.
pub(crate) fn forward<B: Backend>(
    cx: &Context<'_, B>,
    dense: &Dense,
    weights: Weights<'_>,
    x: &B::Buffer<B::Storage>,
    y: &mut B::Buffer<B::Storage>,
    cache: &mut Cache<B>,
    scratch: &mut Scratch<B>,
    workspace: &mut B::Buffer<B::Real>,
) -> Result<()> {
    let (input, output) = shapes(dense, cx.config.width, cx.tokens());
    cx.linear(input, x, weights.w_in, weights.bias_in, &mut cache.pre, workspace)?;
    activate(cx, dense, &cache.pre, &mut scratch.hidden)?;
    cx.linear(output, &scratch.hidden, weights.w_out, weights.bias_out, y, workspace)
}

/// Gradient of [`forward`]: recomputes the hidden rows; `dx` overwritten, weight gradients accumulated.
pub(crate) fn backward<B: Backend>(
    cx: &Context<'_, B>,
    dense: &Dense,
    weights: Weights<'_>,
    x: &B::Buffer<B::Storage>,
    dy: &B::Buffer<B::Storage>,
    dx: &mut B::Buffer<B::Storage>,
    cache: &Cache<B>,
    grads: &mut B::Buffer<B::Real>,
    scratch: &mut Scratch<B>,
    workspace: &mut B::Buffer<B::Real>,
) -> Result<()> {
    let (input, output) = shapes(dense, cx.config.width, cx.tokens());
    let Scratch { hidden, dhidden, dpre } = scratch;
    activate(cx, dense, &cache.pre, hidden)?;
    cx.linear_backward(output, hidden, dy, weights.w_out, weights.bias_out, dhidden, grads, workspace)?;
    let shape = activation::Shape { rows: cx.tokens(), width: dense.hidden, gated: true };
    cx.backend.activation_backward(activation::Backward {
        shape,
        activation: dense.activation,
        pre: read(cx.backend, &cache.pre, shape.rows * shape.pre())?,
        dout: read(cx.backend, dhidden, shape.rows * shape.width)?,
        dpre: write(cx.backend, dpre, shape.rows * shape.pre())?,
    })?;
    cx.linear_backward(input, x, dpre, weights.w_in, weights.bias_in, dx, grads, workspace)
}

//! The head and the cross-entropy, over chunks of rows: the logits of a batch are never all in memory.

use std::ops::Range;

use emo::Result;
use emo::backend::Backend;
use emo::ops::{adamw, cross_entropy, linear};

use super::{Context, whole};
use crate::model::activations::{Capacity, Planner, Purpose, read, write};
use crate::model::config::ModelConfig;

/// Logits in memory at a time, about.
const CHUNK_ELEMENTS: usize = 1 << 22;

/// One chunk of logits, and the losses of every row.
pub(crate) struct Scratch<B: Backend> {
    pub logits: B::Buffer<B::Storage>,
    /// Cross-entropy of each token.
    pub loss: B::Buffer<B::Real>,
    lse: B::Buffer<B::Real>,
    chunk: usize,
}

fn chunk(config: &ModelConfig, tokens: usize) -> usize {
    (CHUNK_ELEMENTS / config.vocabulary).clamp(64, 4096).min(tokens)
}

fn shape(config: &ModelConfig, rows: usize) -> linear::Shape {
    linear::Shape { rows, inputs: config.width, outputs: config.vocabulary }
}

impl<B: Backend> Scratch<B> {
    pub fn plan(plan: &mut Planner<'_, B>, config: &ModelConfig, capacity: &Capacity) -> Result<Self> {
        let chunk = chunk(config, capacity.tokens);
        Ok(Self {
            logits: plan.stored(Purpose::Scratch, "head.logits", chunk * config.vocabulary)?,
            loss: plan.real(Purpose::Scratch, "head.loss", capacity.tokens)?,
            lse: plan.real(Purpose::Scratch, "head.lse", capacity.tokens)?,
            chunk,
        })
    }

    /// Rows of a chunk.
    pub fn chunk(&self) -> usize {
        self.chunk
    }
}

pub(crate) fn workspace<B: Backend>(backend: &B, config: &ModelConfig, capacity: &Capacity) -> usize {
    backend.linear_workspace(shape(config, chunk(config, capacity.tokens)))
}

/// Logits of the rows `rows` of `x` into the chunk.
pub(crate) fn logits<B: Backend>(
    cx: &Context<'_, B>,
    head: &Range<usize>,
    rows: Range<usize>,
    x: &B::Buffer<B::Storage>,
    scratch: &mut Scratch<B>,
    workspace: &mut B::Buffer<B::Real>,
) -> Result<()> {
    let (backend, d) = (cx.backend, cx.config.width);
    backend.linear_forward(linear::Forward {
        shape: shape(cx.config, rows.len()),
        x: backend.view(x, rows.start * d..rows.end * d)?,
        w: cx.matrix(head)?,
        bias: None,
        y: write(backend, &mut scratch.logits, rows.len() * cx.config.vocabulary)?,
        workspace: whole(backend, workspace)?,
    })
}

/// What the head is asked for.
pub(crate) struct Task<'a, B: Backend> {
    pub head: &'a Range<usize>,
    /// 1 / loss tokens.
    pub scale: f64,
    pub z_weight: f64,
    /// Normed rows `[tokens, d]`.
    pub x: &'a B::Buffer<B::Storage>,
    /// Gradient of the rows, overwritten, and all parameter gradients; none = values only.
    pub gradients: Option<(&'a mut B::Buffer<B::Storage>, &'a mut B::Buffer<B::Real>)>,
}

/// Cross-entropy of every row, and with `gradients` the backward pass of the head. `values[slot]` gets `sum lse^2` over
/// the labelled rows.
pub(crate) fn cross_entropy<B: Backend>(
    cx: &Context<'_, B>,
    mut task: Task<'_, B>,
    scratch: &mut Scratch<B>,
    (values, slot): (&mut B::Buffer<f64>, usize),
    workspace: &mut B::Buffer<B::Real>,
) -> Result<()> {
    let (backend, config, tokens) = (cx.backend, cx.config, cx.tokens());
    let (d, vocabulary) = (config.width, config.vocabulary);
    for start in (0..tokens).step_by(scratch.chunk) {
        let rows = start..tokens.min(start + scratch.chunk);
        logits(cx, task.head, rows.clone(), task.x, scratch, workspace)?;
        let elements = rows.len() * vocabulary;
        backend.cross_entropy(cross_entropy::ForwardBackward {
            rows: rows.len(),
            vocabulary,
            targets: backend.view(&cx.batch.targets, rows.clone())?,
            scale: task.scale,
            z_weight: task.z_weight,
            logits: write(backend, &mut scratch.logits, elements)?,
            backward: task.gradients.is_some(),
            loss: backend.view_mut(&mut scratch.loss, rows.clone())?,
            lse: backend.view_mut(&mut scratch.lse, rows.clone())?,
        })?;
        let Some((dx, grads)) = &mut task.gradients else { continue };
        let elements_x = rows.start * d..rows.end * d;
        backend.linear_dgrad(linear::Dgrad {
            shape: shape(config, rows.len()),
            dy: read(backend, &scratch.logits, elements)?,
            w: cx.matrix(task.head)?,
            dx: backend.view_mut(dx, elements_x.clone())?,
            accumulate: false,
            workspace: whole(backend, workspace)?,
        })?;
        backend.linear_wgrad(linear::Wgrad {
            shape: shape(config, rows.len()),
            x: backend.view(task.x, elements_x)?,
            dy: read(backend, &scratch.logits, elements)?,
            dw: backend.view_mut(grads, task.head.clone())?,
            dbias: None,
            workspace: whole(backend, workspace)?,
        })?;
    }
    backend.sum_of_squares(adamw::SumOfSquares {
        x: read(backend, &scratch.lse, tokens)?,
        out: backend.view_mut(values, slot..slot + 1)?,
    })
}

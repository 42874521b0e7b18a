//! RMSNorm over the model width.

use std::ops::Range;

use emo::Result;
use emo::backend::Backend;
use emo::ops::rms_norm::{Backward, Forward, Shape};

use super::{Context, whole};
use crate::model::activations::{read, write};

/// `y = norm(x)`.
pub(crate) fn forward<B: Backend>(
    cx: &Context<'_, B>,
    weight: &Range<usize>,
    x: &B::Buffer<B::Storage>,
    y: &mut B::Buffer<B::Storage>,
    rstd: &mut B::Buffer<B::Real>,
) -> Result<()> {
    let shape = Shape::rows(cx.tokens(), cx.config.width);
    let len = shape.rows * shape.width;
    cx.backend.rms_norm_forward(Forward {
        shape,
        eps: cx.config.norm_eps,
        x: read(cx.backend, x, len)?,
        weight: cx.weight(weight)?,
        y: write(cx.backend, y, len)?,
        rstd: write(cx.backend, rstd, shape.rows)?,
    })
}

/// Gradient of [`forward`]; `dx` overwritten, or added to where `accumulate`.
pub(crate) fn backward<B: Backend>(
    cx: &Context<'_, B>,
    weight: &Range<usize>,
    x: &B::Buffer<B::Storage>,
    rstd: &B::Buffer<B::Real>,
    dy: &B::Buffer<B::Storage>,
    dx: &mut B::Buffer<B::Storage>,
    accumulate: bool,
    grads: &mut B::Buffer<B::Real>,
    workspace: &mut B::Buffer<B::Real>,
) -> Result<()> {
    let shape = Shape::rows(cx.tokens(), cx.config.width);
    let len = shape.rows * shape.width;
    cx.backend.rms_norm_backward(Backward {
        shape,
        x: read(cx.backend, x, len)?,
        weight: cx.weight(weight)?,
        rstd: read(cx.backend, rstd, shape.rows)?,
        dy: read(cx.backend, dy, len)?,
        dx: write(cx.backend, dx, len)?,
        accumulate,
        dweight: cx.backend.view_mut(grads, weight.clone())?,
        workspace: whole(cx.backend, workspace)?,
    })
}

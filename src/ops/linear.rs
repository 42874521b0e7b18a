//! Dense linear layers: `y = x W^T + b`, weights stored `[out, in]`.

use super::check::{at_least, length, optional, positive};
use crate::Result;
use crate::backend::{Backend, Stored, StoredMut, View, ViewMut};

/// `x [rows, inputs]`, `w [outputs, inputs]`, `y [rows, outputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows (tokens).
    pub rows: usize,
    /// Input width.
    pub inputs: usize,
    /// Output width.
    pub outputs: usize,
}

/// `y = x w^T (+ bias)`.
pub struct Forward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Input.
    pub x: Stored<'a, B>,
    /// Weight.
    pub w: Stored<'a, B>,
    /// Optional `[outputs]`.
    pub bias: Option<View<'a, B>>,
    /// Output.
    pub y: StoredMut<'a, B>,
    /// At least [`Backend::linear_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Forward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "linear_forward";
        let Shape { rows, inputs, outputs } = self.shape;
        positive(OP, "inputs", inputs)?;
        positive(OP, "outputs", outputs)?;
        length(OP, "x", &self.x, &[rows, inputs])?;
        length(OP, "w", &self.w, &[outputs, inputs])?;
        optional(OP, "bias", &self.bias, &[outputs])?;
        length(OP, "y", &self.y, &[rows, outputs])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

/// `dx = dy w`, or `dx += dy w` where `accumulate` (an input that feeds several layers).
pub struct Dgrad<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Gradient of the output.
    pub dy: Stored<'a, B>,
    /// Weight.
    pub w: Stored<'a, B>,
    /// Gradient of the input.
    pub dx: StoredMut<'a, B>,
    /// Add instead of overwrite.
    pub accumulate: bool,
    /// At least [`Backend::linear_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Dgrad<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "linear_dgrad";
        let Shape { rows, inputs, outputs } = self.shape;
        positive(OP, "inputs", inputs)?;
        positive(OP, "outputs", outputs)?;
        length(OP, "dy", &self.dy, &[rows, outputs])?;
        length(OP, "w", &self.w, &[outputs, inputs])?;
        length(OP, "dx", &self.dx, &[rows, inputs])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

/// `dw += dy^T x`, `dbias += sum_rows dy`.
pub struct Wgrad<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// The forward input.
    pub x: Stored<'a, B>,
    /// Gradient of the output.
    pub dy: Stored<'a, B>,
    /// Gradient of the weight, accumulated.
    pub dw: ViewMut<'a, B>,
    /// Gradient of the bias, accumulated.
    pub dbias: Option<ViewMut<'a, B>>,
    /// At least [`Backend::linear_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Wgrad<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "linear_wgrad";
        let Shape { rows, inputs, outputs } = self.shape;
        positive(OP, "inputs", inputs)?;
        positive(OP, "outputs", outputs)?;
        length(OP, "x", &self.x, &[rows, inputs])?;
        length(OP, "dy", &self.dy, &[rows, outputs])?;
        length(OP, "dw", &self.dw, &[outputs, inputs])?;
        optional(OP, "dbias", &self.dbias, &[outputs])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

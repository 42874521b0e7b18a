//! Grouped GEMM: one matrix product per expert over that expert's rows.

use super::check::{at_least, length, positive, require};
use crate::Result;
use crate::backend::{Backend, Indices, Len, Stored, StoredMut, ViewMut};

/// Group `e` owns rows `offsets[e]..offsets[e + 1]` of `rows`; its weight is `w[e]`, `[outputs, inputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Groups (experts).
    pub groups: usize,
    /// Rows of all groups together.
    pub rows: usize,
    /// Width of an input row.
    pub inputs: usize,
    /// Width of an output row.
    pub outputs: usize,
}

fn operand<B: Backend>(
    op: &'static str,
    arg: &'static str,
    view: &Stored<'_, B>,
    gather: &Option<Indices<'_, B>>,
    rows: usize,
    width: usize,
) -> Result<()> {
    match gather {
        None => length(op, arg, view, &[rows, width]),
        Some(index) => {
            length(op, "gather", index, &[rows])?;
            require(
                view.len().is_multiple_of(width),
                op,
                arg,
                format_args!("whole rows of {width} elements"),
                view.len(),
            )
        }
    }
}

/// `y_r = x_{gather_r} w[e]^T` for the rows `r` of group `e`.
pub struct Forward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// `[groups + 1]`, ascending, from 0 to `rows`.
    pub offsets: Indices<'a, B>,
    /// `[rows, inputs]`, or any number of rows that `gather` picks from.
    pub x: Stored<'a, B>,
    /// Row of `x` for each row, `[rows]`.
    pub gather: Option<Indices<'a, B>>,
    /// `[groups, outputs, inputs]`.
    pub w: Stored<'a, B>,
    /// Output `[rows, outputs]`.
    pub y: StoredMut<'a, B>,
    /// At least [`Backend::grouped_gemm_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Forward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "grouped_gemm_forward";
        let Shape { groups, rows, inputs, outputs } = self.shape;
        positive(OP, "groups", groups)?;
        positive(OP, "inputs", inputs)?;
        positive(OP, "outputs", outputs)?;
        length(OP, "offsets", &self.offsets, &[groups.saturating_add(1)])?;
        operand::<B>(OP, "x", &self.x, &self.gather, rows, inputs)?;
        length(OP, "w", &self.w, &[groups, outputs, inputs])?;
        length(OP, "y", &self.y, &[rows, outputs])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

/// `dx_r = dy_{gather_r} w[e]`, overwritten.
pub struct Dgrad<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// `[groups + 1]`.
    pub offsets: Indices<'a, B>,
    /// `[rows, outputs]`, or any number of rows that `gather` picks from.
    pub dy: Stored<'a, B>,
    /// Row of `dy` for each row, `[rows]`.
    pub gather: Option<Indices<'a, B>>,
    /// `[groups, outputs, inputs]`.
    pub w: Stored<'a, B>,
    /// Output `[rows, inputs]`.
    pub dx: StoredMut<'a, B>,
    /// At least [`Backend::grouped_gemm_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Dgrad<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "grouped_gemm_dgrad";
        let Shape { groups, rows, inputs, outputs } = self.shape;
        positive(OP, "groups", groups)?;
        positive(OP, "inputs", inputs)?;
        positive(OP, "outputs", outputs)?;
        length(OP, "offsets", &self.offsets, &[groups.saturating_add(1)])?;
        operand::<B>(OP, "dy", &self.dy, &self.gather, rows, outputs)?;
        length(OP, "w", &self.w, &[groups, outputs, inputs])?;
        length(OP, "dx", &self.dx, &[rows, inputs])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

/// `dw[e] += sum_{r in e} dy_{dy_gather_r}^T x_{x_gather_r}`, rows in ascending order; empty groups add nothing.
pub struct Wgrad<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// `[groups + 1]`.
    pub offsets: Indices<'a, B>,
    /// `[rows, inputs]`, or what `x_gather` picks from.
    pub x: Stored<'a, B>,
    /// Row of `x` for each row.
    pub x_gather: Option<Indices<'a, B>>,
    /// `[rows, outputs]`, or what `dy_gather` picks from.
    pub dy: Stored<'a, B>,
    /// Row of `dy` for each row.
    pub dy_gather: Option<Indices<'a, B>>,
    /// `[groups, outputs, inputs]`, accumulated.
    pub dw: ViewMut<'a, B>,
    /// At least [`Backend::grouped_gemm_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Wgrad<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "grouped_gemm_wgrad";
        let Shape { groups, rows, inputs, outputs } = self.shape;
        positive(OP, "groups", groups)?;
        positive(OP, "inputs", inputs)?;
        positive(OP, "outputs", outputs)?;
        length(OP, "offsets", &self.offsets, &[groups.saturating_add(1)])?;
        operand::<B>(OP, "x", &self.x, &self.x_gather, rows, inputs)?;
        operand::<B>(OP, "dy", &self.dy, &self.dy_gather, rows, outputs)?;
        length(OP, "dw", &self.dw, &[groups, outputs, inputs])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

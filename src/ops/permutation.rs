//! Permutation: from top-k indices to rows grouped by expert, and back.

use super::check::{length, positive, require};
use crate::Result;
use crate::backend::{Backend, Indices, IndicesMut, Stored, StoredMut, View, ViewMut};

/// `tokens` tokens with `top_k` slots each, over `experts` experts: `tokens * top_k` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Tokens.
    pub tokens: usize,
    /// Slots of a token.
    pub top_k: usize,
    /// Experts.
    pub experts: usize,
}

/// A stable counting sort of the slots by expert. Slot `s = t * top_k + j`.
pub struct Plan<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Expert of each slot `[tokens * top_k]`, below `experts`.
    pub indices: Indices<'a, B>,
    /// Output: slot of each row.
    pub order: IndicesMut<'a, B>,
    /// Output: token of each row, `order / top_k`.
    pub token: IndicesMut<'a, B>,
    /// Output `[experts + 1]`: rows `offsets[e]..offsets[e + 1]` belong to expert `e`.
    pub offsets: IndicesMut<'a, B>,
    /// Output: row of each slot.
    pub inverse: IndicesMut<'a, B>,
}

impl<B: Backend> Plan<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "plan";
        let Shape { tokens, top_k, experts } = self.shape;
        positive(OP, "top_k", top_k)?;
        positive(OP, "experts", experts)?;
        require(experts < u32::MAX as usize, OP, "experts", "below 2^32 - 1", experts)?;
        let rows = super::check::product(OP, "tokens", &[tokens, top_k])?;
        require(rows <= u32::MAX as usize, OP, "tokens", "at most 2^32 - 1 rows", rows)?;
        length(OP, "indices", &self.indices, &[rows])?;
        length(OP, "order", &self.order, &[rows])?;
        length(OP, "token", &self.token, &[rows])?;
        length(OP, "inverse", &self.inverse, &[rows])?;
        length(OP, "offsets", &self.offsets, &[experts.saturating_add(1)])
    }
}

/// `rows_r = x_{token_r}`.
pub struct Dispatch<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Row width.
    pub width: usize,
    /// The plan's `token`.
    pub token: Indices<'a, B>,
    /// `[tokens, width]`.
    pub x: Stored<'a, B>,
    /// Output `[tokens * top_k, width]`.
    pub rows: StoredMut<'a, B>,
}

impl<B: Backend> Dispatch<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "dispatch_forward";
        let Shape { tokens, top_k, .. } = self.shape;
        positive(OP, "top_k", top_k)?;
        positive(OP, "width", self.width)?;
        length(OP, "token", &self.token, &[tokens, top_k])?;
        length(OP, "x", &self.x, &[tokens, self.width])?;
        length(OP, "rows", &self.rows, &[tokens, top_k, self.width])
    }
}

/// `dx_t = sum_j drows_{inverse[t, j]}`, slots in ascending order.
pub struct DispatchBackward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Row width.
    pub width: usize,
    /// The plan's `inverse`.
    pub inverse: Indices<'a, B>,
    /// `[tokens * top_k, width]`.
    pub drows: Stored<'a, B>,
    /// Output `[tokens, width]`.
    pub dx: StoredMut<'a, B>,
}

impl<B: Backend> DispatchBackward<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "dispatch_backward";
        let Shape { tokens, top_k, .. } = self.shape;
        positive(OP, "top_k", top_k)?;
        positive(OP, "width", self.width)?;
        length(OP, "inverse", &self.inverse, &[tokens, top_k])?;
        length(OP, "drows", &self.drows, &[tokens, top_k, self.width])?;
        length(OP, "dx", &self.dx, &[tokens, self.width])
    }
}

/// `y_t = sum_j weights_{t,j} rows_{inverse[t, j]}` (or `y_t +=` where `accumulate`: the residual stream), slots in
/// ascending order, no atomics.
pub struct Combine<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Row width.
    pub width: usize,
    /// The plan's `inverse`.
    pub inverse: Indices<'a, B>,
    /// `[tokens, top_k]`.
    pub weights: View<'a, B>,
    /// Expert outputs `[tokens * top_k, width]`.
    pub rows: Stored<'a, B>,
    /// Output `[tokens, width]`.
    pub y: StoredMut<'a, B>,
    /// Add instead of overwrite.
    pub accumulate: bool,
}

impl<B: Backend> Combine<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "combine_forward";
        let Shape { tokens, top_k, .. } = self.shape;
        positive(OP, "top_k", top_k)?;
        positive(OP, "width", self.width)?;
        length(OP, "inverse", &self.inverse, &[tokens, top_k])?;
        length(OP, "weights", &self.weights, &[tokens, top_k])?;
        length(OP, "rows", &self.rows, &[tokens, top_k, self.width])?;
        length(OP, "y", &self.y, &[tokens, self.width])
    }
}

/// `drows_{inverse[t, j]} = weights_{t,j} dy_t`, `dweights_{t,j} = dy_t . rows_{inverse[t, j]}`.
pub struct CombineBackward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Row width.
    pub width: usize,
    /// The plan's `inverse`.
    pub inverse: Indices<'a, B>,
    /// `[tokens, top_k]`.
    pub weights: View<'a, B>,
    /// The forward rows.
    pub rows: Stored<'a, B>,
    /// Gradient of the output.
    pub dy: Stored<'a, B>,
    /// Gradient of the rows.
    pub drows: StoredMut<'a, B>,
    /// Gradient of the weights.
    pub dweights: ViewMut<'a, B>,
}

impl<B: Backend> CombineBackward<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "combine_backward";
        let Shape { tokens, top_k, .. } = self.shape;
        positive(OP, "top_k", top_k)?;
        positive(OP, "width", self.width)?;
        length(OP, "inverse", &self.inverse, &[tokens, top_k])?;
        length(OP, "weights", &self.weights, &[tokens, top_k])?;
        length(OP, "rows", &self.rows, &[tokens, top_k, self.width])?;
        length(OP, "dy", &self.dy, &[tokens, self.width])?;
        length(OP, "drows", &self.drows, &[tokens, top_k, self.width])?;
        length(OP, "dweights", &self.dweights, &[tokens, top_k])
    }
}

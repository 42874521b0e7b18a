//! The experts' MLPs over a permutation plan, fused: gather in the load, activation between the two products.

use super::activation::Activation;
use super::check::{at_least, length, optional, positive};
use crate::Result;
use crate::backend::{Backend, Indices, Stored, StoredMut, View, ViewMut};

/// Sizes of an expert layer: `rows = tokens * top_k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Tokens.
    pub tokens: usize,
    /// Slots of a token.
    pub top_k: usize,
    /// Experts.
    pub experts: usize,
    /// Model width `d`.
    pub width: usize,
    /// Expert width `h`.
    pub hidden: usize,
    /// Whether an expert has a gate: its input projection then has `2h` rows, gate first.
    pub gated: bool,
    /// The non-linearity.
    pub activation: Activation,
}

impl Shape {
    /// `tokens * top_k`.
    pub fn rows(&self) -> usize {
        self.tokens.saturating_mul(self.top_k)
    }

    fn check(&self, op: &'static str) -> Result<()> {
        positive(op, "top_k", self.top_k)?;
        positive(op, "experts", self.experts)?;
        positive(op, "width", self.width)?;
        positive(op, "hidden", self.hidden)
    }

    /// Width of a pre-activation row: `2h` gated, else `h`.
    pub fn pre(&self) -> usize {
        if self.gated { self.hidden.saturating_mul(2) } else { self.hidden }
    }
}

/// `pre_r = x_{token_r} w_in[e]^T`, `rows_r = act(pre_r) w_out[e]^T` for the rows `r` of expert `e`.
/// Only `pre` is kept for the backward pass.
pub struct Forward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// The plan's `offsets`, `[experts + 1]`.
    pub offsets: Indices<'a, B>,
    /// The plan's `token`, `[rows]`.
    pub token: Indices<'a, B>,
    /// Input `[tokens, width]`.
    pub x: Stored<'a, B>,
    /// `[experts, pre, width]`: gate rows then up rows, or the one input projection.
    pub w_in: Stored<'a, B>,
    /// `[experts, width, hidden]`.
    pub w_out: Stored<'a, B>,
    /// Output `[rows, pre]`.
    pub pre: StoredMut<'a, B>,
    /// Output `[rows, width]`, in plan order, not yet weighted.
    pub rows: StoredMut<'a, B>,
    /// At least [`Backend::experts_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Forward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "experts_forward";
        let s = self.shape;
        s.check(OP)?;
        length(OP, "offsets", &self.offsets, &[s.experts.saturating_add(1)])?;
        length(OP, "token", &self.token, &[s.tokens, s.top_k])?;
        length(OP, "x", &self.x, &[s.tokens, s.width])?;
        length(OP, "w_in", &self.w_in, &[s.experts, s.pre(), s.width])?;
        length(OP, "w_out", &self.w_out, &[s.experts, s.width, s.hidden])?;
        length(OP, "pre", &self.pre, &[s.tokens, s.top_k, s.pre()])?;
        length(OP, "rows", &self.rows, &[s.tokens, s.top_k, s.width])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

/// Backward through weighting and experts. With `r` the row of slot `(t, j)` and `g_r` the optional extra row gradient:
/// `dweights_tj = dy_t . rows_r` (obtained as `(dy_t w_out) . act(pre_r)`, so the rows need not be kept),
/// `drow_r = weights_tj dy_t + g_r`, `dpre_r = (drow_r w_out) act'(pre_r)`, `dx_rows_r = dpre_r w_in`,
/// `dw_out += drow^T act(pre)`, `dw_in += dpre^T x`.
pub struct Backward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// The plan's `offsets`.
    pub offsets: Indices<'a, B>,
    /// The plan's `token`.
    pub token: Indices<'a, B>,
    /// The plan's `order` (slot of each row).
    pub order: Indices<'a, B>,
    /// The forward input.
    pub x: Stored<'a, B>,
    /// Weight of each slot `[tokens, top_k]`.
    pub weights: View<'a, B>,
    /// Input projections.
    pub w_in: Stored<'a, B>,
    /// Output projections.
    pub w_out: Stored<'a, B>,
    /// The forward pre-activations.
    pub pre: Stored<'a, B>,
    /// Gradient of the combined output `[tokens, width]`.
    pub dy: Stored<'a, B>,
    /// Extra gradient on the output rows `[rows, width]` ([`super::losses::Redundancy`]).
    pub row_grad: Option<Stored<'a, B>>,
    /// Output `[rows, width]`; [`super::permutation::DispatchBackward`] sums it over a token's slots.
    pub dx_rows: StoredMut<'a, B>,
    /// Output `[tokens, top_k]`.
    pub dweights: ViewMut<'a, B>,
    /// Gradient of `w_in`, accumulated.
    pub dw_in: ViewMut<'a, B>,
    /// Gradient of `w_out`, accumulated.
    pub dw_out: ViewMut<'a, B>,
    /// At least [`Backend::experts_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Backward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "experts_backward";
        let s = self.shape;
        s.check(OP)?;
        length(OP, "offsets", &self.offsets, &[s.experts.saturating_add(1)])?;
        length(OP, "token", &self.token, &[s.tokens, s.top_k])?;
        length(OP, "order", &self.order, &[s.tokens, s.top_k])?;
        length(OP, "x", &self.x, &[s.tokens, s.width])?;
        length(OP, "weights", &self.weights, &[s.tokens, s.top_k])?;
        length(OP, "w_in", &self.w_in, &[s.experts, s.pre(), s.width])?;
        length(OP, "w_out", &self.w_out, &[s.experts, s.width, s.hidden])?;
        length(OP, "pre", &self.pre, &[s.tokens, s.top_k, s.pre()])?;
        length(OP, "dy", &self.dy, &[s.tokens, s.width])?;
        optional(OP, "row_grad", &self.row_grad, &[s.tokens, s.top_k, s.width])?;
        length(OP, "dx_rows", &self.dx_rows, &[s.tokens, s.top_k, s.width])?;
        length(OP, "dweights", &self.dweights, &[s.tokens, s.top_k])?;
        length(OP, "dw_in", &self.dw_in, &[s.experts, s.pre(), s.width])?;
        length(OP, "dw_out", &self.dw_out, &[s.experts, s.width, s.hidden])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

//! The router's linear layer. Its own op because routing decisions hang on the last digits: products of stored values
//! are summed in f64 and rounded once, so that blocking, threads and batch shape can never change a decision.

use super::check::{length, positive};
use crate::Result;
use crate::backend::{Backend, Stored, StoredMut, View, ViewMut};

/// `x [tokens, width]`, `w [experts, width]`, `logits [tokens, experts]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows (tokens).
    pub tokens: usize,
    /// Model width.
    pub width: usize,
    /// All experts, shared ones included.
    pub experts: usize,
}

/// `logits = x w^T`.
pub struct Forward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Input.
    pub x: Stored<'a, B>,
    /// Router weight.
    pub w: View<'a, B>,
    /// Output.
    pub logits: ViewMut<'a, B>,
}

impl<B: Backend> Forward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "router_logits_forward";
        let Shape { tokens, width, experts } = self.shape;
        positive(OP, "width", width)?;
        positive(OP, "experts", experts)?;
        length(OP, "x", &self.x, &[tokens, width])?;
        length(OP, "w", &self.w, &[experts, width])?;
        length(OP, "logits", &self.logits, &[tokens, experts])
    }
}

/// `dx += dlogits w` (the experts' gradient is already there) and `dw += dlogits^T x`.
pub struct Backward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// The forward input.
    pub x: Stored<'a, B>,
    /// Router weight.
    pub w: View<'a, B>,
    /// Gradient of the logits.
    pub dlogits: View<'a, B>,
    /// Gradient of the input, **added to**.
    pub dx: StoredMut<'a, B>,
    /// Gradient of the weight, accumulated.
    pub dw: ViewMut<'a, B>,
}

impl<B: Backend> Backward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "router_logits_backward";
        let Shape { tokens, width, experts } = self.shape;
        positive(OP, "width", width)?;
        positive(OP, "experts", experts)?;
        length(OP, "x", &self.x, &[tokens, width])?;
        length(OP, "w", &self.w, &[experts, width])?;
        length(OP, "dlogits", &self.dlogits, &[tokens, experts])?;
        length(OP, "dx", &self.dx, &[tokens, width])?;
        length(OP, "dw", &self.dw, &[experts, width])
    }
}

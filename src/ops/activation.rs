//! The non-linearity of an expert or of a dense feed-forward layer, and clamping.

use super::check::{length, positive, require};
use crate::Result;
use crate::backend::{Backend, Len, Stored, StoredMut};

/// Element-wise activation `f`. A gated MLP computes `f(x W_gate^T) * (x W_up^T)`, a plain one `f(x W_in^T)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`; gated, this is SwiGLU (Shazeer 2020, arXiv 2002.05202).
    Silu,
    /// Exact GELU, `x * Phi(x)` by the error function (Hendrycks & Gimpel 2016, arXiv 1606.08415).
    Gelu,
    /// GELU by its tanh approximation, `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2` (So et al. 2021, arXiv 2109.08668).
    ReluSquared,
}

/// `rows` rows; gated, a pre-activation row is `[gate: width | up: width]`, else `[width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows (tokens).
    pub rows: usize,
    /// Width of the activated row.
    pub width: usize,
    /// Whether the input carries a gate.
    pub gated: bool,
}

impl Shape {
    /// Width of a pre-activation row.
    pub fn pre(&self) -> usize {
        if self.gated { self.width.saturating_mul(2) } else { self.width }
    }
}

/// `a = f(gate) * up`, or `a = f(pre)` without a gate.
pub struct Forward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// The non-linearity `f`.
    pub activation: Activation,
    /// Pre-activations `[rows, pre]`.
    pub pre: Stored<'a, B>,
    /// Output `[rows, width]`.
    pub out: StoredMut<'a, B>,
}

impl<B: Backend> Forward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "activation_forward";
        positive(OP, "width", self.shape.width)?;
        length(OP, "pre", &self.pre, &[self.shape.rows, self.shape.pre()])?;
        length(OP, "out", &self.out, &[self.shape.rows, self.shape.width])
    }
}

/// `dgate = dout * up * f'(gate)`, `dup = dout * f(gate)`; without a gate `dpre = dout * f'(pre)`.
pub struct Backward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// The non-linearity `f`.
    pub activation: Activation,
    /// The forward input.
    pub pre: Stored<'a, B>,
    /// Gradient of the output `[rows, width]`.
    pub dout: Stored<'a, B>,
    /// Gradient of the input `[rows, pre]`.
    pub dpre: StoredMut<'a, B>,
}

impl<B: Backend> Backward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "activation_backward";
        positive(OP, "width", self.shape.width)?;
        length(OP, "pre", &self.pre, &[self.shape.rows, self.shape.pre()])?;
        length(OP, "dpre", &self.dpre, &[self.shape.rows, self.shape.pre()])?;
        length(OP, "dout", &self.dout, &[self.shape.rows, self.shape.width])
    }
}

/// `y = clamp(x, -limit, limit)` (`clip_qkv`).
pub struct Clamp<'a, B: Backend> {
    /// Bound, positive.
    pub limit: f64,
    /// Input.
    pub x: Stored<'a, B>,
    /// Output of the same length.
    pub y: StoredMut<'a, B>,
}

impl<B: Backend> Clamp<'_, B> {
    /// Lengths agree.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "clamp_forward";
        require(self.limit > 0.0, OP, "limit", "positive", self.limit)?;
        length(OP, "y", &self.y, &[self.x.len()])
    }
}

/// `dx = dy` where `-limit <= x <= limit`, else 0; in place.
pub struct ClampBackward<'a, B: Backend> {
    /// Bound, positive.
    pub limit: f64,
    /// The forward input.
    pub x: Stored<'a, B>,
    /// Gradient of the output, turned into that of the input.
    pub dy: StoredMut<'a, B>,
}

impl<B: Backend> ClampBackward<'_, B> {
    /// Lengths agree.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "clamp_backward";
        require(self.limit > 0.0, OP, "limit", "positive", self.limit)?;
        length(OP, "dy", &self.dy, &[self.x.len()])
    }
}

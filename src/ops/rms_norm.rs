//! RMSNorm, over whole rows or over equal parts of a row (per-head QK-norm).

use super::check::{at_least, length, require, strided};
use crate::Result;
use crate::backend::{Backend, Stored, StoredMut, View, ViewMut};

/// `rows` rows that start `stride` elements apart, each with `groups` neighbouring vectors of `width` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows (tokens).
    pub rows: usize,
    /// Vectors of a row that are normalised apart and share one weight (heads for per-head QK-norm, else 1).
    pub groups: usize,
    /// Elements of a vector.
    pub width: usize,
    /// Distance between the starts of two rows of `x`, `y` and their gradients.
    pub stride: usize,
}

impl Shape {
    /// Contiguous rows, one vector each.
    pub fn rows(rows: usize, width: usize) -> Self {
        Self { rows, groups: 1, width, stride: width }
    }
}

/// `y = w * x / sqrt(mean(x^2) + eps)`; keeps `1 / sqrt(mean(x^2) + eps)` in `rstd` for the backward pass.
/// Source: Zhang & Sennrich 2019 (arXiv 1910.07467); numerics of emo.md 1.2.
pub struct Forward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Added to the mean square.
    pub eps: f64,
    /// Input, strided rows.
    pub x: Stored<'a, B>,
    /// Weight `[width]`.
    pub weight: View<'a, B>,
    /// Output, strided rows. Elements between the rows are left alone.
    pub y: StoredMut<'a, B>,
    /// Output `[rows * groups]`.
    pub rstd: ViewMut<'a, B>,
}

impl<B: Backend> Forward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "rms_norm_forward";
        let Shape { rows, groups, width, stride } = self.shape;
        require(self.eps >= 0.0, OP, "eps", "zero or more", self.eps)?;
        strided(OP, "x", &self.x, rows, groups.saturating_mul(width), stride)?;
        strided(OP, "y", &self.y, rows, groups.saturating_mul(width), stride)?;
        length(OP, "weight", &self.weight, &[width])?;
        length(OP, "rstd", &self.rstd, &[rows, groups])
    }
}

/// `dx = rstd * (dy*w - x*rstd^2 * mean(dy*w*x))` (overwritten, or added where `accumulate`), `dw += sum dy*x*rstd`.
pub struct Backward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// The forward input.
    pub x: Stored<'a, B>,
    /// Weight `[width]`.
    pub weight: View<'a, B>,
    /// The forward `rstd`.
    pub rstd: View<'a, B>,
    /// Gradient of the output, strided rows.
    pub dy: Stored<'a, B>,
    /// Gradient of the input, strided rows.
    pub dx: StoredMut<'a, B>,
    /// Add to `dx` instead of overwriting it (the residual stream's gradient is already there).
    pub accumulate: bool,
    /// Gradient of the weight `[width]`, accumulated.
    pub dweight: ViewMut<'a, B>,
    /// At least [`Backend::rms_norm_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Backward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "rms_norm_backward";
        let Shape { rows, groups, width, stride } = self.shape;
        strided(OP, "x", &self.x, rows, groups.saturating_mul(width), stride)?;
        strided(OP, "dy", &self.dy, rows, groups.saturating_mul(width), stride)?;
        strided(OP, "dx", &self.dx, rows, groups.saturating_mul(width), stride)?;
        length(OP, "weight", &self.weight, &[width])?;
        length(OP, "dweight", &self.dweight, &[width])?;
        length(OP, "rstd", &self.rstd, &[rows, groups])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

//! Rotary position embedding, half-split ("rotate half") layout.

use super::check::{length, require, strided};
use crate::Result;
use crate::backend::{Backend, Indices, StoredMut, View};

/// `rows` rows that start `stride` apart; the first `heads * head_dim` elements of each are rotated, head by head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows (tokens).
    pub rows: usize,
    /// Heads to rotate: query and key heads together where a row is packed `[q | k | v]`.
    pub heads: usize,
    /// Elements of a head; even.
    pub head_dim: usize,
    /// Distance between the starts of two rows.
    pub stride: usize,
    /// Rows of the cosine and sine tables.
    pub positions: usize,
}

/// In place, for `i < head_dim/2`: `(x_i, x_{i+h}) <- (x_i c - x_{i+h} s, x_{i+h} c + x_i s)` with `h = head_dim/2`,
/// `c = cos[position, i]`, `s = sin[position, i]`. The backward pass is the same rotation with `inverse`.
/// Source: Su et al. 2021 (arXiv 2104.09864), layout of emo.md 1.2.
pub struct Apply<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Position of each row, `[rows]`, below `positions`.
    pub position: Indices<'a, B>,
    /// `[positions, head_dim/2]`, see [`table`].
    pub cos: View<'a, B>,
    /// `[positions, head_dim/2]`.
    pub sin: View<'a, B>,
    /// Rotate back: the backward pass.
    pub inverse: bool,
    /// Rotated in place.
    pub x: StoredMut<'a, B>,
}

impl<B: Backend> Apply<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "rope";
        let Shape { rows, heads, head_dim, stride, positions } = self.shape;
        require(head_dim.is_multiple_of(2), OP, "head_dim", "even", head_dim)?;
        strided(OP, "x", &self.x, rows, heads.saturating_mul(head_dim), stride)?;
        length(OP, "position", &self.position, &[rows])?;
        length(OP, "cos", &self.cos, &[positions, head_dim / 2])?;
        length(OP, "sin", &self.sin, &[positions, head_dim / 2])
    }
}

/// Cosine and sine tables `[positions, head_dim/2]` of the angles `position * theta^(-2i/head_dim)`.
/// Frequencies, angles and results are rounded to f32, as in the released models' own code.
pub fn table(positions: usize, head_dim: usize, theta: f64) -> (Vec<f64>, Vec<f64>) {
    let half = head_dim / 2;
    let frequency: Vec<f32> =
        (0..half).map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / head_dim as f32)).collect();
    let angle = |entry: usize| f64::from((entry / half) as f32 * frequency[entry % half]);
    let round = |value: f64| f64::from(value as f32);
    let entries = 0..positions * half;
    (
        entries.clone().map(|e| round(angle(e).cos())).collect(),
        entries.map(|e| round(angle(e).sin())).collect(),
    )
}

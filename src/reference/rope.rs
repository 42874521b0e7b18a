//! Rotary position embedding, half-split layout ("rotate_half").
//!
//! Each head of width `D` is rotated in the planes `(i, i + D/2)`, `i < D/2`, by the angle `position · inv_freq[i]`:
//! ```text
//! y[i]       = x[i] cos - x[i + D/2] sin
//! y[i + D/2] = x[i + D/2] cos + x[i] sin
//! inv_freq[i] = θ^(-2i / D)
//! ```
//! The tables come from [`crate::ops::rope::table`]: frequency, angle, cosine and sine are each rounded to f32, as in
//! every trained model of the Hugging Face code base. A backend that computed the angle in f64 would drift from the
//! checkpoints by about `position · 6e-8` radians.
//!
//! Source: Su et al. 2104.09864; the half-split layout is GPT-NeoX's.

/// Cosine and sine tables, `[positions, D/2]` each.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// `cos(position · inv_freq[i])`.
    pub cos: &'a [f64],
    /// `sin(position · inv_freq[i])`.
    pub sin: &'a [f64],
    /// `D`, the head width; even.
    pub head_dim: usize,
}

/// Rotates by `direction` times the angle.
fn rotate(
    x: &[f64],
    positions: &[u32],
    width: usize,
    heads: usize,
    tables: Tables,
    direction: f64,
) -> Vec<f64> {
    let half = tables.head_dim / 2;
    let mut y = x.to_vec();
    for (y, position) in y.chunks_exact_mut(width).zip(positions) {
        for head in y.chunks_exact_mut(2 * half).take(heads) {
            for i in 0..half {
                let entry = *position as usize * half + i;
                let (cos, sin) = (tables.cos[entry], direction * tables.sin[entry]);
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * cos - b * sin;
                head[i + half] = b * cos + a * sin;
            }
        }
    }
    y
}

/// Rotates the first `heads` heads of each row of `x[T, width]` by `positions[T]` and copies the rest. With a packed row of
/// queries, keys and values, `heads` is the number of query and key heads.
pub fn forward(x: &[f64], positions: &[u32], width: usize, heads: usize, tables: Tables) -> Vec<f64> {
    rotate(x, positions, width, heads, tables, 1.0)
}

/// `dx[T, width]` from `dy[T, width]`: a rotation is orthogonal, so its transpose rotates back.
pub fn backward(dy: &[f64], positions: &[u32], width: usize, heads: usize, tables: Tables) -> Vec<f64> {
    rotate(dy, positions, width, heads, tables, -1.0)
}

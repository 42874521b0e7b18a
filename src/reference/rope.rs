//! Rotary position embedding, half-split layout ("rotate_half").
//!
//! Each head of width `D` is rotated in the planes `(i, i + D/2)`, `i < D/2`, by the angle `position · inv_freq[i]`:
//! ```text
//! y[i]       = x[i] cos - x[i + D/2] sin
//! y[i + D/2] = x[i + D/2] cos + x[i] sin
//! inv_freq[i] = θ^(-2i / D)
//! ```
//! `inv_freq` and the angle are f32, each operation rounded, as in every trained model of the Hugging Face code base;
//! cosine and sine are taken in f64 of that f32 angle. A backend that computed the angle in f64 would drift from the
//! checkpoints by about `position · 6e-8` radians.
//!
//! Source: Su et al. 2104.09864; the half-split layout is GPT-NeoX's.

/// `inv_freq[D/2]` in f32: the exponent, the power and the quotient are each rounded to f32.
pub fn inverse_frequencies(theta: f64, head_dim: usize) -> Vec<f32> {
    let exponent = |i: usize| (2 * i) as f32 / head_dim as f32;
    (0..head_dim / 2).map(|i| 1.0 / theta.powf(f64::from(exponent(i))) as f32).collect()
}

/// Rotates by `direction` times the angle.
fn rotate(
    x: &[f64],
    positions: &[u32],
    width: usize,
    heads: usize,
    inv_freq: &[f32],
    direction: f64,
) -> Vec<f64> {
    let half = inv_freq.len();
    let mut y = x.to_vec();
    for (y, position) in y.chunks_exact_mut(width).zip(positions) {
        for head in y.chunks_exact_mut(2 * half).take(heads) {
            for i in 0..half {
                let (sin, cos) = (direction * f64::from(*position as f32 * inv_freq[i])).sin_cos();
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * cos - b * sin;
                head[i + half] = b * cos + a * sin;
            }
        }
    }
    y
}

/// Rotates the first `heads` heads of each row of `x[T, width]` by `positions[T]` and copies the rest. With a packed row of
/// queries, keys and values, `heads` is the number of query and key heads. The head width is `2 inv_freq.len()`.
pub fn forward(x: &[f64], positions: &[u32], width: usize, heads: usize, inv_freq: &[f32]) -> Vec<f64> {
    rotate(x, positions, width, heads, inv_freq, 1.0)
}

/// `dx[T, width]` from `dy[T, width]`: a rotation is orthogonal, so its transpose rotates back.
pub fn backward(dy: &[f64], positions: &[u32], width: usize, heads: usize, inv_freq: &[f32]) -> Vec<f64> {
    rotate(dy, positions, width, heads, inv_freq, -1.0)
}

//! RMSNorm: `y[t, i] = w[i] x[t, i] r_t`, `r_t = 1 / sqrt(mean_i x[t, i]² + eps)`; `x[T, d]`, `w[d]`.
//!
//! Source: Zhang & Sennrich 1910.07467.

use super::dot;

/// `1 / sqrt(mean x² + eps)` of one row.
pub fn inverse_rms(x: &[f64], eps: f64) -> f64 {
    1.0 / (dot(x, x) / x.len() as f64 + eps).sqrt()
}

/// `y[T, d]`.
pub fn forward(x: &[f64], w: &[f64], eps: f64) -> Vec<f64> {
    let mut y = Vec::new();
    for x in x.chunks_exact(w.len()) {
        let r = inverse_rms(x, eps);
        y.extend(x.iter().zip(w).map(|(x, w)| w * x * r));
    }
    y
}

/// `(dx[T, d], dw[d])` from `dy[T, d]`, with `x̂ = x r` and `g = dy ⊙ w`:
/// `dx = r (g - x̂ mean_i(g x̂))`, `dw = Σ_t dy ⊙ x̂`.
pub fn backward(x: &[f64], w: &[f64], dy: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let r: Vec<f64> = x.chunks_exact(w.len()).map(|x| inverse_rms(x, eps)).collect();
    backward_with(x, w, &r, dy)
}

/// [`backward`] with the `r[T]` that the forward kept.
pub fn backward_with(x: &[f64], w: &[f64], r: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let d = w.len();
    let (mut dx, mut dw) = (Vec::new(), vec![0.0; d]);
    for ((x, dy), r) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(r) {
        let mean = (0..d).map(|i| dy[i] * w[i] * x[i] * r).sum::<f64>() / d as f64;
        dx.extend((0..d).map(|i| r * (dy[i] * w[i] - x[i] * r * mean)));
        for i in 0..d {
            dw[i] += dy[i] * x[i] * r;
        }
    }
    (dx, dw)
}

//! Router logits: `logits[t, e] = Σ_i x[t, i] w[e, i]`, with `x[T, d]`, `w[E, d]`, `logits[T, E]` and no bias (a gate bias
//! is part of [`super::router`]). Backends compute this in f32 whatever the storage type of `x`.

use super::linear;

/// `logits[T, E] = x wᵀ`.
pub fn forward(x: &[f64], w: &[f64], d: usize, experts: usize) -> Vec<f64> {
    linear::forward(x, w, None, d, experts)
}

/// `(dx[T, d], dw[E, d])` from `dlogits[T, E]`.
pub fn backward(x: &[f64], w: &[f64], dlogits: &[f64], d: usize, experts: usize) -> (Vec<f64>, Vec<f64>) {
    (linear::dgrad(dlogits, w, d, experts), linear::wgrad(x, dlogits, d, experts))
}

//! Dense linear map: `y[t, n] = Σ_k x[t, k] w[n, k] + b[n]`, with `x[T, K]`, `w[N, K]` (out, in), `b[N]`, `y[T, N]`.

use super::{add_scaled, dot};

/// `y[T, N] = x wᵀ (+ b)`.
pub fn forward(x: &[f64], w: &[f64], bias: Option<&[f64]>, k: usize, n: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for x in x.chunks_exact(k) {
        for i in 0..n {
            y.push(dot(x, &w[i * k..][..k]) + bias.map_or(0.0, |b| b[i]));
        }
    }
    y
}

/// `dx[T, K] = dy w`.
pub fn dgrad(dy: &[f64], w: &[f64], k: usize, n: usize) -> Vec<f64> {
    let mut dx = vec![0.0; dy.len() / n * k];
    for (dx, dy) in dx.chunks_exact_mut(k).zip(dy.chunks_exact(n)) {
        for (i, dy) in dy.iter().enumerate() {
            add_scaled(dx, *dy, &w[i * k..][..k]);
        }
    }
    dx
}

/// `dw[N, K] = dyᵀ x`.
pub fn wgrad(x: &[f64], dy: &[f64], k: usize, n: usize) -> Vec<f64> {
    let mut dw = vec![0.0; n * k];
    for (x, dy) in x.chunks_exact(k).zip(dy.chunks_exact(n)) {
        for (i, dy) in dy.iter().enumerate() {
            add_scaled(&mut dw[i * k..][..k], *dy, x);
        }
    }
    dw
}

/// `db[N] = Σ_t dy[t, :]`.
pub fn bgrad(dy: &[f64], n: usize) -> Vec<f64> {
    let mut db = vec![0.0; n];
    for dy in dy.chunks_exact(n) {
        add_scaled(&mut db, 1.0, dy);
    }
    db
}

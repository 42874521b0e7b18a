//! Grouped GEMM: one linear map an expert, over the rows that were dispatched to it.
//!
//! `w[E, N, K]` (out, in); the rows of expert `e` are `offsets[e]..offsets[e + 1]`, so an expert may have none. An optional
//! gather reads row `r` of the left operand from `x[rows[r], :]` instead of `x[r, :]`, which fuses the dispatch.

use super::linear;

/// Copies the rows that `gather` names, or all of `x` in order.
fn gathered(x: &[f64], gather: Option<&[u32]>, k: usize) -> Vec<f64> {
    match gather {
        Some(rows) => rows.iter().flat_map(|r| x[*r as usize * k..][..k].iter().copied()).collect(),
        None => x.to_vec(),
    }
}

/// `y[r, :] = x[r, :] w[e]ᵀ` for the rows of each expert: `x[R, K]` (or `[T, K]` with a gather) to `y[R, N]`.
pub fn forward(
    x: &[f64],
    gather: Option<&[u32]>,
    offsets: &[u32],
    w: &[f64],
    k: usize,
    n: usize,
) -> Vec<f64> {
    let x = gathered(x, gather, k);
    let mut y = Vec::new();
    for (e, rows) in offsets.windows(2).enumerate() {
        let (start, end) = (rows[0] as usize, rows[1] as usize);
        y.extend(linear::forward(&x[start * k..end * k], &w[e * n * k..][..n * k], None, k, n));
    }
    y
}

/// `dx[r, :] = dy[r, :] w[e]`: `dy[R, N]` to `dx[R, K]`, one row a dispatched row also where the forward gathered.
pub fn dgrad(dy: &[f64], offsets: &[u32], w: &[f64], k: usize, n: usize) -> Vec<f64> {
    let mut dx = Vec::new();
    for (e, rows) in offsets.windows(2).enumerate() {
        let (start, end) = (rows[0] as usize, rows[1] as usize);
        dx.extend(linear::dgrad(&dy[start * n..end * n], &w[e * n * k..][..n * k], k, n));
    }
    dx
}

/// `dw[e] = Σ_r dy[r, :]ᵀ x[r, :]` over the rows of each expert: `dw[E, N, K]`, 0 for an expert without rows.
pub fn wgrad(x: &[f64], gather: Option<&[u32]>, dy: &[f64], offsets: &[u32], k: usize, n: usize) -> Vec<f64> {
    let x = gathered(x, gather, k);
    let mut dw = Vec::new();
    for rows in offsets.windows(2) {
        let (start, end) = (rows[0] as usize, rows[1] as usize);
        dw.extend(linear::wgrad(&x[start * k..end * k], &dy[start * n..end * n], k, n));
    }
    dw
}

//! Expert redundancy: experts that a token uses together should not compute the same thing.

use super::{Loss, valid_tokens};
use crate::reference::{add_scaled, dot};

/// Added to squared lengths, so that a row of zeros is orthogonal to everything instead of NaN.
const EPSILON: f64 = 1e-12;

/// `L = (1/n) Σ_t 2 / (k (k - 1)) Σ_{i<j} c_ij`, `c_ij = (y_i · y_j)² / ((|y_i|² + ε) (|y_j|² + ε))`, `ε = 1e-12`: the mean
/// squared cosine over pairs of a token's `k` routed expert outputs, over the `n` valid tokens.
///
/// `rows[T, k, d]` are unweighted outputs in slot order. Fewer than two experts a token give 0. Gradient of one pair:
/// `dc_ij/dy_i = 2 a y_j / (m_i m_j) - 2 a² y_i / (m_i² m_j)`, with `a = y_i · y_j` and `m = |y|² + ε`.
/// Source: our own; the squared cosine of expert outputs follows Liu et al. 2310.09762 (diversity by orthogonality).
pub fn redundancy(rows: &[f64], k: usize, d: usize, valid: Option<&[bool]>) -> Loss {
    let tokens = valid_tokens(rows.len() / (k * d), valid);
    let pairs = tokens.len() as f64 * (k * k.saturating_sub(1)) as f64 / 2.0;
    let (mut loss, mut grad) = (0.0, vec![0.0; rows.len()]);
    for t in tokens {
        for i in 0..k {
            for j in i + 1..k {
                let (at_i, at_j) = ((t * k + i) * d, (t * k + j) * d);
                let (y_i, y_j) = (&rows[at_i..][..d], &rows[at_j..][..d]);
                let (a, m_i, m_j) = (dot(y_i, y_j), dot(y_i, y_i) + EPSILON, dot(y_j, y_j) + EPSILON);
                loss += a * a / (m_i * m_j) / pairs;
                let across = 2.0 * a / (m_i * m_j) / pairs;
                add_scaled(&mut grad[at_i..][..d], across, y_j);
                add_scaled(&mut grad[at_i..][..d], -across * a / m_i, y_i);
                add_scaled(&mut grad[at_j..][..d], across, y_i);
                add_scaled(&mut grad[at_j..][..d], -across * a / m_j, y_j);
            }
        }
    }
    Loss { loss, grad }
}

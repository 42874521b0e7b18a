//! Token embedding: `y[t, :] = table[ids[t], :]`, with `table[V, d]` and `ids[T]`.

use super::add_scaled;

/// `y[T, d]`.
pub fn forward(ids: &[u32], table: &[f64], d: usize) -> Vec<f64> {
    ids.iter().flat_map(|id| table[*id as usize * d..][..d].iter().copied()).collect()
}

/// `dtable[V, d]`: `dtable[v, :] = Σ_{t: ids[t] = v} dy[t, :]`, added in token order. The row of `pad` gets no gradient (the
/// `padding_idx` of PyTorch).
pub fn backward(ids: &[u32], dy: &[f64], vocabulary: usize, d: usize, pad: Option<u32>) -> Vec<f64> {
    let mut dtable = vec![0.0; vocabulary * d];
    for (id, dy) in ids.iter().zip(dy.chunks_exact(d)) {
        if Some(*id) != pad {
            add_scaled(&mut dtable[*id as usize * d..][..d], 1.0, dy);
        }
    }
    dtable
}

//! Causal attention inside documents, with grouped queries.
//!
//! `qkv[T, (H_q + 2 H_kv) D]` holds each token's query heads, then key heads, then value heads. Query head `a` reads key and
//! value head `a / (H_q / H_kv)`. With document start `s`:
//! ```text
//! S[t, u] = scale q_t · k_u,   s <= u <= t
//! P       = softmax over u,    lse[t] = logsumexp_u S[t, u]
//! o_t     = Σ_u P[t, u] v_u
//! ```
//! Sources: Vaswani et al. 1706.03762; Ainslie et al. 2305.13245 (grouped queries).

use super::{add_scaled, dot, softmax};

/// The shape of an attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Query heads `H_q`, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads `H_kv`.
    pub kv_heads: usize,
    /// Head width `D`.
    pub head_dim: usize,
    /// Multiplies the scores; `1 / sqrt(D)` in most models.
    pub scale: f64,
}

impl Shape {
    /// Width of a packed row, `(H_q + 2 H_kv) D`.
    pub fn row(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Where, in packed `qkv`, token `t` keeps query head `head` and the key and value heads that it reads.
    fn places(&self, t: usize, head: usize) -> (usize, usize, usize) {
        let kv = head / (self.heads / self.kv_heads);
        let at = |slot: usize| t * self.row() + slot * self.head_dim;
        (at(head), at(self.heads + kv), at(self.heads + self.kv_heads + kv))
    }

    /// Scores of token `t` against tokens `start..=t`.
    fn scores(&self, qkv: &[f64], head: usize, start: usize, t: usize) -> Vec<f64> {
        let q = &qkv[self.places(t, head).0..][..self.head_dim];
        (start..=t).map(|u| self.scale * dot(q, &qkv[self.places(u, head).1..][..self.head_dim])).collect()
    }
}

/// `(o[T, H_q D], lse[T, H_q])` for the documents `offsets[n + 1]`.
pub fn forward(shape: &Shape, qkv: &[f64], offsets: &[u32]) -> (Vec<f64>, Vec<f64>) {
    let (mut o, mut lse) = (Vec::new(), Vec::new());
    for document in offsets.windows(2) {
        let start = document[0] as usize;
        for t in start..document[1] as usize {
            for head in 0..shape.heads {
                let (p, log_sum) = softmax(&shape.scores(qkv, head, start, t));
                let mut row = vec![0.0; shape.head_dim];
                for (u, p) in (start..=t).zip(p) {
                    add_scaled(&mut row, p, &qkv[shape.places(u, head).2..][..shape.head_dim]);
                }
                o.extend(row);
                lse.push(log_sum);
            }
        }
    }
    (o, lse)
}

/// `o[T, H_q D]` of tokens that continue a sequence whose earlier tokens left `cache[past, 2 H_kv D]`, keys then values: the
/// last rows of [`forward`] over the whole sequence.
pub fn cached(shape: &Shape, qkv: &[f64], cache: &[f64]) -> Vec<f64> {
    let queries = shape.heads * shape.head_dim;
    let past = cache.chunks_exact(shape.row() - queries);
    let mut all = Vec::new();
    for row in past.clone() {
        all.extend(std::iter::repeat_n(0.0, queries));
        all.extend_from_slice(row);
    }
    all.extend_from_slice(qkv);
    let (o, _) = forward(shape, &all, &[0, (all.len() / shape.row()) as u32]);
    o[past.len() * queries..].to_vec()
}

/// `dqkv`, shaped as `qkv`, from `do[T, H_q D]`:
/// `dP[t, u] = do_t · v_u`, `dS = P (dP - Σ_u P dP)`, `dq_t = scale Σ_u dS k_u`, `dk_u = scale Σ_t dS q_t`, `dv_u = Σ_t P do_t`;
/// keys and values sum over the query heads that read them.
pub fn backward(shape: &Shape, qkv: &[f64], offsets: &[u32], d_o: &[f64]) -> Vec<f64> {
    let d = shape.head_dim;
    let mut dqkv = vec![0.0; qkv.len()];
    for document in offsets.windows(2) {
        let start = document[0] as usize;
        for t in start..document[1] as usize {
            for head in 0..shape.heads {
                let (p, _) = softmax(&shape.scores(qkv, head, start, t));
                let d_o = &d_o[(t * shape.heads + head) * d..][..d];
                let value = |u: usize| &qkv[shape.places(u, head).2..][..d];
                let dp: Vec<f64> = (start..=t).map(|u| dot(d_o, value(u))).collect();
                let mean = dot(&p, &dp);
                for (i, u) in (start..=t).enumerate() {
                    let (q, k, v) =
                        (shape.places(t, head).0, shape.places(u, head).1, shape.places(u, head).2);
                    let ds = shape.scale * p[i] * (dp[i] - mean);
                    add_scaled(&mut dqkv[q..][..d], ds, &qkv[k..][..d]);
                    add_scaled(&mut dqkv[k..][..d], ds, &qkv[q..][..d]);
                    add_scaled(&mut dqkv[v..][..d], p[i], d_o);
                }
            }
        }
    }
    dqkv
}

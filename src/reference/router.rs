//! From logits to a token's experts and their weights.
//!
//! For each token, with logits `z[E]`, gate bias `b`, temperature `τ` and the keep mask `K` over the `E_r` routed experts:
//! ```text
//! z'  = (z + b) / τ
//! p   = softmax of z' over K          (Score::Softmax)
//!     | sigmoid(z') on K              (Score::Sigmoid)          0 outside K
//! lse = logsumexp of z + b over K               before the temperature: what the router z-loss is made of
//! S   = always_active in the given order, then the (k_r - |always_active|) best others by p + selection_bias
//! w_i = p[S_i]                        (Normalise::None)
//!     | p[S_i] / (Σ_j p[S_j]^q)^(1/q) (Normalise::Lp(q), q > 0)
//! ```
//! then the `E_s` shared experts: ascending with weight 1 ([`SharedWeight::One`]), or in descending order of a softmax over
//! their own `z'`, which is their weight ([`SharedWeight::Softmax`]). So a token has `k = k_r + E_s` slots.
//!
//! Rules at the edges:
//! * equal scores: the lower index wins. Scores are compared, not logits, so underflow can make a tie;
//! * an expert whose logit is `-inf` is forbidden, exactly as if the mask forbade it;
//! * fewer than `k_r` allowed: the remaining slots take the lowest forbidden indices with weight 0, and are counted;
//! * nothing allowed: `p`, `w`, `lse` and every gradient of the token's routed part are 0, never NaN;
//! * the selection is piecewise constant and carries no gradient; neither do `selection_bias` and `counts`.
//!
//! Sources: Fedus et al. 2101.03961 (Switch), Jiang et al. 2401.04088 (Mixtral), Muennighoff et al. 2409.02060 (OLMoE),
//! Wang et al. 2408.15664 (selection bias), EMO 2605.06663 (pools, shared expert of weight 1).

use super::{activation::sigmoid, dot, softmax};
use crate::ops::router::{Normalise, RouterConfig, Score, SharedWeight};

/// What [`forward`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Scores `p[T, E_r]` before selection and normalisation; 0 for forbidden experts.
    pub probs: Vec<f64>,
    /// Weights `[T, k]` of the slots.
    pub weights: Vec<f64>,
    /// Experts `[T, k]` of the slots.
    pub indices: Vec<u32>,
    /// Slots that went to each expert, `[E]`, shared experts included.
    pub counts: Vec<u64>,
    /// `logsumexp(z + b)` over the allowed routed experts, before the temperature, `[T]`.
    pub lse: Vec<f64>,
}

/// What [`backward`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// With respect to the logits, `[T, E]`.
    pub dlogits: Vec<f64>,
    /// With respect to the gate bias, `[E]`: the sum of `dlogits` over tokens.
    pub dbias: Vec<f64>,
}

/// `z + b` of one token, `-inf` where the keep mask forbids a routed expert.
fn biased_logits(cfg: &RouterConfig, z: &[f64], bias: Option<&[f64]>, keep: Option<&[bool]>) -> Vec<f64> {
    let allowed = |e: usize| e >= cfg.routed() || keep.is_none_or(|keep| keep[e]);
    (0..cfg.experts)
        .map(|e| match allowed(e) {
            true => z[e] + bias.map_or(0.0, |b| b[e]),
            false => f64::NEG_INFINITY,
        })
        .collect()
}

/// `z'`: divided by the temperature.
fn scaled(cfg: &RouterConfig, biased: &[f64]) -> Vec<f64> {
    biased.iter().map(|z| z / cfg.temperature).collect()
}

/// The `n` best entries in descending order, ties to the lower index, skipping those already `taken`. Forbidden entries
/// come after all others, in ascending order.
fn top(n: usize, score: &[f64], forbidden: &[bool], taken: &[u32]) -> Vec<u32> {
    let mut order = Vec::new();
    for _ in 0..n {
        let free =
            (0..score.len()).filter(|e| !order.contains(&(*e as u32)) && !taken.contains(&(*e as u32)));
        let better = |a: usize, b: usize| match (forbidden[a], forbidden[b]) {
            (false, false) => score[b] > score[a],
            (a_forbidden, b_forbidden) => a_forbidden && !b_forbidden,
        };
        let best = free.reduce(|a, b| if better(a, b) { b } else { a });
        order.push(best.expect("a router selects at most as many experts as there are") as u32);
    }
    order
}

/// The divisor of the selected scores, 1 without normalisation.
fn norm(cfg: &RouterConfig, selected: &[f64]) -> f64 {
    match cfg.normalise {
        Normalise::None => 1.0,
        Normalise::Lp(q) => selected.iter().map(|s| s.powf(q)).sum::<f64>().powf(1.0 / q),
    }
}

/// Routes `logits[T, E]`. `bias[E]` is added to the logits, `selection_bias[E_r]` to the scores for choosing only, and
/// `keep[T, E_r]` is false where a token may not use an expert.
pub fn forward(
    cfg: &RouterConfig,
    logits: &[f64],
    bias: Option<&[f64]>,
    selection_bias: Option<&[f64]>,
    keep: Option<&[bool]>,
) -> Output {
    let routed = cfg.routed();
    let mut out = Output {
        probs: Vec::new(),
        weights: Vec::new(),
        indices: Vec::new(),
        counts: vec![0; cfg.experts],
        lse: Vec::new(),
    };
    for (t, z) in logits.chunks_exact(cfg.experts).enumerate() {
        let biased = biased_logits(cfg, z, bias, keep.map(|keep| &keep[t * routed..][..routed]));
        let (_, lse) = softmax(&biased[..routed]);
        let z = scaled(cfg, &biased);
        let (z_routed, z_shared) = z.split_at(routed);
        let (p_softmax, _) = softmax(z_routed);
        let p = match cfg.score {
            Score::Softmax => p_softmax,
            Score::Sigmoid => z_routed.iter().map(|z| sigmoid(*z)).collect(),
        };

        let forbidden: Vec<bool> = z_routed.iter().map(|z| *z == f64::NEG_INFINITY).collect();
        let choice: Vec<f64> = (0..routed).map(|e| p[e] + selection_bias.map_or(0.0, |b| b[e])).collect();
        let mut slots = cfg.always_active.clone();
        slots.extend(top(cfg.routed_k() - slots.len(), &choice, &forbidden, &slots));
        let selected: Vec<f64> = slots.iter().map(|e| p[*e as usize]).collect();
        let norm = norm(cfg, &selected);
        out.weights.extend(selected.iter().map(|s| if norm == 0.0 { 0.0 } else { s / norm }));

        match cfg.shared_weight {
            SharedWeight::One => {
                slots.extend(routed as u32..cfg.experts as u32);
                out.weights.extend(vec![1.0; cfg.shared]);
            }
            SharedWeight::Softmax => {
                let (p_shared, _) = softmax(z_shared);
                let order = top(cfg.shared, &p_shared, &vec![false; cfg.shared], &[]);
                slots.extend(order.iter().map(|e| routed as u32 + e));
                out.weights.extend(order.iter().map(|e| p_shared[*e as usize]));
            }
        }

        for e in &slots {
            out.counts[*e as usize] += 1;
        }
        out.indices.extend(slots);
        out.probs.extend(p);
        out.lse.push(lse);
    }
    out
}

/// Gradient of a loss that depends on the weights, the scores and the logsumexp, with respect to the logits.
///
/// `logits`, `bias` and `keep` are those of [`forward`] and `out` is what it returned; `dweights[T, k]`, `dprobs[T, E_r]` and
/// `dlse[T]` are the loss's gradients. With `n` the L_q norm, `g` the gradient of a token's scores:
/// ```text
/// g[S_i]  = dprobs[S_i] + (dw_i - w_i^(q-1) Σ_j dw_j w_j) / n     (without normalisation: dprobs[S_i] + dw_i)
/// dz'_e   = p_e (g_e - Σ_f p_f g_f)  |  p_e (1 - p_e) g_e         (softmax | sigmoid)
/// dz      = dz' / τ + dlse softmax(z + b)_e
/// ```
pub fn backward(
    cfg: &RouterConfig,
    logits: &[f64],
    bias: Option<&[f64]>,
    keep: Option<&[bool]>,
    out: &Output,
    dweights: &[f64],
    dprobs: &[f64],
    dlse: &[f64],
) -> Gradients {
    let (routed, routed_k) = (cfg.routed(), cfg.routed_k());
    let mut dlogits = Vec::new();
    for (t, z) in logits.chunks_exact(cfg.experts).enumerate() {
        let biased = biased_logits(cfg, z, bias, keep.map(|keep| &keep[t * routed..][..routed]));
        let z_shared = &scaled(cfg, &biased[routed..]);
        let p = &out.probs[t * routed..][..routed];
        let (slots, shared_slots) = out.indices[t * cfg.top_k..][..cfg.top_k].split_at(routed_k);
        let (w, w_shared) = out.weights[t * cfg.top_k..][..cfg.top_k].split_at(routed_k);
        let (dw, dw_shared) = dweights[t * cfg.top_k..][..cfg.top_k].split_at(routed_k);

        let mut g = dprobs[t * routed..][..routed].to_vec();
        let selected: Vec<f64> = slots.iter().map(|e| p[*e as usize]).collect();
        let norm = norm(cfg, &selected);
        let along = dot(w, dw);
        for i in 0..routed_k {
            g[slots[i] as usize] += match cfg.normalise {
                Normalise::None => dw[i],
                // A weight of 0 has a score of 0, through which nothing flows; the power would be infinite for q < 1.
                Normalise::Lp(_) if w[i] == 0.0 => 0.0,
                Normalise::Lp(q) => (dw[i] - w[i].powf(q - 1.0) * along) / norm,
            };
        }

        let mean = dot(p, &g);
        let (p_lse, _) = softmax(&biased[..routed]);
        dlogits.extend((0..routed).map(|e| {
            let dscore = match cfg.score {
                Score::Softmax => p[e] * (g[e] - mean),
                Score::Sigmoid => p[e] * (1.0 - p[e]) * g[e],
            };
            dscore / cfg.temperature + dlse[t] * p_lse[e]
        }));

        let (p_shared, _) = softmax(z_shared);
        let along = dot(w_shared, dw_shared);
        dlogits.extend((routed..cfg.experts).map(|e| match cfg.shared_weight {
            SharedWeight::One => 0.0,
            SharedWeight::Softmax => {
                let slot = shared_slots
                    .iter()
                    .position(|s| *s as usize == e)
                    .expect("every shared expert has a slot");
                p_shared[e - routed] * (dw_shared[slot] - along) / cfg.temperature
            }
        }));
    }
    let dbias = super::linear::bgrad(&dlogits, cfg.experts);
    Gradients { dlogits, dbias }
}

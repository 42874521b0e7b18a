//! Load balance and router z.

use super::{Loss, mean_row, valid_tokens};
use crate::reference::dot;

/// How many slots of the valid tokens went to each expert: `indices[T, k]` to `counts[E]`.
pub fn count_slots(indices: &[u32], k: usize, experts: usize, valid: Option<&[bool]>) -> Vec<u64> {
    let mut counts = vec![0; experts];
    for t in valid_tokens(indices.len() / k, valid) {
        for e in &indices[t * k..][..k] {
            counts[*e as usize] += 1;
        }
    }
    counts
}

/// Load balance: `L = scale Σ_e counts[e] P_e / divisor`, `P_e` the mean of `probs[T, E_r]` over the valid tokens.
///
/// `counts[E_r]` are constants, so that they may come from more tokens than `probs` does (accumulated micro-batches, other
/// ranks); then `divisor` does too. The conventions of the field, with `n` the tokens behind the counts:
///
/// | convention | scale | divisor | perfect balance |
/// |---|---|---|---|
/// | GShard, OLMoE and EMO training, Hugging Face `emo` | `E_r / k_r` | `n`, EMO: loss tokens | 1 |
/// | Hugging Face `olmoe`, `mixtral`, `qwen3_moe` ([`load_balance_pooled`]) | `E` | `n` over all layers | `k` |
///
/// Gradient: `dL/dp[t, e] = scale counts[e] / (divisor T_valid)` on valid tokens. A divisor of 0 gives 0.
/// Sources: Lepikhin et al. 2006.16668, Fedus et al. 2101.03961.
pub fn load_balance(counts: &[u64], probs: &[f64], scale: f64, divisor: f64, valid: Option<&[bool]>) -> Loss {
    let routed = counts.len();
    let mut grad = vec![0.0; probs.len()];
    let tokens = valid_tokens(probs.len() / routed, valid);
    if tokens.is_empty() || divisor == 0.0 {
        return Loss { loss: 0.0, grad };
    }
    let share: Vec<f64> = counts.iter().map(|c| scale * *c as f64 / divisor).collect();
    for t in &tokens {
        for e in 0..routed {
            grad[t * routed + e] = share[e] / tokens.len() as f64;
        }
    }
    Loss { loss: dot(&share, &mean_row(probs, routed, &tokens)), grad }
}

/// Load balance over all layers pooled, as Hugging Face computes it for OLMoE, Mixtral and Qwen3: `L = E Σ_e f_e P_e`, with
/// `f_e` the mean number of slots and `P_e` the mean score of expert `e` over the `n` valid tokens of all layers.
///
/// `indices[L, T, k]`, `probs[L, T, E]`, and `valid[T]`, the attention mask, which holds for every layer.
pub fn load_balance_pooled(
    indices: &[u32],
    probs: &[f64],
    layers: usize,
    k: usize,
    experts: usize,
    valid: Option<&[bool]>,
) -> Loss {
    let valid = valid.map(|valid| valid.repeat(layers));
    let counts = count_slots(indices, k, experts, valid.as_deref());
    let tokens = valid_tokens(probs.len() / experts, valid.as_deref()).len();
    load_balance(&counts, probs, experts as f64, tokens as f64, valid.as_deref())
}

/// Router z: `L = Σ_t lse[t]² / divisor` over the valid tokens, `dL/dlse[t] = 2 lse[t] / divisor`. A divisor of 0 gives 0.
///
/// `lse[T]` is [`crate::reference::router::Output::lse`], of the kept logits before the temperature.
/// Source: Zoph et al. 2202.08906.
pub fn router_z(lse: &[f64], divisor: f64, valid: Option<&[bool]>) -> Loss {
    let (mut loss, mut grad) = (0.0, vec![0.0; lse.len()]);
    if divisor != 0.0 {
        for t in valid_tokens(lse.len(), valid) {
            loss += lse[t] * lse[t] / divisor;
            grad[t] = 2.0 * lse[t] / divisor;
        }
    }
    Loss { loss, grad }
}

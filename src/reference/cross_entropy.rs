//! Cross-entropy with z-loss, over `logits[T, V]` and `targets[T]`.
//!
//! ```text
//! loss_sum = Σ_t lse_t - logits[t, target_t]
//! z_sum    = Σ_t lse_t²                              both over the tokens whose target is not negative
//! L        = (loss_sum + z_coefficient z_sum) / divisor
//! dL/dlogits[t, v] = (p[t, v] - [v = target_t] + 2 z_coefficient lse_t p[t, v]) / divisor
//! ```
//! A negative target (-100 by custom) is ignored: it adds nothing and its row of the gradient is 0. The caller chooses the
//! divisor: the loss tokens of the whole optimiser step, usually. Source of the z term: Chowdhery et al. 2204.02311 (PaLM).

use super::softmax;

/// What [`forward_backward`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `Σ -log p[target]` in nats, not divided.
    pub loss_sum: f64,
    /// `Σ lse²`, not divided and without its coefficient.
    pub z_sum: f64,
    /// `logsumexp` of each row, 0 where ignored, `[T]`.
    pub lse: Vec<f64>,
    /// Gradient of `L` with respect to the logits, `[T, V]`.
    pub dlogits: Vec<f64>,
}

/// Loss and gradient in one pass, since both need the same softmax.
pub fn forward_backward(
    logits: &[f64],
    targets: &[i32],
    vocabulary: usize,
    z_coefficient: f64,
    divisor: f64,
) -> Output {
    let mut out =
        Output { loss_sum: 0.0, z_sum: 0.0, lse: vec![0.0; targets.len()], dlogits: vec![0.0; logits.len()] };
    for (t, target) in targets.iter().enumerate() {
        let Ok(target) = usize::try_from(*target) else { continue };
        let z = &logits[t * vocabulary..][..vocabulary];
        let (p, lse) = softmax(z);
        out.loss_sum += lse - z[target];
        out.z_sum += lse * lse;
        out.lse[t] = lse;
        for v in 0..vocabulary {
            let hit = f64::from(v == target);
            out.dlogits[t * vocabulary + v] = (p[v] - hit + 2.0 * z_coefficient * lse * p[v]) / divisor;
        }
    }
    out
}

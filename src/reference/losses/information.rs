//! Mutual information between tokens and experts.

use super::{mean_row, valid_tokens};

/// Keeps the logarithm of an unused expert finite.
const EPSILON: f64 = 1e-10;

/// What [`mutual_information`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct MutualInformation {
    /// `w_cond H(E|t) - w_marg H(E)`.
    pub loss: f64,
    /// `H(E|t)` in nats: the mean entropy of a token's scores. Low: tokens are sure.
    pub conditional_entropy: f64,
    /// `H(E)` in nats: the entropy of the mean scores. High: all experts are used.
    pub marginal_entropy: f64,
    /// Gradient of `loss` with respect to the scores, `[T, E_r]`.
    pub grad: Vec<f64>,
}

/// `-Σ p log(p + ε)`.
fn entropy(p: &[f64]) -> f64 {
    -p.iter().map(|p| p * (p + EPSILON).ln()).sum::<f64>()
}

/// `d entropy / dp = -(log(p + ε) + p / (p + ε))`.
fn entropy_gradient(p: f64) -> f64 {
    -((p + EPSILON).ln() + p / (p + EPSILON))
}

/// `L = w_cond (1/n) Σ_t H(p_t) - w_marg H((1/n) Σ_t p_t)`, `H(p) = -Σ_e p_e log(p_e + 1e-10)`, over the `n` valid tokens of
/// `probs[T, E_r]`.
///
/// With weights 1 and 1 it is minus the mutual information of token and expert. Gradient:
/// `dL/dp[t, e] = (w_cond H'(p[t, e]) - w_marg H'(mean_e)) / n`, `H'(p) = -(log(p + 1e-10) + p / (p + 1e-10))`.
/// Source: Chen et al. 2212.08066 (Mod-Squad), Shen et al. 2306.04640 (ModuleFormer).
pub fn mutual_information(
    probs: &[f64],
    routed: usize,
    w_cond: f64,
    w_marg: f64,
    valid: Option<&[bool]>,
) -> MutualInformation {
    let tokens = valid_tokens(probs.len() / routed, valid);
    let n = tokens.len() as f64;
    let mean = mean_row(probs, routed, &tokens);
    let conditional_entropy = tokens.iter().map(|t| entropy(&probs[t * routed..][..routed]) / n).sum::<f64>();
    let marginal_entropy = entropy(&mean);
    let mut grad = vec![0.0; probs.len()];
    for t in tokens {
        for e in 0..routed {
            let at = t * routed + e;
            grad[at] = (w_cond * entropy_gradient(probs[at]) - w_marg * entropy_gradient(mean[e])) / n;
        }
    }
    let loss = w_cond * conditional_entropy - w_marg * marginal_entropy;
    MutualInformation { loss, conditional_entropy, marginal_entropy, grad }
}

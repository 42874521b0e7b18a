//! AdamW, one step, with decoupled weight decay and bias correction; the order of operations is `torch.optim.AdamW`'s.
//!
//! ```text
//! θ ← θ (1 - lr λ)
//! m ← β₁ m + (1 - β₁) g
//! v ← β₂ v + (1 - β₂) g²
//! θ ← θ - lr / (1 - β₁ⁿ) · m / (sqrt(v) / sqrt(1 - β₂ⁿ) + ε)         n = 1 at the first step
//! ```
//! Source: Loshchilov & Hutter 1711.05101.

/// Settings of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyper {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator after the square root.
    pub eps: f64,
    /// Decoupled weight decay `λ`.
    pub weight_decay: f64,
}

/// Updates the parameters and both moments in place; all four slices have the same length. `step` counts from 1.
pub fn step(hyper: &Hyper, step: u64, params: &mut [f64], grads: &[f64], m: &mut [f64], v: &mut [f64]) {
    let correction1 = 1.0 - hyper.beta1.powf(step as f64);
    let correction2 = 1.0 - hyper.beta2.powf(step as f64);
    for i in 0..params.len() {
        params[i] *= 1.0 - hyper.lr * hyper.weight_decay;
        m[i] = hyper.beta1 * m[i] + (1.0 - hyper.beta1) * grads[i];
        v[i] = hyper.beta2 * v[i] + (1.0 - hyper.beta2) * grads[i] * grads[i];
        let denominator = v[i].sqrt() / correction2.sqrt() + hyper.eps;
        params[i] -= hyper.lr / correction1 * m[i] / denominator;
    }
}

//! AdamW and the global gradient norm, over flat parameter arenas.

use super::check::{length, optional, require};
use crate::Result;
use crate::backend::{Backend, Len, StoredMut, View, ViewMut};

/// Settings of one AdamW step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyper {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// 1-based step, for bias correction.
    pub step: u64,
    /// Multiplies the gradients first: the clipping factor `min(1, max_norm / norm)`.
    pub grad_scale: f64,
}

/// The settings as the factors of the update, rounded to f32 once.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    pub grad_scale: f32,
    pub beta1: f32,
    /// `1 - beta1`
    pub rest1: f32,
    pub beta2: f32,
    /// `1 - beta2`
    pub rest2: f32,
    pub eps: f32,
    /// `-lr weight_decay`
    pub decay: f32,
    /// `-lr / (1 - beta1^t)`
    pub lr: f32,
    /// `1 / sqrt(1 - beta2^t)`
    pub correction: f32,
}

impl Rates {
    pub fn new(h: &Hyper) -> Self {
        // A step beyond i32 has no bias left to correct.
        let t = i32::try_from(h.step).unwrap_or(i32::MAX);
        Self {
            grad_scale: h.grad_scale as f32,
            beta1: h.beta1 as f32,
            rest1: (1.0 - h.beta1) as f32,
            beta2: h.beta2 as f32,
            rest2: (1.0 - h.beta2) as f32,
            eps: h.eps as f32,
            decay: (-h.lr * h.weight_decay) as f32,
            lr: (-h.lr / (1.0 - h.beta1.powi(t))) as f32,
            correction: (1.0 / (1.0 - h.beta2.powi(t)).sqrt()) as f32,
        }
    }
}

/// `m = b1 m + (1-b1) g`, `v = b2 v + (1-b2) g^2`,
/// `p = p (1 - lr wd) - lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)`, with `g = grad_scale * grads`.
/// Source: Loshchilov & Hutter 2019 (arXiv 1711.05101).
pub struct Step<'a, B: Backend> {
    /// Settings.
    pub hyper: Hyper,
    /// Parameters, updated in place.
    pub params: ViewMut<'a, B>,
    /// Gradients.
    pub grads: View<'a, B>,
    /// First moments.
    pub m: ViewMut<'a, B>,
    /// Second moments.
    pub v: ViewMut<'a, B>,
    /// Output: the new parameters as ops read them, where [`Backend::masters_as_stored`] has nothing to give.
    pub copy: Option<StoredMut<'a, B>>,
}

impl<B: Backend> Step<'_, B> {
    /// Lengths agree and the settings are usable.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "adamw";
        let Hyper { beta1, beta2, eps, step, .. } = self.hyper;
        require((0.0..1.0).contains(&beta1), OP, "beta1", "in [0, 1)", beta1)?;
        require((0.0..1.0).contains(&beta2), OP, "beta2", "in [0, 1)", beta2)?;
        require(eps >= 0.0, OP, "eps", "zero or more", eps)?;
        require(step > 0, OP, "step", "1 or more", step)?;
        let len = self.params.len();
        length(OP, "grads", &self.grads, &[len])?;
        length(OP, "m", &self.m, &[len])?;
        length(OP, "v", &self.v, &[len])?;
        optional(OP, "copy", &self.copy, &[len])
    }
}

/// `out[0] = sum x^2`, accumulated in f64 in a fixed order.
pub struct SumOfSquares<'a, B: Backend> {
    /// Input.
    pub x: View<'a, B>,
    /// Output `[1]`.
    pub out: B::ViewMut<'a, f64>,
}

impl<B: Backend> SumOfSquares<'_, B> {
    /// One output.
    pub fn check(&self) -> Result<()> {
        length("sum_of_squares", "out", &self.out, &[1])
    }
}

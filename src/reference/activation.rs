//! Element-wise activations `f` and their derivatives `f'`.
//!
//! | activation | `f(x)` | `f'(x)` |
//! |---|---|---|
//! | SiLU | `x s`, `s = sigmoid(x)` | `s (1 + x (1 - s))` |
//! | GELU | `x Φ(x)`, `Φ(x) = (1 + erf(x / √2)) / 2` | `Φ(x) + x φ(x)`, `φ(x) = exp(-x²/2) / √(2π)` |
//! | GELU tanh | `x (1 + t) / 2`, `t = tanh(u)`, `u = √(2/π) (x + 0.044715 x³)` | `(1 + t)/2 + x (1 - t²) u' / 2` |
//! | ReLU | `max(x, 0)` | `1` where `x > 0`, else `0` |
//! | ReLU² | `max(x, 0)²` | `2 max(x, 0)` |
//!
//! Sources: Elfwing et al. 2017 (SiLU), Hendrycks & Gimpel 2016 (both GELUs), So et al. 2021 (ReLU²).

use crate::ops::activation::Activation;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

const GELU_CUBIC: f64 = 0.044715;

/// `1 / (1 + exp(-x))`, without overflow for any finite `x`.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// `Φ(x)`, by erfc so that the lower tail keeps its relative precision.
fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// `max(x, 0)`, except that NaN stays NaN.
fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// `f(x)`.
pub fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => x * normal_cdf(x),
        Activation::GeluTanh => {
            let u = (2.0 / PI).sqrt() * (x + GELU_CUBIC * x * x * x);
            0.5 * x * (1.0 + u.tanh())
        }
        Activation::Relu => relu(x),
        Activation::ReluSquared => relu(x) * relu(x),
    }
}

/// `f'(x)`.
pub fn derivative(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
        Activation::Gelu => normal_cdf(x) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt(),
        Activation::GeluTanh => {
            let c = (2.0 / PI).sqrt();
            let t = (c * (x + GELU_CUBIC * x * x * x)).tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * GELU_CUBIC * x * x)
        }
        Activation::Relu => f64::from(x > 0.0),
        Activation::ReluSquared => 2.0 * relu(x),
    }
}

/// `y[n] = f(x[n])`.
pub fn forward(activation: Activation, x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| value(activation, x)).collect()
}

/// `dx[n] = dy[n] f'(x[n])`.
pub fn backward(activation: Activation, x: &[f64], dy: &[f64]) -> Vec<f64> {
    x.iter().zip(dy).map(|(&x, dy)| dy * derivative(activation, x)).collect()
}

/// `min(max(x, -limit), limit)`: `clip_qkv` of OLMoE.
pub fn clamp(x: f64, limit: f64) -> f64 {
    x.clamp(-limit, limit)
}

/// 1 where [`clamp`] leaves `x` as it is, else 0.
pub fn clamp_derivative(x: f64, limit: f64) -> f64 {
    f64::from((-limit..=limit).contains(&x))
}

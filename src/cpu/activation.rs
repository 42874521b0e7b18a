//! The activations and their derivatives on vectors.

mod apply;

pub(super) use apply::{backward, clamp_backward, clamp_forward, forward};

use super::simd::Simd;
use crate::ops::activation::Activation;
use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// sqrt(2 / pi), the slope inside tanh-GELU.
const SQRT_2_OVER_PI: f32 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
/// The cubic term of tanh-GELU.
const CUBIC: f32 = 0.044715;

/// `f(x)`.
#[inline(always)]
pub fn value<S: Simd>(s: S, activation: Activation, x: S::F) -> S::F {
    let (zero, half, one) = (s.splat(0.0), s.splat(0.5), s.splat(1.0));
    match activation {
        Activation::Silu => x * s.sigmoid(x),
        Activation::Gelu => half * x * (one + s.erf(x * s.splat(FRAC_1_SQRT_2))),
        Activation::GeluTanh => half * x * (one + s.tanh(tanh_argument(s, x))),
        // NaN is the second argument, so it passes.
        Activation::Relu => s.max(zero, x),
        Activation::ReluSquared => {
            let r = s.max(zero, x);
            r * r
        }
    }
}

/// `(f(x), f'(x))`. The derivative of the two ReLUs at 0 is 0.
#[inline(always)]
pub fn value_and_derivative<S: Simd>(s: S, activation: Activation, x: S::F) -> (S::F, S::F) {
    let (zero, half, one) = (s.splat(0.0), s.splat(0.5), s.splat(1.0));
    match activation {
        Activation::Silu => {
            // f' = p + x p (1 - p) with p = sigmoid(x).
            let p = s.sigmoid(x);
            let y = x * p;
            (y, s.fma(y, one - p, p))
        }
        Activation::Gelu => {
            // f' = Phi(x) + x phi(x) with the normal distribution's Phi and density phi.
            let phi = s.exp(x * x * s.splat(-0.5)) * s.splat(0.5 * SQRT_2_OVER_PI);
            let cdf = half * (one + s.erf(x * s.splat(FRAC_1_SQRT_2)));
            (x * cdf, s.fma(x, phi, cdf))
        }
        Activation::GeluTanh => {
            let t = s.tanh(tanh_argument(s, x));
            let slope = s.fma(x * x, s.splat(3.0 * CUBIC * SQRT_2_OVER_PI), s.splat(SQRT_2_OVER_PI));
            let factor = half * (one + t);
            (x * factor, s.fma(half * x * (one - t * t), slope, factor))
        }
        Activation::Relu => (s.max(zero, x), s.select_lt(zero, x, one, zero)),
        Activation::ReluSquared => {
            let r = s.max(zero, x);
            (r * r, r + r)
        }
    }
}

/// `sqrt(2 / pi) (x + 0.044715 x^3)`.
#[inline(always)]
fn tanh_argument<S: Simd>(s: S, x: S::F) -> S::F {
    x * s.fma(x * x, s.splat(CUBIC * SQRT_2_OVER_PI), s.splat(SQRT_2_OVER_PI))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::Isa;
    use crate::cpu::simd::Kernel;

    const ALL: [Activation; 5] =
        [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::ReluSquared];

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::Relu => x.max(0.0),
            Activation::ReluSquared => x.max(0.0).powi(2),
        }
    }

    struct Both<'a>(Activation, &'a [f32], &'a mut [(f32, f32, f32)]);
    impl Kernel for Both<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for (&x, out) in self.1.iter().zip(self.2) {
                let x = s.splat(x);
                let (y, dy) = value_and_derivative(s, self.0, x);
                let at = |v: S::F| {
                    let mut lanes = [0.0; 16];
                    s.store(&mut lanes, v);
                    lanes[0]
                };
                *out = (at(value(s, self.0, x)), at(y), at(dy));
            }
        }
    }

    #[test]
    fn values_and_derivatives_agree_with_f64() {
        // 0 itself is left out: the ReLUs have no derivative there.
        let x: Vec<f32> = (-2000..2000).map(|i| (i as f32 + 0.5) * 6e-3).collect();
        for isa in Isa::available() {
            for activation in ALL {
                let mut found = vec![(0.0, 0.0, 0.0); x.len()];
                isa.dispatch(Both(activation, &x, &mut found));
                for (&x, &(value, y, dy)) in x.iter().zip(&found) {
                    let x = f64::from(x);
                    let h = 1e-5;
                    let slope = (exact(activation, x + h) - exact(activation, x - h)) / (2.0 * h);
                    let bound = 2e-6 * (1.0 + x.abs());
                    assert_eq!(value, y, "{activation:?} at {x}");
                    assert!(
                        (f64::from(y) - exact(activation, x)).abs() < bound,
                        "{isa:?} {activation:?} at {x}"
                    );
                    assert!(
                        (f64::from(dy) - slope).abs() < bound,
                        "{isa:?} {activation:?}' at {x}: {dy} {slope}"
                    );
                }
            }
        }
    }

    #[test]
    fn far_away_arguments_stay_finite_and_nan_passes() {
        for isa in Isa::available() {
            for activation in ALL {
                let mut found = [(0.0, 0.0, 0.0); 3];
                isa.dispatch(Both(activation, &[-1e4, 1e4, f32::NAN], &mut found));
                assert!(found[0].1.abs() == 0.0 && found[0].2.abs() == 0.0, "{activation:?} {found:?}");
                assert!(found[1].1 >= 1e4 && found[1].2 >= 1.0, "{activation:?} {found:?}");
                assert!(found[2].1.is_nan(), "{isa:?} {activation:?} {found:?}");
            }
        }
    }
}

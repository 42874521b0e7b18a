//! Transcendental functions from polynomials. The coefficients are minimax fits made for this file by iteratively
//! reweighted least squares in extended precision; each comment gives the interval and the error of the fit alone.

use super::Simd;

/// Horner's scheme, highest coefficient first.
#[inline(always)]
fn poly<S: Simd, const N: usize>(s: S, x: S::F, coefficients: [f32; N]) -> S::F {
    let mut p = s.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        p = s.fma(p, x, s.splat(c));
    }
    p
}

/// `e^x = 2^n e^r` with `n = round(x / ln 2)`, so that |r| <= ln 2 / 2.
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    // Beyond these bounds the result is 0 or infinite anyway. The constant comes first so that NaN passes through.
    let x = s.min(s.splat(90.0), s.max(s.splat(-105.0), x));
    let n = s.round(x * s.splat(std::f32::consts::LOG2_E));
    // ln 2 in two parts: n times the first, of 9 bits, is exact.
    let r = s.fma(n, s.splat(-355.0 / 512.0), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // (e^r - 1 - r) / r^2 on |r| <= 0.3466, relative error of e^r 5e-9.
    let p = poly(s, r, [1.395_048_8e-3, 8.368_888e-3, 4.166_620_6e-2, 1.666_651_8e-1, 0.5]);
    s.scale(s.fma(r * r, p, r) + s.splat(1.0), n)
}

/// An odd polynomial for small |x|, `1 - 2 / (e^(2|x|) + 1)` beyond.
#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let (one, magnitude) = (s.splat(1.0), s.abs(x));
    let z = x * x;
    // (tanh(x) / x - 1) / x^2 in z = x^2 <= 0.625^2, relative error of tanh 5e-9.
    let p = poly(s, z, [-5.717_014_4e-3, 2.065_056_2e-2, -5.374_349e-2, 1.333_149_1e-1, -3.333_328_4e-1]);
    let small = s.fma(x * z, p, x);
    let large = one - s.splat(2.0) / (s.exp(magnitude + magnitude) + one);
    s.select_lt(magnitude, s.splat(0.625), small, s.copysign(large, x))
}

/// An odd polynomial for |x| < 1, `1 - e^(-x^2) R(t)` with `t = 1 / (1 + |x| / 2)` beyond.
#[inline(always)]
pub(super) fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    let (one, magnitude) = (s.splat(1.0), s.abs(x));
    // erf(x) / x in z = x^2 <= 1, absolute error 1e-9 before the coefficients are rounded.
    let small = x * poly(
        s,
        x * x,
        [
            7.889_123e-5,
            -8.020_842e-4,
            5.189_535_7e-3,
            -2.685_444_4e-2,
            1.128_36e-1,
            -3.761_262_6e-1,
            std::f32::consts::FRAC_2_SQRT_PI,
        ],
    );
    // From 4.1 on erf is 1 in f32, which is also where the fit ends. NaN passes as the second argument.
    let bounded = s.min(s.splat(4.1), magnitude);
    let t = one / s.fma(bounded, s.splat(0.5), one);
    // e^(x^2) erfc(x) in t on 1 <= x <= 4.1, absolute error of erf 5e-10.
    let scaled = poly(
        s,
        t,
        [-2.308_016_1e-1, 6.366_798e-1, -6.446_041e-2, 3.968_019_5e-1, 2.597_006_6e-1, 1.822_477_4e-3],
    );
    let large = one - s.exp(-(bounded * bounded)) * scaled;
    s.select_lt(magnitude, one, small, s.copysign(large, x))
}

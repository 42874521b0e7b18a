//! Every backward of the reference against central finite differences, in f64, on small odd shapes.
//!
//! The objective is `Σ_i c_i out_i` with fixed pseudo-random `c`, so that a backward is asked for `Σ_i c_i dout_i/dx`.
//! With a step of 1e-5 the difference quotient is good to about 1e-9; gradients must agree to `1e-7 (1 + |g|)`.

mod dense;
mod experts;
mod losses;
mod router;
mod smoothing;
mod transformer;

/// `n` pseudo-random numbers in (-1, 1) (SplitMix64).
fn noise(n: usize, seed: u64) -> Vec<f64> {
    let number = |i: u64| {
        let mut z = (seed << 32 | i).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..n as u64).map(number).collect()
}

/// `Σ a_i b_i`.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Panics where `gradient` is not the gradient of `objective` at `x`.
#[track_caller]
fn check(what: &str, x: &[f64], gradient: &[f64], objective: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    assert_eq!(x.len(), gradient.len(), "{what}: length of the gradient");
    for i in 0..x.len() {
        let at = |delta: f64| {
            let mut x = x.to_vec();
            x[i] += delta;
            objective(&x)
        };
        let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        let bound = 1e-7 * (1.0 + expected.abs());
        assert!(
            (gradient[i] - expected).abs() <= bound,
            "{what}[{i}]: {} but differences say {expected}",
            gradient[i]
        );
    }
}

/// The check itself must be able to fail.
#[test]
#[should_panic(expected = "square[1]")]
fn a_wrong_gradient_is_found() {
    check("square", &[1.0, 2.0], &[2.0, 4.001], |x| dot(x, x));
}

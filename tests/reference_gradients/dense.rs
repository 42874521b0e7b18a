//! Activations, linear, router logits, embedding, normalisation.

use crate::{check, dot, noise};
use emo::ops::activation::Activation;
use emo::reference::{activation, embedding, linear, rms_norm, router_logits};

pub const ACTIVATIONS: [Activation; 5] =
    [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::ReluSquared];

#[test]
fn activations() {
    for f in ACTIVATIONS {
        let x: Vec<f64> = noise(41, 1).iter().map(|x| 6.0 * x).collect();
        let dy = noise(41, 2);
        let dx = activation::backward(f, &x, &dy);
        check(&format!("{f:?}"), &x, &dx, |x| dot(&dy, &activation::forward(f, x)));
    }
}

#[test]
fn activations_are_finite_far_out_and_right_at_known_points() {
    for f in ACTIVATIONS {
        for x in [-1e4, -40.0, 0.0, 40.0, 1e4] {
            assert!(
                activation::value(f, x).is_finite() && activation::derivative(f, x).is_finite(),
                "{f:?}({x})"
            );
        }
        assert!(activation::value(f, f64::NAN).is_nan(), "{f:?} hides NaN");
        assert_eq!(activation::value(f, 0.0), 0.0);
    }
    // x Φ(x) at 1, where Φ(1) = 0.841344746068543 (tables).
    assert!((activation::value(Activation::Gelu, 1.0) - 0.841_344_746_068_543).abs() < 1e-14);
    assert!((activation::value(Activation::Silu, 1.0) - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 1e-15);
}

#[test]
fn clamping() {
    let x: Vec<f64> = noise(41, 1).iter().map(|x| 3.0 * x).collect();
    let dx: Vec<f64> = x.iter().map(|x| activation::clamp_derivative(*x, 1.5)).collect();
    check("clamp", &x, &dx, |x| x.iter().map(|x| activation::clamp(*x, 1.5)).sum());
    assert!(dx.contains(&0.0) && dx.contains(&1.0), "both sides of the limit");
}

#[test]
fn linear_maps() {
    let (t, k, n) = (5, 3, 7);
    let (x, w, b, dy) = (noise(t * k, 1), noise(n * k, 2), noise(n, 3), noise(t * n, 4));
    let objective = |x: &[f64], w: &[f64], b: &[f64]| dot(&dy, &linear::forward(x, w, Some(b), k, n));
    check("dx", &x, &linear::dgrad(&dy, &w, k, n), |x| objective(x, &w, &b));
    check("dw", &w, &linear::wgrad(&x, &dy, k, n), |w| objective(&x, w, &b));
    check("db", &b, &linear::bgrad(&dy, n), |b| objective(&x, &w, b));

    let (dx, dw) = router_logits::backward(&x, &w, &dy, k, n);
    check("router dx", &x, &dx, |x| dot(&dy, &router_logits::forward(x, &w, k, n)));
    check("router dw", &w, &dw, |w| dot(&dy, &router_logits::forward(&x, w, k, n)));
}

#[test]
fn rms_norms() {
    let (t, d, eps) = (4, 7, 1e-3);
    let (x, w, dy) = (noise(t * d, 1), noise(d, 2), noise(t * d, 3));
    let (dx, dw) = rms_norm::backward(&x, &w, &dy, eps);
    check("dx", &x, &dx, |x| dot(&dy, &rms_norm::forward(x, &w, eps)));
    check("dw", &w, &dw, |w| dot(&dy, &rms_norm::forward(&x, w, eps)));
}

#[test]
fn embeddings_leave_the_pad_row_alone() {
    let (ids, d, vocabulary) = ([2, 0, 2, 1, 4], 3, 5);
    let (table, dy) = (noise(vocabulary * d, 1), noise(ids.len() * d, 2));
    let dtable = embedding::backward(&ids, &dy, vocabulary, d, None);
    check("dtable", &table, &dtable, |table| dot(&dy, &embedding::forward(&ids, table, d)));
    let padded = embedding::backward(&ids, &dy, vocabulary, d, Some(1));
    for (i, (with, without)) in padded.iter().zip(&dtable).enumerate() {
        assert_eq!(*with, if i / d == 1 { 0.0 } else { *without });
    }
}

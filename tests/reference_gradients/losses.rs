//! Auxiliary losses, with and without a mask of valid tokens.

use crate::{check, noise};
use emo::reference::losses::*;
use emo::reference::usage;

const TOKENS: usize = 7;
const ROUTED: usize = 5;

/// Positive rows that sum to about 1, well inside the domain of the logarithm.
fn probs(seed: u64) -> Vec<f64> {
    noise(TOKENS * ROUTED, seed).iter().map(|p| 0.2 + 0.15 * p).collect()
}

fn masks() -> [Option<Vec<bool>>; 3] {
    [None, Some(vec![true, true, false, true, true, true, false]), Some(vec![false; TOKENS])]
}

#[test]
fn balance_and_z() {
    let p = probs(1);
    for valid in masks() {
        let valid = valid.as_deref();
        let run = |p: &[f64]| load_balance(&[3, 0, 5, 1, 2], p, 2.5, 11.0, valid);
        check("load balance", &p, &run(&p).grad, |p| run(p).loss);
        let indices: Vec<u32> = (0..2 * TOKENS as u32).map(|i| i * i % 5).collect();
        let p2 = [probs(2), probs(3)].concat();
        let run = |p: &[f64]| load_balance_pooled(&indices, p, 2, 1, ROUTED, valid);
        check("pooled load balance", &p2, &run(&p2).grad, |p| run(p).loss);
        let lse = noise(TOKENS, 4);
        let run = |lse: &[f64]| router_z(lse, 3.0, valid);
        check("router z", &lse, &run(&lse).grad, |lse| run(lse).loss);
    }
    assert_eq!(load_balance(&[1, 1], &[], 1.0, 1.0, None), Loss { loss: 0.0, grad: vec![] });
    assert_eq!(router_z(&[2.0], 0.0, None), Loss { loss: 0.0, grad: vec![0.0] });
}

#[test]
fn perfect_balance_is_one_or_k() {
    let p = vec![0.25; 8 * 4];
    assert!((load_balance(&[4; 4], &p, 4.0 / 2.0, 8.0, None).loss - 1.0).abs() < 1e-15);
    let indices: Vec<u32> = (0..16).map(|slot| slot % 4).collect();
    assert!((load_balance_pooled(&indices, &p, 2, 2, 4, None).loss - 2.0).abs() < 1e-15);
}

#[test]
fn information() {
    let p = probs(1);
    for valid in masks() {
        let run = |p: &[f64]| mutual_information(p, ROUTED, 0.3, 0.7, valid.as_deref());
        check("mutual information", &p, &run(&p).grad, |p| run(p).loss);
        assert!(run(&p).loss.is_finite());
    }
    // Each token sure of an expert of its own: H(E|t) = 0, H(E) = ln 2.
    let sure = mutual_information(&[1.0, 0.0, 0.0, 1.0], 2, 1.0, 1.0, None);
    assert!(sure.conditional_entropy.abs() < 1e-9 && (sure.marginal_entropy - 2f64.ln()).abs() < 1e-9);
}

#[test]
fn consistency() {
    let p = probs(1);
    let (offsets, domains) = ([0, 1, 4, 4, 7], [2, 0, 0, 2]);
    for valid in masks() {
        let valid = valid.as_deref();
        let run = |p: &[f64]| sequence_consistency(p, ROUTED, &offsets, valid);
        check("sequence consistency", &p, &run(&p).grad, |p| run(p).loss);
        let run = |p: &[f64]| domain_consistency(p, ROUTED, &offsets, &domains, valid);
        check("domain consistency", &p, &run(&p).grad, |p| run(p).loss);
    }
    let all = domain_consistency(&p, ROUTED, &offsets, &domains, None).loss;
    assert!(all > 1e-3, "documents of a domain differ here");
    let alone = domain_consistency(&p, ROUTED, &offsets, &[0, 1, 2, 3], None);
    assert!(alone.loss < 1e-30, "a domain of one document is consistent with itself");
    // Three tokens in one document, a jump of (1, -1) between the last two: 2 / 2 pairs.
    let jump = sequence_consistency(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0], 2, &[0, 3], None);
    assert_eq!(jump.loss, 1.0);
    assert_eq!(
        sequence_consistency(&[1.0, 0.0, 0.0, 1.0], 2, &[0, 1, 2], None).loss,
        0.0,
        "not across documents"
    );
}

#[test]
fn redundancies() {
    let (k, d) = (3, 4);
    let rows = noise(TOKENS * k * d, 1);
    for valid in masks() {
        let run = |rows: &[f64]| redundancy(rows, k, d, valid.as_deref());
        check("redundancy", &rows, &run(&rows).grad, |rows| run(rows).loss);
    }
    assert!((redundancy(&[1.0, 2.0, -2.0, -4.0], 2, 2, None).loss - 1.0).abs() < 1e-11, "parallel");
    assert_eq!(redundancy(&[1.0, 0.0, 0.0, 4.0], 2, 2, None).loss, 0.0, "orthogonal");
    let zero = redundancy(&[0.0, 0.0, 3.0, 4.0], 2, 2, None);
    assert_eq!((zero.loss, zero.grad), (0.0, vec![0.0; 4]), "a row of zeros");
    assert_eq!(redundancy(&[1.0, 2.0], 1, 2, None).loss, 0.0, "one expert a token");
}

#[test]
fn usage_at_the_edges() {
    let even = usage::forward(&[4, 4, 4]);
    assert_eq!((even.max_over_mean, even.coefficient_of_variation, even.dead), (1.0, 0.0, 0));
    assert!((even.normalised_entropy - 1.0).abs() < 1e-15);
    let one = usage::forward(&[0, 9]);
    assert_eq!((one.max_over_mean, one.normalised_entropy, one.dead), (2.0, 0.0, 1));
    assert_eq!(usage::forward(&[7]).normalised_entropy, 1.0);
    let none = usage::forward(&[0, 0]);
    assert_eq!((none.max_over_mean, none.normalised_entropy, none.dead), (0.0, 0.0, 2));
}

//! Routers of every configuration, document pools, and the edges: ties, masks, forced and shared experts.

use crate::{check, dot, noise};
use emo::ops::router::{Normalise, RouterConfig, Score, SharedWeight};
use emo::reference::pool::{self, EosRule};
use emo::reference::router::{self, Output};

fn config(experts: usize, top_k: usize) -> RouterConfig {
    RouterConfig {
        experts,
        top_k,
        shared: 0,
        shared_weight: SharedWeight::One,
        score: Score::Softmax,
        temperature: 1.0,
        normalise: Normalise::None,
        always_active: vec![],
    }
}

/// Checks the logits' and the bias's gradient of a loss on weights, scores and logsumexp at once.
fn check_router(what: &str, cfg: &RouterConfig, selection_bias: Option<&[f64]>, keep: Option<&[bool]>) {
    let tokens = 5;
    let logits: Vec<f64> = noise(tokens * cfg.experts, 1).iter().map(|z| 2.0 * z).collect();
    let bias = noise(cfg.experts, 2);
    let forward = |z: &[f64], b: &[f64]| router::forward(cfg, z, Some(b), selection_bias, keep);
    let out = forward(&logits, &bias);
    let (dw, dp) = (noise(tokens * cfg.top_k, 3), noise(tokens * cfg.routed(), 4));
    let dlse = noise(tokens, 5);
    let grad = router::backward(cfg, &logits, Some(&bias), keep, &out, &dw, &dp, &dlse);
    let loss = |out: Output| dot(&dw, &out.weights) + dot(&dp, &out.probs) + dot(&dlse, &out.lse);
    check(&format!("{what}: dlogits"), &logits, &grad.dlogits, |z| loss(forward(z, &bias)));
    check(&format!("{what}: dbias"), &bias, &grad.dbias, |b| loss(forward(&logits, b)));
}

#[test]
fn every_composition() {
    let selection_bias = noise(9, 9);
    for score in [Score::Softmax, Score::Sigmoid] {
        for normalise in
            [Normalise::None, Normalise::Lp(1.0), Normalise::Lp(2.0), Normalise::Lp(0.5), Normalise::Lp(3.0)]
        {
            for (shared, shared_weight) in
                [(0, SharedWeight::One), (2, SharedWeight::One), (3, SharedWeight::Softmax)]
            {
                for always_active in [vec![], vec![3, 1]] {
                    let cfg = RouterConfig {
                        shared,
                        shared_weight,
                        score,
                        temperature: 0.7,
                        normalise,
                        always_active,
                        ..config(7 + shared, 3 + shared)
                    };
                    check_router(&format!("{cfg:?}"), &cfg, None, None);
                    check_router(&format!("{cfg:?} selection bias"), &cfg, Some(&selection_bias[..7]), None);
                    // One token each with every, no, one, two and four experts allowed; fewer than k in three of them.
                    let allowed: [&[usize]; 5] = [&[0, 1, 2, 3, 4, 5, 6], &[], &[5], &[0, 6], &[1, 2, 4, 5]];
                    let keep: Vec<bool> =
                        allowed.iter().flat_map(|a| (0..7).map(|e| a.contains(&e))).collect();
                    check_router(&format!("{cfg:?} masked"), &cfg, None, Some(&keep));
                }
            }
        }
    }
}

#[test]
fn one_expert_and_all_experts() {
    check_router("one expert", &config(1, 1), None, None);
    check_router("k = E", &RouterConfig { normalise: Normalise::Lp(1.0), ..config(4, 4) }, None, None);
    check_router("only shared", &RouterConfig { shared: 2, ..config(5, 2) }, None, None);
}

#[test]
fn no_tokens() {
    let cfg = config(5, 2);
    let out = router::forward(&cfg, &[], None, None, None);
    assert_eq!((out.probs.len(), out.weights.len(), out.counts), (0, 0, vec![0; 5]));
    let out = router::forward(&cfg, &[], None, None, None);
    let grad = router::backward(&cfg, &[], None, None, &out, &[], &[], &[]);
    assert_eq!((grad.dlogits.len(), grad.dbias), (0, vec![0.0; 5]));
}

#[test]
fn ties_and_fewer_than_k() {
    let cfg = config(6, 3);
    let tied = router::forward(&cfg, &[1.0, 2.0, 2.0, 0.0, 2.0, 2.0], None, None, None);
    assert_eq!(tied.indices, [1, 2, 4]);
    // Underflow makes ties of the rest, and scores are what is compared.
    let extreme = router::forward(&cfg, &[-1e4, -9e3, 1e4, 0.0, 5e3, -1e4], None, None, None);
    assert_eq!((extreme.indices, extreme.weights), (vec![2, 0, 1], vec![1.0, 0.0, 0.0]));
    // A mask and a logit of -inf forbid alike; the lowest forbidden experts fill up, and are counted.
    let keep = [false, false, false, false, true, false];
    let masked = router::forward(&cfg, &[1.0; 6], None, None, Some(&keep));
    assert_eq!((masked.indices.clone(), masked.weights.clone()), (vec![4, 0, 1], vec![1.0, 0.0, 0.0]));
    assert_eq!(masked.counts, [1, 1, 0, 0, 1, 0]);
    let infinite: Vec<f64> = keep.iter().map(|keep| if *keep { 1.0 } else { f64::NEG_INFINITY }).collect();
    assert_eq!(router::forward(&cfg, &infinite, None, None, None), masked);
}

#[test]
fn nothing_allowed_is_zero_not_nan() {
    for score in [Score::Softmax, Score::Sigmoid] {
        for normalise in [Normalise::None, Normalise::Lp(1.0), Normalise::Lp(2.0), Normalise::Lp(0.5)] {
            let cfg = RouterConfig { shared: 1, score, normalise, ..config(5, 3) };
            let (logits, keep) = ([3.0, -1.0, 2.0, 0.5, 1.0], [false; 4]);
            let out = router::forward(&cfg, &logits, None, None, Some(&keep));
            assert_eq!(
                (out.indices.as_slice(), out.weights.as_slice()),
                (&[0, 1, 4][..], &[0.0, 0.0, 1.0][..])
            );
            assert_eq!((out.probs.as_slice(), out.lse.as_slice()), (&[0.0; 4][..], &[0.0][..]));
            let grad = router::backward(&cfg, &logits, None, Some(&keep), &out, &[1.0; 3], &[1.0; 4], &[1.0]);
            assert_eq!(grad.dlogits, [0.0; 5], "{cfg:?}");
        }
    }
}

#[test]
fn the_order_of_slots() {
    let logits = [0.0, 3.0, 1.0, 2.0, 0.5, 1.5];
    let cfg = RouterConfig { shared: 2, always_active: vec![2, 0], ..config(6, 5) };
    let out = router::forward(&cfg, &logits, None, None, None);
    assert_eq!(out.indices, [2, 0, 1, 4, 5]);
    assert_eq!(&out.weights[3..], &[1.0, 1.0]);
    let softmax = RouterConfig { shared_weight: SharedWeight::Softmax, ..cfg };
    let out = router::forward(&softmax, &logits, None, None, None);
    assert_eq!(out.indices, [2, 0, 1, 5, 4]);
    assert!((out.weights[3] - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 1e-15);
    assert!((out.weights[3] + out.weights[4] - 1.0).abs() < 1e-15);
    assert_eq!(out.counts, [1, 1, 1, 0, 1, 1]);
}

#[test]
fn pools() {
    // Two documents over four routed experts and one shared: the first likes 2 and 0, the second 3 and 1.
    let logits = [2.0, 0.0, 3.0, 1.0, 9.0, 2.0, 0.0, 3.0, 1.0, 9.0, 0.0, 2.0, 1.0, 3.0, 9.0];
    let pool = |sizes: &[u32], forced| pool::forward(&logits, 5, 4, &[0, 2, 3], sizes, forced);
    let (t, f) = (true, false);
    assert_eq!(pool(&[1, 2], 0), [f, f, t, f, f, t, f, t]);
    assert_eq!(pool(&[4, 9], 0), [t; 8]);
    // The last expert is forced and counts inside the size, and stays where the size is smaller than the forced.
    assert_eq!(pool(&[2, 2], 1), [f, f, t, t, f, t, f, t]);
    assert_eq!(pool(&[1, 1], 2), [f, f, t, t, f, f, t, t]);
    assert_eq!(pool::select(&[1.0, 2.0, 2.0, 2.0], 4, &[2], 0), [f, t, t, f], "ties go to the lower index");
    assert_eq!(pool::per_token(&[t, f, f, t], 2, &[0, 2, 3]), [t, f, t, f, f, t]);
}

#[test]
fn documents_from_eos() {
    let offsets = |ids: &[u32], rows, rule| pool::segment_offsets_from_eos(ids, rows, 0, rule);
    // a b E c c E E d
    let ids = [1, 2, 0, 3, 3, 0, 0, 4];
    assert_eq!(offsets(&ids, 1, EosRule::OpensNext), [0, 2, 5, 6, 8]);
    assert_eq!(offsets(&ids, 1, EosRule::EndsDocument), [0, 3, 6, 7, 8]);
    // E a b E c, and an EOS at the end of a row.
    assert_eq!(offsets(&[0, 1, 2, 0, 3], 1, EosRule::OpensNext), [0, 3, 5]);
    assert_eq!(offsets(&[0, 1, 2, 0, 3], 1, EosRule::EndsDocument), [0, 1, 4, 5]);
    assert_eq!(offsets(&[1, 2, 0, 1, 2, 3], 2, EosRule::OpensNext), [0, 2, 3, 6]);
    assert_eq!(offsets(&[1, 2, 0, 0, 2, 3], 2, EosRule::EndsDocument), [0, 3, 4, 6]);
    assert_eq!(offsets(&[], 0, EosRule::OpensNext), [0]);
}

//! The routers of the field are values of one configuration. Each is checked against its own definition, written out here
//! independently of the library, on the CPU backend.

use emo::backend::Backend;
use emo::cpu::Cpu;
use emo::ops::router::{Forward, KeepMask, Normalise, RouterConfig, Score, SharedWeight};

struct Routed {
    probs: Vec<f32>,
    weights: Vec<f32>,
    indices: Vec<u32>,
    counts: Vec<u32>,
}

#[derive(Default)]
struct Extra<'a> {
    bias: Option<&'a [f32]>,
    selection_bias: Option<&'a [f32]>,
    keep: Option<&'a [u8]>,
}

fn route(config: &RouterConfig, logits: &[f32], extra: Extra<'_>) -> Routed {
    let tokens = logits.len() / config.experts;
    let mut out = Routed {
        probs: vec![0.0; tokens * config.routed()],
        weights: vec![0.0; tokens * config.top_k],
        indices: vec![0; tokens * config.top_k],
        counts: vec![0; config.experts],
    };
    let mut lse = vec![0.0; tokens];
    Cpu::new(2)
        .unwrap()
        .router_forward(Forward {
            config,
            tokens,
            logits,
            bias: extra.bias,
            selection_bias: extra.selection_bias,
            keep: extra.keep.map_or(KeepMask::All, KeepMask::<Cpu>::PerToken),
            probs: &mut out.probs,
            weights: &mut out.weights,
            indices: &mut out.indices,
            counts: &mut out.counts,
            lse: &mut lse,
        })
        .unwrap();
    out
}

const TOKENS: usize = 23;

fn logits(experts: usize) -> Vec<f32> {
    (0..TOKENS * experts).map(|i| ((i * 2654435761) % 1000) as f32 / 250.0 - 2.0).collect()
}

fn softmax(z: &[f32]) -> Vec<f64> {
    let sum: f64 = z.iter().map(|&z| f64::from(z).exp()).sum();
    z.iter().map(|&z| f64::from(z).exp() / sum).collect()
}

/// Experts in descending order of `score`, ties to the lower index.
fn ranked(score: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_by(|&a, &b| score[b].total_cmp(&score[a]));
    order
}

/// `chosen(logits of a token)` lists the token's experts and weights.
fn agrees(
    out: &Routed,
    k: usize,
    logits: &[f32],
    experts: usize,
    chosen: impl Fn(&[f32]) -> Vec<(usize, f64)>,
) {
    for (token, z) in logits.chunks(experts).enumerate() {
        let expected = chosen(z);
        assert_eq!(expected.len(), k);
        for (slot, (expert, weight)) in expected.into_iter().enumerate() {
            assert_eq!(out.indices[token * k + slot] as usize, expert, "token {token} slot {slot}");
            let found = f64::from(out.weights[token * k + slot]);
            assert!((found - weight).abs() < 1e-6, "token {token} slot {slot}: {found} against {weight}");
        }
    }
    assert_eq!(out.counts.iter().sum::<u32>() as usize, TOKENS * k);
}

#[test]
fn switch_sends_each_token_to_its_most_probable_expert_with_that_probability() {
    let z = logits(9);
    agrees(&route(&RouterConfig::softmax(9, 1), &z, Extra::default()), 1, &z, 9, |z| {
        let p = softmax(z);
        vec![(ranked(&p)[0], p[ranked(&p)[0]])]
    });
}

#[test]
fn gshard_and_mixtral_divide_the_top_two_by_their_sum() {
    let config = RouterConfig { normalise: Normalise::Lp(1.0), ..RouterConfig::softmax(8, 2) };
    let z = logits(8);
    agrees(&route(&config, &z, Extra::default()), 2, &z, 8, |z| {
        let p = softmax(z);
        let best = &ranked(&p)[..2];
        let sum: f64 = best.iter().map(|&expert| p[expert]).sum();
        best.iter().map(|&expert| (expert, p[expert] / sum)).collect()
    });
}

#[test]
fn olmoe_keeps_the_top_eight_probabilities_as_they_are() {
    let z = logits(64);
    agrees(&route(&RouterConfig::softmax(64, 8), &z, Extra::default()), 8, &z, 64, |z| {
        let p = softmax(z);
        ranked(&p)[..8].iter().map(|&expert| (expert, p[expert])).collect()
    });
}

#[test]
fn loss_free_balancing_chooses_by_biased_sigmoid_and_weighs_by_the_plain_one() {
    let config =
        RouterConfig { score: Score::Sigmoid, normalise: Normalise::Lp(1.0), ..RouterConfig::softmax(10, 3) };
    let correction: Vec<f32> = (0..10).map(|expert| (expert as f32 - 5.0) * 0.05).collect();
    let z = logits(10);
    let out = route(&config, &z, Extra { selection_bias: Some(&correction), ..Extra::default() });
    agrees(&out, 3, &z, 10, |z| {
        let s: Vec<f64> = z.iter().map(|&z| 1.0 / (1.0 + (-f64::from(z)).exp())).collect();
        let biased: Vec<f64> = s.iter().zip(&correction).map(|(s, &b)| s + f64::from(b)).collect();
        let best = &ranked(&biased)[..3];
        let sum: f64 = best.iter().map(|&expert| s[expert]).sum();
        best.iter().map(|&expert| (expert, s[expert] / sum)).collect()
    });
}

#[test]
fn temperature_divides_and_gate_bias_shifts_the_logits() {
    let config = RouterConfig { temperature: 0.5, ..RouterConfig::softmax(7, 2) };
    let bias: Vec<f32> = (0..7).map(|expert| if expert == 4 { 1.5 } else { 0.0 }).collect();
    let z = logits(7);
    agrees(&route(&config, &z, Extra { bias: Some(&bias), ..Extra::default() }), 2, &z, 7, |z| {
        let shifted: Vec<f32> = z.iter().zip(&bias).map(|(z, b)| (z + b) / 0.5).collect();
        let p = softmax(&shifted);
        ranked(&p)[..2].iter().map(|&expert| (expert, p[expert])).collect()
    });
}

#[test]
fn shared_experts_come_last_with_weight_one_or_with_a_softmax_of_their_own() {
    let z = logits(9);
    for shared_weight in [SharedWeight::One, SharedWeight::Softmax] {
        let config = RouterConfig { shared: 2, shared_weight, ..RouterConfig::softmax(9, 4) };
        agrees(&route(&config, &z, Extra::default()), 4, &z, 9, |z| {
            let p = softmax(&z[..7]);
            let mut slots: Vec<(usize, f64)> =
                ranked(&p)[..2].iter().map(|&expert| (expert, p[expert])).collect();
            match shared_weight {
                SharedWeight::One => slots.extend([(7, 1.0), (8, 1.0)]),
                SharedWeight::Softmax => {
                    let own = softmax(&z[7..]);
                    slots.extend(ranked(&own).into_iter().map(|shared| (7 + shared, own[shared])));
                }
            }
            slots
        });
    }
}

#[test]
fn forced_experts_are_taken_by_every_token_before_the_best_of_the_rest() {
    let config = RouterConfig { always_active: vec![5, 1], ..RouterConfig::softmax(8, 4) };
    let z = logits(8);
    agrees(&route(&config, &z, Extra::default()), 4, &z, 8, |z| {
        let p = softmax(z);
        let rest = ranked(&p).into_iter().filter(|expert| ![5, 1].contains(expert)).take(2);
        [5, 1].into_iter().chain(rest).map(|expert| (expert, p[expert])).collect()
    });
}

#[test]
fn inside_a_pool_probabilities_sum_to_one_and_a_pool_of_everything_changes_nothing() {
    let config = RouterConfig { shared: 1, ..RouterConfig::softmax(13, 4) };
    let z = logits(13);
    let keep: Vec<u8> = (0..TOKENS * 12).map(|i| u8::from((i % 12) % 3 != 0)).collect();
    let pooled = route(&config, &z, Extra { keep: Some(&keep), ..Extra::default() });
    for (p, keep) in pooled.probs.chunks(12).zip(keep.chunks(12)) {
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(p.iter().zip(keep).all(|(&p, &keep)| keep == 1 || p == 0.0));
    }
    let everything = vec![1; TOKENS * 12];
    let (all, plain) = (
        route(&config, &z, Extra { keep: Some(&everything), ..Extra::default() }),
        route(&config, &z, Extra::default()),
    );
    assert_eq!((all.indices, all.weights), (plain.indices, plain.weights));
}

#[test]
fn contradictory_configurations_are_refused_by_field() {
    let base = RouterConfig::softmax(8, 2);
    let cases = [
        ("top_k", RouterConfig { top_k: 9, ..base.clone() }),
        ("top_k", RouterConfig { shared: 2, ..base.clone() }),
        ("shared", RouterConfig { shared: 8, ..base.clone() }),
        ("temperature", RouterConfig { temperature: 0.0, ..base.clone() }),
        ("temperature", RouterConfig { temperature: f64::NAN, ..base.clone() }),
        ("normalise", RouterConfig { normalise: Normalise::Lp(0.0), ..base.clone() }),
        ("always_active", RouterConfig { always_active: vec![1, 1], ..base.clone() }),
        ("always_active", RouterConfig { always_active: vec![8], ..base.clone() }),
    ];
    for (field, config) in cases {
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(&format!("`{field}`")), "{error}");
    }
}

//! Which experts are chosen follows the exact scores, also where f32 scores underflow, saturate or round to one value.

use crate::device::{hold, reals, segments, unset, unset_indices};
use emo::Backend;
use emo::cpu::Cpu;
use emo::cpu::isa::Isa;
use emo::ops::pool::Keep;
use emo::ops::router::{Forward, KeepMask, RouterConfig, Score};
use emo::oracle::Oracle;
use emo::reference;
use proptest::prelude::*;

fn chosen<B: Backend>(b: &B, config: &RouterConfig, logits: &[f64], bias: Option<&[f64]>) -> Vec<u32> {
    routed(b, config, logits, bias).0
}

/// Chosen experts, and scores, weights and log-sum-exps one after the other, and counts.
fn routed<B: Backend>(
    b: &B,
    config: &RouterConfig,
    logits: &[f64],
    bias: Option<&[f64]>,
) -> (Vec<u32>, Vec<f64>, Vec<u32>) {
    let tokens = logits.len() / config.experts;
    let bias = bias.map(|bias| reals(b, bias));
    let mut indices = unset_indices(b, tokens * config.top_k);
    let (mut probs, mut weights) = (unset(b, tokens * config.routed()), unset(b, tokens * config.top_k));
    let (mut counts, mut lse) = (unset_indices(b, config.experts), unset(b, tokens));
    b.router_forward(Forward {
        config,
        tokens,
        logits: reals(b, logits).all(),
        bias: bias.as_ref().map(|bias| bias.all()),
        selection_bias: None,
        keep: KeepMask::All,
        probs: probs.all_mut(),
        weights: weights.all_mut(),
        indices: indices.all_mut(),
        counts: counts.all_mut(),
        lse: lse.all_mut(),
    })
    .unwrap();
    (indices.get(), [probs.reals(), weights.reals(), lse.reals()].concat(), counts.get())
}

/// The CPU routes many tokens of the commonest router together; a bias of zeros keeps it from that.
#[test]
fn the_commonest_router_gives_the_bits_of_the_general_one() {
    // Few values, so that ties abound; now and then a token with many candidates, one without a rank, one that underflows.
    let logit = |token: usize, expert: usize| match token % 11 {
        3 => 1.5,
        5 => f64::NEG_INFINITY,
        7 => -400.0 * (expert % 5) as f64,
        _ => f64::from(((token * 7919 + expert * 104_729) % 1009 % 97) as f32 / 16.0),
    };
    for (experts, top_k, shared) in [(128, 8, 0), (40, 5, 2), (9, 8, 0), (512, 8, 1), (513, 3, 0), (7, 2, 1)]
    {
        let config = RouterConfig { shared, ..RouterConfig::softmax(experts, top_k) };
        let logits: Vec<f64> = (0..83 * experts).map(|i| logit(i / experts, i % experts)).collect();
        let zeros = vec![0.0; experts];
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(2, isa).unwrap();
            let (plain, general) =
                (routed(&cpu, &config, &logits, None), routed(&cpu, &config, &logits, Some(&zeros)));
            assert_eq!(plain.0, general.0, "{isa:?}, {experts} experts");
            let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&plain.1), bits(&general.1), "{isa:?}, {experts} experts");
            assert_eq!(plain.2, general.2, "{isa:?}, {experts} experts");
            let counted: Vec<u32> =
                (0..experts as u32).map(|e| plain.0.iter().filter(|&&x| x == e).count() as u32).collect();
            assert_eq!(plain.2, counted);
        }
    }
}

#[test]
fn scores_beyond_f32_still_order_the_experts() {
    let softmax = |temperature| RouterConfig { temperature, ..RouterConfig::softmax(3, 2) };
    let sigmoid = RouterConfig { score: Score::Sigmoid, ..RouterConfig::softmax(3, 2) };
    let ulp = f64::from(f32::from_bits(1.0f32.to_bits() + 1));
    for (config, logits, expected) in [
        // f32 has no e^-150, f64 has.
        (softmax(1.0), [0.0, -200.0, -150.0], [0, 2]),
        // f64 has no e^-800 either: a tie.
        (softmax(1.0), [0.0, -1e4, -800.0], [0, 1]),
        (softmax(0.1), [0.0, -90.0, -80.0], [0, 1]),
        (softmax(0.3), [1.0, 1.0, ulp], [2, 0]),
        (sigmoid.clone(), [20.0, 25.0, 30.0], [2, 1]),
        (sigmoid.clone(), [40.0, 50.0, 1e4], [0, 1]),
        (sigmoid, [-1e4, -200.0, -150.0], [2, 1]),
    ] {
        assert_eq!(chosen(&Oracle, &config, &logits, None), expected, "reference {logits:?}");
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(1, isa).unwrap();
            assert_eq!(chosen(&cpu, &config, &logits, None), expected, "{isa:?} {config:?} {logits:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Logits a few units in the last place apart, where f32 scores would tie or change places.
    #[test]
    fn near_ties_are_decided_as_in_f64(
        steps in prop::collection::vec(0u32..4, 40),
        bias in prop::collection::vec(-1.0f32..1.0, 10),
        temperature in prop::sample::select(vec![0.3, 0.5, 1.0, 1.7]),
        sigmoid in any::<bool>(),
        biased in any::<bool>(),
    ) {
        let logits: Vec<f64> = steps.iter().map(|step| f64::from(f32::from_bits(1.7f32.to_bits() + step))).collect();
        let bias: Vec<f64> = bias.into_iter().map(f64::from).collect();
        let bias = biased.then_some(bias.as_slice());
        let score = if sigmoid { Score::Sigmoid } else { Score::Softmax };
        let config = RouterConfig { score, temperature, ..RouterConfig::softmax(10, 4) };
        let expected = reference::router::forward(&config, &logits, bias, None, None).indices;
        for isa in Isa::available() {
            prop_assert_eq!(&chosen(&Cpu::with_isa(1, isa).unwrap(), &config, &logits, bias), &expected);
        }
    }
}

/// `(keep, scores)` of two documents of two tokens each over three experts.
fn pools<B: Backend>(b: &B, bias: Option<&[f64]>, temperature: f64) -> (Vec<u8>, Vec<f64>) {
    const LOGITS: [f64; 12] = [1.0, 0.0, 0.5, 0.0, 0.25, 0.5, 3.0, 0.0, 1.9, 0.0, 0.0, 1.9];
    let bias = bias.map(|bias| reals(b, bias));
    let (mut keep, mut scores) = (hold(b, &[7u8; 6]), unset(b, 6));
    b.pool_keep(Keep {
        tokens: 4,
        experts: 3,
        routed: 3,
        forced: 0,
        segments: segments(b, &[0, 2, 4]).all(),
        logits: reals(b, &LOGITS).all(),
        bias: bias.as_ref().map(|bias| bias.all()),
        temperature,
        sizes: hold(b, &[1, 1]).all(),
        keep: keep.all_mut(),
        scores: scores.all_mut(),
        entropy: None,
    })
    .unwrap();
    (keep.get(), scores.reals())
}

#[test]
fn pools_are_made_of_the_scores_that_tokens_route_by() {
    let bias = [0.0, 2.0, 0.0];
    let cases = [(None, 1.0), (Some(bias.as_slice()), 1.0), (None, 0.25), (None, 4.0), (Some(&bias), 0.5)];
    let kept: Vec<Vec<u8>> = cases.iter().map(|&(bias, t)| pools(&Oracle, bias, t).0).collect();
    assert_ne!(kept[0], kept[1], "the bias must matter");
    for ((bias, temperature), kept) in cases.into_iter().zip(&kept) {
        // The document's score is the sum of its tokens' scores in the router.
        let (_, expected) = pools(&Oracle, bias, temperature);
        for isa in Isa::available() {
            let (keep, scores) = pools(&Cpu::with_isa(2, isa).unwrap(), bias, temperature);
            assert_eq!(&keep, kept, "{isa:?} {bias:?} {temperature}");
            for (found, expected) in scores.iter().zip(&expected) {
                assert!((found - expected).abs() <= 2e-6 * (1.0 + expected), "{isa:?}: {found} {expected}");
            }
        }
        let config = RouterConfig { temperature, ..RouterConfig::softmax(3, 1) };
        let logits = [1.0, 0.0, 0.5, 0.0, 0.25, 0.5];
        let probs = reference::router::forward(&config, &logits, bias, None, None).probs;
        for expert in 0..3 {
            assert!((expected[expert] - (probs[expert] + probs[3 + expert])).abs() < 1e-12);
        }
    }
}

#[test]
fn entropies_of_documents_are_those_of_their_normalised_scores() {
    // All alike, one expert alone, halves, nothing.
    let scores = [3.0, 3.0, 3.0, 3.0, 0.0, 7.0, 0.0, 0.0, 2.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0];
    let found = emo::reference::pool::entropies(&scores, 4);
    for (found, expected) in found.iter().zip([4f64.ln(), 0.0, 2f64.ln(), 0.0]) {
        assert!((found - expected).abs() < 1e-15, "{found}, expected {expected}");
    }
    assert!(emo::reference::pool::entropies(&[1.0, f64::NAN], 2)[0].is_nan());
}

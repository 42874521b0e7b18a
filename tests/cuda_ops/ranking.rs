//! The router and the pools choose the experts that f64 scores choose, and what they say to inputs beyond their limits.

use crate::agree::values;
use crate::device::{hold, reals, segments, unset, unset_indices};
use crate::gpu::gpu;
use emo::ops::pool::Keep;
use emo::ops::router::{Backward, Forward, KeepMask, RouterConfig, Score};
use emo::ops::segments::Segments;
use emo::oracle::Oracle;
use emo::{Backend, Error, Result};

struct Inputs<'a> {
    logits: &'a [f64],
    bias: Option<&'a [f64]>,
    selection_bias: Option<&'a [f64]>,
}

fn route<B: Backend>(b: &B, config: &RouterConfig, inputs: &Inputs<'_>) -> Result<Vec<u32>> {
    let tokens = inputs.logits.len() / config.experts;
    let bias = inputs.bias.map(|bias| reals(b, bias));
    let selection_bias = inputs.selection_bias.map(|bias| reals(b, bias));
    let mut indices = unset_indices(b, tokens * config.top_k);
    b.router_forward(Forward {
        config,
        tokens,
        logits: reals(b, inputs.logits).all(),
        bias: bias.as_ref().map(|bias| bias.all()),
        selection_bias: selection_bias.as_ref().map(|bias| bias.all()),
        keep: KeepMask::All,
        probs: unset(b, tokens * config.routed()).all_mut(),
        weights: unset(b, tokens * config.top_k).all_mut(),
        indices: indices.all_mut(),
        counts: unset_indices(b, config.experts).all_mut(),
        lse: unset(b, tokens).all_mut(),
    })?;
    Ok(indices.get())
}

/// Logits a few units in the last place apart, far down where f32 scores underflow, and high up where a sigmoid saturates:
/// f32 keys cannot tell, and the scores decide.
#[test]
fn scores_decide_where_f32_cannot_tell() {
    let Some(cuda) = gpu::<f32>() else { return };
    const EXPERTS: usize = 10;
    let few_steps = |base: f32, unit: u32| {
        let step = move |v: &f64| f64::from(f32::from_bits(base.to_bits() + unit * ((v + 1.0) * 2.0) as u32));
        values(64 * EXPERTS, 3).iter().map(step).collect::<Vec<_>>()
    };
    let scattered = |scale: f64| -> Vec<f64> {
        values(64 * EXPERTS, 4).iter().map(|v| f64::from((v * scale) as f32)).collect()
    };
    let inputs =
        [few_steps(1.7, 1), few_steps(-1e-20, 1 << 18), few_steps(38.0, 9), scattered(900.0), scattered(1e4)];
    let bias: Vec<f64> = values(EXPERTS, 5);
    let nothing = [0.0; EXPERTS];
    for logits in &inputs {
        for score in [Score::Softmax, Score::Sigmoid] {
            for temperature in [0.3, 1.0, 1.7] {
                for (bias, selection_bias) in
                    [(None, None), (Some(bias.as_slice()), None), (None, Some(nothing.as_slice()))]
                {
                    let config = RouterConfig { score, temperature, ..RouterConfig::softmax(EXPERTS, 4) };
                    let inputs = Inputs { logits, bias, selection_bias };
                    let expected = route(&Oracle, &config, &inputs).unwrap();
                    assert_eq!(
                        route(&cuda, &config, &inputs).unwrap(),
                        expected,
                        "{score:?} at {temperature}, biased: {}, corrected: {}, {:?}..",
                        bias.is_some(),
                        selection_bias.is_some(),
                        &logits[..4]
                    );
                }
            }
        }
    }
}

#[test]
fn more_than_the_registers_hold_is_an_error_that_names_the_limit() {
    let Some(cuda) = gpu::<f32>() else { return };
    for (experts, top_k, limit) in [(1025, 2, "1024"), (40, 33, "32")] {
        let inputs = Inputs { logits: &vec![0.0; experts], bias: None, selection_bias: None };
        let error = route(&cuda, &RouterConfig::softmax(experts, top_k), &inputs).unwrap_err().to_string();
        assert!(error.contains(limit), "{error}");
    }
}

#[test]
fn indices_out_of_range_are_reported_at_the_next_wait() {
    let Some(cuda) = gpu::<f32>() else { return };
    let config = RouterConfig::softmax(4, 2);
    let logits = reals(&cuda, &[0.0, 1.0, 2.0, 3.0, 0.5, 0.25, 0.125, 0.0]);
    let (offsets, of_token) = (hold(&cuda, &[0, 2]), hold(&cuda, &[0, 9]));
    let (mut probs, mut weights) = (unset(&cuda, 8), unset(&cuda, 4));
    let (mut indices, mut lse) = (unset_indices(&cuda, 4), unset(&cuda, 2));
    cuda.router_forward(Forward {
        config: &config,
        tokens: 2,
        logits: logits.all(),
        bias: None,
        selection_bias: None,
        keep: KeepMask::PerSegment(
            hold(&cuda, &[1u8; 4]).all(),
            Segments { offsets: offsets.all(), of_token: of_token.all() },
        ),
        probs: probs.all_mut(),
        weights: weights.all_mut(),
        indices: indices.all_mut(),
        counts: unset_indices(&cuda, 4).all_mut(),
        lse: lse.all_mut(),
    })
    .unwrap();
    let expected =
        Error::Index { op: "router_forward", arg: "segments.of_token", position: 1, bound: 1, found: 9 };
    assert_eq!(cuda.synchronize(), Err(expected));
    // The token without a segment may use nothing: the lowest experts with weight 0.
    assert_eq!((indices.get(), lse.get()[1]), (vec![3, 2, 0, 1], 0.0));

    cuda.router_backward(Backward {
        config: &config,
        tokens: 2,
        logits: logits.all(),
        bias: None,
        keep: KeepMask::All,
        probs: probs.all(),
        weights: weights.all(),
        indices: hold(&cuda, &[3, 2, 4, 1]).all(),
        lse: lse.all(),
        dweights: reals(&cuda, &[1.0; 4]).all(),
        dprobs: None,
        z_coefficient: 0.0,
        dlogits: unset(&cuda, 8).all_mut(),
        dbias: None,
    })
    .unwrap();
    let expected = Error::Index { op: "router_backward", arg: "indices", position: 2, bound: 4, found: 4 };
    assert_eq!(cuda.synchronize(), Err(expected));

    let of_token = segments(&cuda, &[0, 2]);
    cuda.pool_keep(Keep {
        tokens: 2,
        experts: 4,
        routed: 4,
        forced: 0,
        segments: Segments { offsets: hold(&cuda, &[0, 7]).all(), of_token: of_token.all().of_token },
        logits: logits.all(),
        bias: None,
        temperature: 1.0,
        sizes: hold(&cuda, &[2]).all(),
        keep: hold(&cuda, &[0u8; 4]).all_mut(),
        scores: unset(&cuda, 4).all_mut(),
        entropy: None,
    })
    .unwrap();
    let expected = Error::Index { op: "pool_keep", arg: "segments.offsets", position: 1, bound: 3, found: 7 };
    assert_eq!(cuda.synchronize(), Err(expected));
}

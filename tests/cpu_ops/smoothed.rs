//! Smoothing in front of the router and of document pools, and the pools' sizes.

use crate::agree::{Call, Outputs, values, widen};
use crate::device::{hold, reals, segments, unset, unset_indices};
use crate::machines::agree;
use emo::ops::router::{KeepMask, RouterConfig, SharedWeight};
use emo::ops::{pool, router, smoothing};
use emo::{Backend, Error};

/// Documents of 1, 70 and 130 tokens and one of two, so that they cross the tiles and the blocks that kernels cut.
const OFFSETS: [u32; 6] = [0, 1, 71, 71, 201, 203];
const TOKENS: usize = 203;
const EXPERTS: usize = 37;

/// A pool of smoothed logits, then a router on logits that are smoothed once more, inside the pools.
struct Smoothed {
    shape: smoothing::Shape,
}

impl Call for Smoothed {
    fn name(&self) -> String {
        format!("smoothed {:?}", self.shape)
    }
    fn terms(&self) -> f64 {
        TOKENS as f64
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let shape = self.shape;
        let taps = if shape.depthwise { EXPERTS * shape.width } else { shape.width };
        let taps: Vec<f64> = values(taps, 1).iter().map(|tap| f64::from((0.6 + 0.4 * tap) as f32)).collect();
        let logits: Vec<f64> = values(TOKENS * EXPERTS, 2).iter().map(|z| 4.0 * z).collect();
        let (taps, logits, segments) = (reals(b, &taps), reals(b, &logits), segments(b, &OFFSETS));
        let config = RouterConfig {
            shared: 2,
            shared_weight: SharedWeight::Softmax,
            ..RouterConfig::softmax(EXPERTS, 6)
        };
        let (routed, documents) = (config.routed(), OFFSETS.len() - 1);

        let mut for_pool = unset(b, TOKENS * EXPERTS);
        let (mut keep, mut scores) = (hold(b, &vec![7u8; documents * routed]), unset(b, documents * routed));
        let mut entropy = unset(b, documents);
        let sizes: Vec<u32> = (0..documents as u32).map(|i| 7 + 5 * i).collect();
        b.smoothed_pool(smoothing::Pool {
            smoothing: smoothing::InFront {
                shape,
                segments: segments.all(),
                taps: taps.all(),
                smoothed: for_pool.all_mut(),
            },
            pool: pool::Keep {
                tokens: TOKENS,
                experts: EXPERTS,
                routed,
                forced: 1,
                segments: segments.all(),
                logits: logits.all(),
                bias: None,
                temperature: 1.0,
                sizes: hold(b, &sizes).all(),
                keep: keep.all_mut(),
                scores: scores.all_mut(),
                entropy: Some(entropy.all_mut()),
            },
        })
        .unwrap();

        let mut for_router = unset(b, TOKENS * EXPERTS);
        let (mut probs, mut weights) = (unset(b, TOKENS * routed), unset(b, TOKENS * config.top_k));
        let (mut indices, mut counts) = (unset_indices(b, TOKENS * config.top_k), unset_indices(b, EXPERTS));
        let mut lse = unset(b, TOKENS);
        b.smoothed_router(smoothing::Router {
            smoothing: smoothing::InFront {
                shape,
                segments: segments.all(),
                taps: taps.all(),
                smoothed: for_router.all_mut(),
            },
            router: router::Forward {
                config: &config,
                tokens: TOKENS,
                logits: logits.all(),
                bias: None,
                selection_bias: None,
                keep: KeepMask::PerSegment(keep.all(), segments.all()),
                probs: probs.all_mut(),
                weights: weights.all_mut(),
                indices: indices.all_mut(),
                counts: counts.all_mut(),
                lse: lse.all_mut(),
            },
        })
        .unwrap();
        vec![
            ("smoothed for the pool", for_pool.reals()),
            ("keep", keep.get().into_iter().map(f64::from).collect()),
            ("scores", scores.reals()),
            ("entropy", entropy.reals()),
            ("smoothed for the router", for_router.reals()),
            ("probs", probs.reals()),
            ("weights", weights.reals()),
            ("indices", widen(&indices.get())),
            ("counts", widen(&counts.get())),
            ("lse", lse.reals()),
        ]
    }
}

#[test]
fn smoothing_in_front_is_smoothing_first() {
    for (width, ahead, depthwise, renormalise) in
        [(1, 0, false, false), (3, 1, true, false), (5, 0, false, true), (9, 4, true, true)]
    {
        let shape =
            smoothing::Shape { tokens: TOKENS, channels: EXPERTS, width, ahead, depthwise, renormalise };
        agree(&Smoothed { shape });
    }
}

/// Bounds of the sizes, which the draw takes in either order.
struct Sizes(u32, u32);

impl Call for Sizes {
    fn name(&self) -> String {
        format!("pool sizes of {}..={}", self.0, self.1)
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let documents: Vec<u64> = (0..300).map(|i| i * i * 0x1_0000_0001).collect();
        let mut sizes = unset_indices(b, documents.len());
        b.pool_sizes(pool::Sizes {
            seed: 0xfeed_0000_0000_0001,
            step: 7,
            layer: 3,
            min: self.0,
            max: self.1,
            documents: hold(b, &documents).all(),
            sizes: sizes.all_mut(),
        })
        .unwrap();
        let sizes = sizes.get();
        let draw = |&document| pool::draw_size(0xfeed_0000_0000_0001, 7, 3, document, self.0, self.1);
        assert_eq!(sizes, documents.iter().map(draw).collect::<Vec<_>>(), "{}", b.describe());
        vec![("sizes", widen(&sizes))]
    }
}

#[test]
fn sizes_are_drawn_alike_everywhere() {
    for (min, max) in [(8, 127), (127, 8), (5, 5), (0, u32::MAX)] {
        agree(&Sizes(min, max));
    }
}

#[test]
fn smoothing_of_other_logits_is_an_error() {
    let shape =
        smoothing::Shape { tokens: 2, channels: 4, width: 3, ahead: 0, depthwise: false, renormalise: false };
    let b = emo::oracle::Oracle;
    for (shape, named) in [
        (smoothing::Shape { tokens: 1, ..shape }, "shape.tokens"),
        (smoothing::Shape { channels: 5, ..shape }, "shape.channels"),
        (smoothing::Shape { width: 10, ..shape }, "width"),
        (smoothing::Shape { depthwise: true, ..shape }, "taps"),
    ] {
        let (config, segments) = (RouterConfig::softmax(4, 2), segments(&b, &[0, 2]));
        let error = b.smoothed_router(smoothing::Router {
            smoothing: smoothing::InFront {
                shape,
                segments: segments.all(),
                taps: reals(&b, &[1.0; 3]).all(),
                smoothed: unset(&b, 8).all_mut(),
            },
            router: router::Forward {
                config: &config,
                tokens: 2,
                logits: reals(&b, &[0.0; 8]).all(),
                bias: None,
                selection_bias: None,
                keep: KeepMask::All,
                probs: unset(&b, 8).all_mut(),
                weights: unset(&b, 4).all_mut(),
                indices: unset_indices(&b, 4).all_mut(),
                counts: unset_indices(&b, 4).all_mut(),
                lse: unset(&b, 2).all_mut(),
            },
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("smoothed_router") && error.contains(named), "{error}");
    }
}

#[test]
fn pools_of_other_logits_are_an_error() {
    let shape =
        smoothing::Shape { tokens: 2, channels: 4, width: 3, ahead: 0, depthwise: false, renormalise: false };
    let b = emo::oracle::Oracle;
    // The shape, how many smoothed logits there is room for, and entropies; the argument that is wrong, if any.
    for (shape, smoothed, entropies, named) in [
        (shape, 8, 1, None),
        (smoothing::Shape { tokens: 1, ..shape }, 8, 1, Some(("smoothed_pool", "shape.tokens"))),
        (smoothing::Shape { channels: 5, ..shape }, 8, 1, Some(("smoothed_pool", "shape.channels"))),
        (smoothing::Shape { ahead: 3, ..shape }, 8, 1, Some(("smoothed_pool", "ahead"))),
        (smoothing::Shape { depthwise: true, ..shape }, 8, 1, Some(("smoothed_pool", "taps"))),
        (shape, 7, 1, Some(("smoothed_pool", "smoothed"))),
        (shape, 8, 2, Some(("pool_keep", "entropy"))),
    ] {
        let segments = segments(&b, &[0, 2]);
        let result = b.smoothed_pool(smoothing::Pool {
            smoothing: smoothing::InFront {
                shape,
                segments: segments.all(),
                taps: reals(&b, &[1.0; 3]).all(),
                smoothed: unset(&b, smoothed).all_mut(),
            },
            pool: pool::Keep {
                tokens: 2,
                experts: 4,
                routed: 4,
                forced: 0,
                segments: segments.all(),
                logits: reals(&b, &[0.0; 8]).all(),
                bias: None,
                temperature: 1.0,
                sizes: hold(&b, &[2]).all(),
                keep: hold(&b, &[7u8; 4]).all_mut(),
                scores: unset(&b, 4).all_mut(),
                entropy: Some(unset(&b, entropies).all_mut()),
            },
        });
        let found = result.err().map(|error| match error {
            Error::Length { op, arg, .. } | Error::Argument { op, arg, .. } => (op, arg),
            other => panic!("{other}"),
        });
        assert_eq!(found, named);
    }
}

#[test]
fn as_many_sizes_as_documents() {
    let b = emo::oracle::Oracle;
    let error = b.pool_sizes(pool::Sizes {
        seed: 1,
        step: 2,
        layer: 3,
        min: 4,
        max: 5,
        documents: hold(&b, &[1u64, 2, 3]).all(),
        sizes: unset_indices(&b, 2).all_mut(),
    });
    assert_eq!(error, Err(Error::Length { op: "pool_sizes", arg: "sizes", expected: 3, found: 2 }));
}

//! No argument makes an op panic: index buffers that contradict each other, values that are not finite and shapes whose
//! sizes overflow are errors (or results) on every backend that can be had without a device.

#[allow(dead_code)]
#[path = "../common/device.rs"]
mod device;
#[cfg(feature = "cuda")]
#[path = "../common/gpu.rs"]
mod gpu;
mod random;

use device::{Held, hold, reals, unset, unset_indices};
use emo::backend::Real;
use emo::cpu::Cpu;
use emo::cpu::gemm::serial::{Layout, Strided, matmul, scratch_len};
use emo::cpu::isa::Isa;
use emo::ops::activation::Activation;
use emo::ops::router::{KeepMask, RouterConfig, SharedWeight};
use emo::ops::segments::Segments;
use emo::ops::{
    activation, adamw, attention, embedding, experts, grouped_gemm, linear, losses, permutation, rms_norm,
    rope, router, router_logits, smoothing,
};
use emo::oracle::Oracle;
use emo::{Backend, Error};

/// Shapes whose sizes wrap around, with the buffers that a wrapped size would ask for.
fn absurd<B: Backend>(b: &B) {
    const HUGE: usize = 1 << 63;
    let none = unset_indices(b, 0);
    let zero = hold(b, &[0u32]);
    let refused =
        |result: emo::Result<()>| assert!(matches!(result, Err(Error::Argument { .. })), "{result:?}");

    // 2 * 2^63 = 0 columns of a gated pre-activation.
    let shape = activation::Shape { rows: 0, width: HUGE, gated: true };
    let (pre, dout) = (unset(b, 0), unset(b, 0));
    refused(b.activation_forward(activation::Forward {
        shape,
        activation: Activation::Silu,
        pre: pre.all(),
        out: unset(b, 0).all_mut(),
    }));
    refused(b.activation_backward(activation::Backward {
        shape,
        activation: Activation::Silu,
        pre: pre.all(),
        dout: dout.all(),
        dpre: unset(b, 0).all_mut(),
    }));
    // usize::MAX + 1 = 0 offsets.
    let shape = permutation::Shape { tokens: 1, top_k: 1, experts: usize::MAX };
    let mut planned = [1, 1, 1, 0].map(|n| unset_indices(b, n));
    let [p0, p1, p2, p3] = &mut planned;
    let (order, token, inverse, offsets) = (p0.all_mut(), p1.all_mut(), p2.all_mut(), p3.all_mut());
    refused(b.plan(permutation::Plan { shape, indices: zero.all(), order, token, offsets, inverse }));
    let shape = grouped_gemm::Shape { groups: usize::MAX, rows: 0, inputs: 1, outputs: 1 };
    let space = b.grouped_gemm_workspace(shape).min(1);
    refused(b.grouped_gemm_forward(grouped_gemm::Forward {
        shape,
        offsets: none.all(),
        x: unset(b, 0).all(),
        gather: None,
        w: unset(b, 0).all(),
        y: unset(b, 0).all_mut(),
        workspace: unset(b, space).all_mut(),
    }));
    let shape = experts::Shape {
        tokens: 0,
        top_k: 1,
        experts: 1,
        width: 1,
        hidden: HUGE,
        gated: true,
        activation: Activation::Silu,
    };
    let space = b.experts_workspace(shape).min(1);
    refused(b.experts_forward(experts::Forward {
        shape,
        offsets: hold(b, &[0u32, 0]).all(),
        token: none.all(),
        x: unset(b, 0).all(),
        w_in: unset(b, 0).all(),
        w_out: unset(b, 0).all(),
        pre: unset(b, 0).all_mut(),
        rows: unset(b, 0).all_mut(),
        workspace: unset(b, space).all_mut(),
    }));
    // Rows times the sum of heads, and what a tile of such a head would take.
    for head_dim in [HUGE, usize::MAX, 1 << 60] {
        let shape = attention::Shape { tokens: 0, heads: 2, kv_heads: 2, head_dim, longest: usize::MAX };
        let space = b.attention_workspace(shape).min(1);
        refused(b.attention_forward(attention::Forward {
            shape,
            segments: Segments { offsets: zero.all(), of_token: none.all() },
            qkv: unset(b, 0).all(),
            out: unset(b, 0).all_mut(),
            lse: unset(b, 0).all_mut(),
            workspace: unset(b, space).all_mut(),
        }));
    }
    let linear_shape = linear::Shape { rows: 0, inputs: usize::MAX, outputs: usize::MAX };
    refused(b.linear_forward(linear::Forward {
        shape: linear_shape,
        x: unset(b, 0).all(),
        w: unset(b, 0).all(),
        bias: None,
        y: unset(b, 0).all_mut(),
        workspace: unset(b, b.linear_workspace(linear_shape).min(1)).all_mut(),
    }));
    let norm_shape = rms_norm::Shape { rows: 0, groups: HUGE, width: 2, stride: usize::MAX };
    refused(b.rms_norm_forward(rms_norm::Forward {
        shape: norm_shape,
        eps: 0.0,
        x: unset(b, 0).all(),
        weight: reals(b, &[1.0, 1.0]).all(),
        y: unset(b, 0).all_mut(),
        rstd: unset(b, 0).all_mut(),
    }));
    let rope_shape = rope::Shape { rows: 0, heads: HUGE, head_dim: 2, stride: usize::MAX, positions: 0 };
    refused(b.rope(rope::Apply {
        shape: rope_shape,
        position: none.all(),
        cos: unset(b, 0).all(),
        sin: unset(b, 0).all(),
        inverse: false,
        x: unset(b, 0).all_mut(),
    }));
    let shape = smoothing::Shape {
        tokens: 0,
        channels: HUGE,
        width: 2,
        ahead: 0,
        depthwise: true,
        renormalise: false,
    };
    refused(b.smoothing_forward(smoothing::Forward {
        shape,
        segments: Segments { offsets: zero.all(), of_token: none.all() },
        x: unset(b, 0).all(),
        taps: unset(b, 0).all(),
        y: unset(b, 0).all_mut(),
    }));
    // One segment and usize::MAX domains have 0 means.
    refused(b.domain_consistency(losses::DomainConsistency {
        tokens: 1,
        routed: 1,
        domains: usize::MAX,
        coefficient: 1.0,
        segments: Segments { offsets: hold(b, &[0u32, 1]).all(), of_token: zero.all() },
        domain: zero.all(),
        probs: reals(b, &[1.0]).all(),
        dprobs: reals(b, &[1.0]).all_mut(),
        loss: hold(b, &[0.0]).all_mut(),
        workspace: unset(b, 0).all_mut(),
    }));
    let config = RouterConfig::softmax(HUGE, 1);
    refused(b.router_backward(router::Backward {
        config: &config,
        tokens: 0,
        logits: unset(b, 0).all(),
        bias: None,
        keep: KeepMask::All,
        probs: unset(b, 0).all(),
        weights: unset(b, 0).all(),
        indices: none.all(),
        lse: unset(b, 0).all(),
        dweights: unset(b, 0).all(),
        dprobs: None,
        z_coefficient: 0.0,
        dlogits: unset(b, 0).all_mut(),
        dbias: None,
    }));
    let shape = router_logits::Shape { tokens: 0, width: HUGE, experts: 1 };
    refused(b.router_logits_forward(router_logits::Forward {
        shape,
        x: unset(b, 0).all(),
        w: unset(b, 0).all(),
        logits: unset(b, 0).all_mut(),
    }));
    let shape = embedding::Shape { rows: 0, vocabulary: 0, width: HUGE };
    refused(b.embedding_forward(embedding::Forward {
        shape,
        ids: none.all(),
        table: unset(b, 0).all(),
        y: unset(b, 0).all_mut(),
    }));

    assert!(b.alloc::<f64>(usize::MAX).is_err() && b.alloc::<u8>(usize::MAX).is_err());
    assert_eq!((RouterConfig { shared: 3, ..RouterConfig::softmax(2, 1) }).routed(), 0);
    assert!(matches!(
        b.adamw(adamw::Step {
            hyper: adamw::Hyper {
                lr: 0.1,
                beta1: f64::NAN,
                beta2: 0.9,
                eps: 1e-8,
                weight_decay: 0.0,
                step: 1,
                grad_scale: 1.0
            },
            params: unset(b, 0).all_mut(),
            grads: unset(b, 0).all(),
            m: unset(b, 0).all_mut(),
            v: unset(b, 0).all_mut(),
            copy: None,
        }),
        Err(Error::Argument { arg: "beta1", .. })
    ));
}

#[test]
fn sizes_that_overflow_are_errors() {
    absurd(&Cpu::new(2).unwrap());
    absurd(&Oracle);
}

fn halves<B: Backend, T: Real>(b: &B, n: usize) -> Held<'_, B, T> {
    reals(b, &vec![0.5; n])
}

/// Slots that the router never writes, and rows named twice, would index outside a token's row or be written by two threads.
fn contradictions<B: Backend>(b: &B) {
    let config =
        RouterConfig { shared: 2, shared_weight: SharedWeight::Softmax, ..RouterConfig::softmax(5, 4) };
    let backward = |indices: &[u32]| {
        b.router_backward(router::Backward {
            config: &config,
            tokens: 1,
            logits: halves(b, 5).all(),
            bias: None,
            keep: KeepMask::All,
            probs: halves(b, 3).all(),
            weights: halves(b, 4).all(),
            indices: hold(b, indices).all(),
            lse: halves(b, 1).all(),
            dweights: halves(b, 4).all(),
            dprobs: None,
            z_coefficient: 0.0,
            dlogits: halves(b, 5).all_mut(),
            dbias: None,
        })
    };
    assert!(backward(&[0, 2, 4, 3]).is_ok());
    for wrong in [[0, 3, 4, 3], [0, 1, 2, 3], [0, 1, 3, 3]] {
        assert!(matches!(backward(&wrong), Err(Error::Argument { arg: "indices", .. })), "{wrong:?}");
    }
    let shape = permutation::Shape { tokens: 2, top_k: 1, experts: 1 };
    let twice = b.combine_backward(permutation::CombineBackward {
        shape,
        width: 1,
        inverse: hold(b, &[1u32, 1]).all(),
        weights: halves(b, 2).all(),
        rows: halves(b, 2).all(),
        dy: halves(b, 2).all(),
        drows: halves(b, 2).all_mut(),
        dweights: halves(b, 2).all_mut(),
    });
    assert!(matches!(twice, Err(Error::Argument { arg: "inverse", .. })));
    let twice = b.redundancy(losses::Redundancy {
        tokens: 1,
        top_k: 2,
        routed_k: 2,
        width: 1,
        coefficient: 1.0,
        inverse: hold(b, &[0u32, 0]).all(),
        rows: halves(b, 2).all(),
        drows: halves(b, 2).all_mut(),
        loss: hold(b, &[0.0]).all_mut(),
    });
    assert!(matches!(twice, Err(Error::Argument { arg: "inverse", .. })));
}

#[test]
fn contradictory_indices_are_errors() {
    contradictions(&Cpu::new(2).unwrap());
    contradictions(&Oracle);
}

/// A router that has diverged must show: NaN logits give NaN scores, not a token without experts.
fn not_a_number<B: Backend>(b: &B) {
    let config = RouterConfig::softmax(3, 2);
    let (mut probs, mut weights, mut lse) = (unset(b, 3), reals(b, &[0.0, 0.0]), reals(b, &[0.0]));
    let mut indices = unset_indices(b, 2);
    b.router_forward(router::Forward {
        config: &config,
        tokens: 1,
        logits: reals(b, &[f64::NAN; 3]).all(),
        bias: None,
        selection_bias: None,
        keep: KeepMask::All,
        probs: probs.all_mut(),
        weights: weights.all_mut(),
        indices: indices.all_mut(),
        counts: unset_indices(b, 3).all_mut(),
        lse: lse.all_mut(),
    })
    .unwrap();
    let all = |held: &Held<'_, B, B::Real>| held.reals().iter().all(|value| value.is_nan());
    assert!(all(&probs) && all(&weights) && all(&lse));
    assert!(indices.get().iter().all(|&expert| expert < 3));
}

#[test]
fn nan_logits_give_nan_scores() {
    not_a_number(&Cpu::new(1).unwrap());
    not_a_number(&Oracle);
}

/// What the host can see it refuses; kernels keep NaN as it is.
#[cfg(feature = "cuda")]
#[test]
fn a_gpu_refuses_the_same() {
    if let Some(cuda) = gpu::gpu::<f32>() {
        absurd(&cuda);
        not_a_number(&cuda);
    }
    if let Some(cuda) = gpu::gpu::<half::bf16>() {
        absurd(&cuda);
        not_a_number(&cuda);
    }
}

/// Rows 2^63 elements apart: three of them end where the first began, for arithmetic that wraps.
#[test]
#[should_panic(expected = "B is too short")]
fn a_stride_that_wraps_is_too_long() {
    let (one, mut c) = ([1.0], [0.0; 3]);
    let mut scratch = vec![0.0; scratch_len(1, 3, 1)];
    let (a, b) = (Strided { data: &one, ld: 1 }, Strided { data: &one, ld: 1 << 63 });
    matmul(Isa::detect(), Layout::Nt, (1, 3, 1), 1.0, a, b, (&mut c, 3), false, &mut scratch);
}

//! Index buffers that are nearly right, and values of every kind.

use super::device::{hold, reals, unset, unset_indices};
use emo::Backend;
use emo::cpu::Cpu;
use emo::ops::activation::Activation;
use emo::ops::router::{KeepMask, Normalise, RouterConfig, Score, SharedWeight};
use emo::ops::segments::Segments;
use emo::ops::{
    all_to_all, attention, cross_entropy, embedding, experts, grouped_gemm, losses, permutation, pool, rope,
    router, smoothing,
};
use emo::oracle::Oracle;
use proptest::prelude::*;

/// Sizes that fit each other, with indices and values that need not.
#[derive(Debug, Clone)]
struct Attack {
    tokens: usize,
    top_k: usize,
    experts: usize,
    width: usize,
    /// Some of these replace entries of well-formed index buffers: (where, what).
    wrong: Vec<(usize, u32)>,
    values: Vec<f64>,
}

impl Attack {
    fn corrupted(&self, mut indices: Vec<u32>) -> Vec<u32> {
        let len = indices.len();
        for &(at, what) in self.wrong.iter().filter(|_| len > 0) {
            indices[at % len] = what;
        }
        indices
    }

    /// `0..n`, corrupted.
    fn order(&self, n: usize) -> Vec<u32> {
        self.corrupted((0..n as u32).collect())
    }

    /// `n` indices below `bound`, corrupted.
    fn below(&self, n: usize, bound: usize) -> Vec<u32> {
        self.corrupted((0..n).map(|i| (i % bound.max(1)) as u32).collect())
    }

    /// `parts + 1` ascending offsets to `end`, corrupted.
    fn offsets(&self, parts: usize, end: usize) -> Vec<u32> {
        self.corrupted((0..=parts).map(|i| (i * end / parts.max(1)) as u32).collect())
    }

    fn values(&self, n: usize) -> Vec<f64> {
        (0..n).map(|i| self.values[i % self.values.len()]).collect()
    }
}

fn attack() -> impl Strategy<Value = Attack> {
    let index = prop_oneof![4 => 0u32..8, 1 => Just(u32::MAX), 1 => Just(1 << 31), 1 => 8u32..64];
    let special =
        prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e4, -1e4, 0.0, 3e38]);
    let value = prop_oneof![5 => -2.0..2.0f64, 1 => special];
    let sizes = (0usize..6, 1usize..4, 3usize..7, 1usize..6);
    let wrong = prop::collection::vec((0usize..32, index), 0..4);
    (sizes, wrong, prop::collection::vec(value, 1..24)).prop_map(
        |((tokens, top_k, experts, width), wrong, values)| Attack {
            tokens,
            top_k,
            experts,
            width,
            wrong,
            values,
        },
    )
}

/// Runs every op that reads indices or turns values into decisions. Only panics fail.
fn run<B: Backend>(b: &B, a: &Attack) {
    let Attack { tokens, top_k, experts, width, .. } = *a;
    let (rows, hidden) = (tokens * top_k, 3);
    // Not closures, which would have one type for values that are computed in and for values that are stored.
    macro_rules! real {
        ($n:expr) => {
            reals(b, &a.values($n))
        };
    }
    macro_rules! out {
        ($n:expr) => {
            unset(b, $n)
        };
    }
    let order = hold(b, &a.order(rows));
    let offsets = hold(b, &a.offsets(experts, rows));
    let token = hold(b, &a.below(rows, tokens));
    let indices = hold(b, &a.below(rows, experts));
    let documents = tokens.min(2);
    let (starts, of_token) = (hold(b, &a.offsets(documents, tokens)), hold(b, &a.order(tokens)));
    // Not a closure: a view that lives as long as the buffers would tie every other argument to them.
    macro_rules! segments {
        () => {
            Segments { offsets: starts.all(), of_token: of_token.all() }
        };
    }

    let shape = permutation::Shape { tokens, top_k, experts };
    let mut planned = [rows, rows, rows, experts + 1].map(|n| unset_indices(b, n));
    let [p0, p1, p2, p3] = &mut planned;
    let (order_out, token_out, inverse, offsets_out) =
        (p0.all_mut(), p1.all_mut(), p2.all_mut(), p3.all_mut());
    let plan = permutation::Plan {
        shape,
        indices: indices.all(),
        order: order_out,
        token: token_out,
        offsets: offsets_out,
        inverse,
    };
    let _ = b.plan(plan);
    let (x, wide) = (real!(tokens * width), real!(rows * width));
    let _ = b.dispatch_forward(permutation::Dispatch {
        shape,
        width,
        token: token.all(),
        x: x.all(),
        rows: out!(rows * width).all_mut(),
    });
    let _ = b.dispatch_backward(permutation::DispatchBackward {
        shape,
        width,
        inverse: order.all(),
        drows: wide.all(),
        dx: out!(tokens * width).all_mut(),
    });
    let weights = real!(rows);
    let _ = b.combine_forward(permutation::Combine {
        shape,
        width,
        inverse: order.all(),
        weights: weights.all(),
        rows: wide.all(),
        y: out!(tokens * width).all_mut(),
        accumulate: true,
    });
    let _ = b.combine_backward(permutation::CombineBackward {
        shape,
        width,
        inverse: order.all(),
        weights: weights.all(),
        rows: wide.all(),
        dy: x.all(),
        drows: out!(rows * width).all_mut(),
        dweights: out!(rows).all_mut(),
    });
    let ranks = all_to_all::Shape { ranks: top_k, experts };
    let [mut counts, mut send, mut receive] = [experts, top_k + 1, top_k + 1].map(|n| unset_indices(b, n));
    let _ = b.send_plan(all_to_all::SendPlan {
        shape: ranks,
        rows,
        offsets: offsets.all(),
        counts: counts.all_mut(),
        send: send.all_mut(),
    });
    let own = ranks.owned(0).len();
    let counts = hold(b, &a.below(top_k * own, rows));
    let [mut grouped, mut gather, mut inverse] = [own + 1, rows, rows].map(|n| unset_indices(b, n));
    let _ = b.receive_plan(all_to_all::ReceivePlan {
        shape: ranks,
        rank: 0,
        counts: counts.all(),
        receive: receive.all_mut(),
        offsets: grouped.all_mut(),
        gather: gather.all_mut(),
        inverse: inverse.all_mut(),
    });
    let _ = b.redundancy(losses::Redundancy {
        tokens,
        top_k,
        routed_k: top_k,
        width,
        coefficient: 1.0,
        inverse: order.all(),
        rows: wide.all(),
        drows: out!(rows * width).all_mut(),
        loss: hold(b, &[0.0]).all_mut(),
    });

    let shape = grouped_gemm::Shape { groups: experts, rows, inputs: width, outputs: hidden };
    let (w, dy) = (real!(experts * hidden * width), real!(rows * hidden));
    let space = b.grouped_gemm_workspace(shape);
    let _ = b.grouped_gemm_forward(grouped_gemm::Forward {
        shape,
        offsets: offsets.all(),
        x: x.all(),
        gather: Some(token.all()),
        w: w.all(),
        y: out!(rows * hidden).all_mut(),
        workspace: out!(space).all_mut(),
    });
    let _ = b.grouped_gemm_dgrad(grouped_gemm::Dgrad {
        shape,
        offsets: offsets.all(),
        dy: dy.all(),
        gather: Some(order.all()),
        w: w.all(),
        dx: out!(rows * width).all_mut(),
        workspace: out!(space).all_mut(),
    });
    let _ = b.grouped_gemm_wgrad(grouped_gemm::Wgrad {
        shape,
        offsets: offsets.all(),
        x: x.all(),
        x_gather: Some(token.all()),
        dy: dy.all(),
        dy_gather: Some(order.all()),
        dw: real!(experts * hidden * width).all_mut(),
        workspace: out!(space).all_mut(),
    });
    let shape =
        experts::Shape { tokens, top_k, experts, width, hidden, gated: true, activation: Activation::Silu };
    let (w_in, pre) = (real!(experts * 2 * hidden * width), real!(rows * 2 * hidden));
    let space = b.experts_workspace(shape);
    let _ = b.experts_forward(experts::Forward {
        shape,
        offsets: offsets.all(),
        token: token.all(),
        x: x.all(),
        w_in: w_in.all(),
        w_out: w.all(),
        pre: out!(rows * 2 * hidden).all_mut(),
        rows: out!(rows * width).all_mut(),
        workspace: out!(space).all_mut(),
    });
    let _ = b.experts_backward(experts::Backward {
        shape,
        offsets: offsets.all(),
        token: token.all(),
        order: order.all(),
        x: x.all(),
        weights: weights.all(),
        w_in: w_in.all(),
        w_out: w.all(),
        pre: pre.all(),
        dy: x.all(),
        row_grad: Some(wide.all()),
        dx_rows: out!(rows * width).all_mut(),
        dweights: out!(rows).all_mut(),
        dw_in: real!(experts * 2 * hidden * width).all_mut(),
        dw_out: real!(experts * hidden * width).all_mut(),
        workspace: out!(space).all_mut(),
    });

    let logits = real!(tokens * experts);
    for shared in [0, 1] {
        let config = RouterConfig {
            shared,
            shared_weight: SharedWeight::Softmax,
            normalise: Normalise::Lp(1.0),
            score: if width % 2 == 0 { Score::Softmax } else { Score::Sigmoid },
            ..RouterConfig::softmax(experts, top_k.max(shared + 1))
        };
        let (routed, slots) = (config.routed(), tokens * config.top_k);
        let (sizes, flags) = (hold(b, &a.below(documents, experts)), vec![1u8; documents * routed]);
        let (mut keep, mut scores) = (hold(b, &flags), out!(documents * routed));
        let _ = b.pool_keep(pool::Keep {
            tokens,
            experts,
            routed,
            forced: 1,
            segments: segments!(),
            logits: logits.all(),
            bias: Some(real!(experts).all()),
            temperature: 0.5,
            sizes: sizes.all(),
            keep: keep.all_mut(),
            scores: scores.all_mut(),
            entropy: Some(out!(documents).all_mut()),
        });
        let mut written = unset_indices(b, slots);
        let mut chosen = vec![0; slots];
        // A GPU says only now what earlier ops were given; from here on it speaks of the router.
        let _ = b.download(written.all(), &mut chosen);
        let result = b.router_forward(router::Forward {
            config: &config,
            tokens,
            logits: logits.all(),
            bias: None,
            selection_bias: Some(real!(routed).all()),
            keep: KeepMask::PerSegment(keep.all(), segments!()),
            probs: out!(tokens * routed).all_mut(),
            weights: out!(slots).all_mut(),
            indices: written.all_mut(),
            counts: unset_indices(b, experts).all_mut(),
            lse: out!(tokens).all_mut(),
        });
        let refused = result.and(b.download(written.all(), &mut chosen)).is_err();
        assert!(refused || chosen.iter().all(|&expert| (expert as usize) < experts));
        let _ = b.router_backward(router::Backward {
            config: &config,
            tokens,
            logits: logits.all(),
            bias: None,
            keep: KeepMask::All,
            probs: real!(tokens * routed).all(),
            weights: real!(slots).all(),
            indices: hold(b, &a.below(slots, experts)).all(),
            lse: real!(tokens).all(),
            dweights: real!(slots).all(),
            dprobs: None,
            z_coefficient: 0.1,
            dlogits: out!(tokens * experts).all_mut(),
            dbias: Some(real!(experts).all_mut()),
        });
    }
    let mut dprobs = real!(tokens * experts);
    let _ = b.sequence_consistency(losses::SequenceConsistency {
        tokens,
        routed: experts,
        coefficient: 1.0,
        segments: segments!(),
        probs: logits.all(),
        dprobs: dprobs.all_mut(),
        loss: hold(b, &[0.0]).all_mut(),
    });
    let _ = b.domain_consistency(losses::DomainConsistency {
        tokens,
        routed: experts,
        domains: 2,
        coefficient: 1.0,
        segments: segments!(),
        domain: hold(b, &a.below(documents, 2)).all(),
        probs: logits.all(),
        dprobs: dprobs.all_mut(),
        loss: hold(b, &[0.0]).all_mut(),
        workspace: out!((documents + 2) * experts).all_mut(),
    });
    let _ = b.mutual_information(losses::MutualInformation {
        tokens,
        routed: experts,
        token_weight: 1.0,
        marginal_weight: 1.0,
        valid: None,
        probs: logits.all(),
        dprobs: dprobs.all_mut(),
        loss: hold(b, &[0.0]).all_mut(),
    });
    let shape = smoothing::Shape {
        tokens,
        channels: experts,
        width: 3,
        ahead: 1,
        depthwise: true,
        renormalise: true,
    };
    let _ = b.smoothing_backward(smoothing::Backward {
        shape,
        segments: segments!(),
        x: logits.all(),
        taps: real!(3 * experts).all(),
        dy: logits.all(),
        dx: out!(tokens * experts).all_mut(),
        dtaps: Some(real!(3 * experts).all_mut()),
    });
    let shape = attention::Shape { tokens, heads: 2, kv_heads: 1, head_dim: width, longest: tokens };
    let space = b.attention_workspace(shape);
    let (qkv, heads) = (real!(tokens * 4 * width), real!(tokens * 2 * width));
    let (mut o, mut lse) = (out!(tokens * 2 * width), out!(tokens * 2));
    let _ = b.attention_forward(attention::Forward {
        shape,
        segments: segments!(),
        qkv: qkv.all(),
        out: o.all_mut(),
        lse: lse.all_mut(),
        workspace: out!(space).all_mut(),
    });
    let mut cache = out!(2 * tokens * 2 * width);
    let _ = b.attention_cached(attention::Cached {
        shape,
        places: 2,
        segments: segments!(),
        slots: hold(b, &a.below(documents, 3)).all(),
        past: hold(b, &a.below(documents, tokens)).all(),
        qkv: qkv.all(),
        cache: cache.all_mut(),
        out: o.all_mut(),
        workspace: out!(space).all_mut(),
    });
    let _ = b.attention_backward(attention::Backward {
        shape,
        segments: segments!(),
        qkv: qkv.all(),
        out: o.all(),
        lse: lse.all(),
        dout: heads.all(),
        dqkv: out!(tokens * 4 * width).all_mut(),
        workspace: out!(space).all_mut(),
    });
    let shape = embedding::Shape { rows, vocabulary: 5, width };
    let _ = b.embedding_forward(embedding::Forward {
        shape,
        ids: indices.all(),
        table: real!(5 * width).all(),
        y: out!(rows * width).all_mut(),
    });
    let _ = b.embedding_backward(embedding::Backward {
        shape,
        ids: indices.all(),
        padding: Some(1),
        dy: wide.all(),
        dtable: real!(5 * width).all_mut(),
    });
    let shape = rope::Shape { rows, heads: 1, head_dim: 2, stride: 3, positions: 4 };
    let _ = b.rope(rope::Apply {
        shape,
        position: indices.all(),
        cos: real!(4).all(),
        sin: real!(4).all(),
        inverse: false,
        x: real!(rows * 3).all_mut(),
    });
    let targets: Vec<i32> = a.below(tokens, experts).into_iter().map(|target| target as i32).collect();
    let _ = b.cross_entropy(cross_entropy::ForwardBackward {
        rows: tokens,
        vocabulary: experts,
        targets: hold(b, &targets).all(),
        scale: 1.0,
        z_weight: 0.1,
        logits: real!(tokens * experts).all_mut(),
        backward: true,
        loss: out!(tokens).all_mut(),
        lse: out!(tokens).all_mut(),
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn indices_and_values_never_panic_the_cpu(attack in attack()) {
        for threads in [1, 2] {
            run(&Cpu::new(threads).unwrap(), &attack);
            run(&Cpu::new(threads).unwrap().storing::<half::bf16>(), &attack);
        }
    }

    #[test]
    fn indices_and_values_never_panic_the_oracle(attack in attack()) {
        run(&Oracle, &attack);
    }
}

/// Kernels skip what lies outside its bound and report it: the device lives on, whatever the indices.
#[cfg(feature = "cuda")]
mod cuda {
    use super::{Attack, attack, run};
    use crate::gpu::gpu;
    use emo::Error;
    use emo::cuda::{Cuda, CudaStorage};
    use proptest::prelude::*;

    fn survives<S: CudaStorage>(gpu: &Option<Cuda<S>>, attack: &Attack) {
        let Some(gpu) = gpu else { return };
        run(gpu, attack);
        let outcome = gpu.synchronize();
        assert!(matches!(outcome, Ok(()) | Err(Error::Index { .. })), "{outcome:?}");
        assert_eq!(gpu.synchronize(), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

        #[test]
        fn indices_and_values_never_harm_a_gpu(attacks in prop::collection::vec(attack(), 4)) {
            let (f32, bf16) = (gpu::<f32>(), gpu::<half::bf16>());
            for attack in &attacks {
                survives(&f32, attack);
                survives(&bf16, attack);
            }
        }
    }
}

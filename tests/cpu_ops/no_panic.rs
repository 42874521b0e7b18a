//! No argument makes an op panic: every op, with lengths, indices and values that are mostly right.

use crate::machines::machines;
use crate::random::Random;
use emo::Backend;
use emo::cpu::Cpu;
use emo::ops::activation::{self, Activation};
use emo::ops::router::{KeepMask, Normalise, RouterConfig, Score, SharedWeight};
use emo::ops::segments::Segments;
use emo::ops::{
    adamw, attention, cross_entropy, embedding, experts, grouped_gemm, linear, losses, permutation, pool,
    rms_norm, rope, router, router_logits, smoothing,
};
use proptest::prelude::*;

/// Made anew for each call: all views of one call share a lifetime.
fn partition<'a>(offsets: &'a [u32], of_token: &'a [u32]) -> Segments<'a, Cpu> {
    Segments { offsets, of_token }
}

fn mask<'a>(
    (kind, by_token, by_segment): (usize, &'a [u8], &'a [u8]),
    offsets: &'a [u32],
    of_token: &'a [u32],
) -> KeepMask<'a, Cpu> {
    match kind {
        0 => KeepMask::All,
        1 => KeepMask::PerToken(by_token),
        _ => KeepMask::PerSegment(by_segment, partition(offsets, of_token)),
    }
}

/// Calls every op with such arguments; whether it likes them does not matter.
fn call_everything(seed: u64, cpu: &Cpu) {
    let mut random = Random(seed);
    let r = &mut random;
    let [tokens, width, vocabulary] = [r.below(40), r.below(20), r.below(9)];
    let [experts, top_k, shared] = [r.below(9), r.below(6), r.below(3)];
    let documents = r.below(4);
    let (offsets, of_token) = r.segments(documents, tokens);
    let count = offsets.len().saturating_sub(1);
    let slots = tokens * top_k;

    let shape = embedding::Shape { rows: tokens, vocabulary, width };
    let ids = r.indices(tokens, vocabulary);
    let _ = cpu.embedding_forward(embedding::Forward::<Cpu> {
        shape,
        ids: &ids,
        table: &r.reals(vocabulary * width),
        y: &mut r.reals(tokens * width),
    });
    let _ = cpu.embedding_backward(embedding::Backward::<Cpu> {
        shape,
        ids: &ids,
        padding: Some(1),
        dy: &r.reals(tokens * width),
        dtable: &mut r.reals(vocabulary * width),
    });

    let groups = r.below(3);
    let shape = rms_norm::Shape { rows: tokens, groups, width, stride: groups * width + r.below(3) };
    let len = tokens * shape.stride;
    let _ = cpu.rms_norm_forward(rms_norm::Forward::<Cpu> {
        shape,
        eps: 1e-6,
        x: &r.reals(len),
        weight: &r.reals(width),
        y: &mut r.reals(len),
        rstd: &mut r.reals(tokens * groups),
    });
    let workspace = cpu.rms_norm_workspace(shape);
    let _ = cpu.rms_norm_backward(rms_norm::Backward::<Cpu> {
        shape,
        x: &r.reals(len),
        weight: &r.reals(width),
        rstd: &r.reals(tokens * groups),
        dy: &r.reals(len),
        dx: &mut r.reals(len),
        accumulate: r.flag(),
        dweight: &mut r.reals(width),
        workspace: &mut r.reals(workspace),
    });

    let shape = rope::Shape {
        rows: tokens,
        heads: r.below(3),
        head_dim: r.below(5),
        stride: r.below(20),
        positions: vocabulary,
    };
    let table = vocabulary * (shape.head_dim / 2);
    let _ = cpu.rope(rope::Apply::<Cpu> {
        shape,
        position: &r.indices(tokens, vocabulary),
        cos: &r.reals(table),
        sin: &r.reals(table),
        inverse: r.flag(),
        x: &mut r.reals(tokens * shape.stride),
    });

    let shape = attention::Shape {
        tokens,
        heads: r.below(4),
        kv_heads: r.below(3),
        head_dim: r.below(6),
        longest: tokens,
    };
    let workspace = cpu.attention_workspace(shape);
    let (qkv, out, lse) =
        (r.reals(tokens * shape.row()), r.reals(tokens * shape.out()), r.reals(tokens * shape.heads));
    let _ = cpu.attention_forward(attention::Forward::<Cpu> {
        shape,
        segments: partition(&offsets, &of_token),
        qkv: &qkv,
        out: &mut r.reals(tokens * shape.out()),
        lse: &mut r.reals(tokens * shape.heads),
        workspace: &mut r.reals(workspace),
    });
    let _ = cpu.attention_backward(attention::Backward::<Cpu> {
        shape,
        segments: partition(&offsets, &of_token),
        qkv: &qkv,
        out: &out,
        lse: &lse,
        dout: &r.reals(tokens * shape.out()),
        dqkv: &mut r.reals(tokens * shape.row()),
        workspace: &mut r.reals(workspace),
    });

    let shape = linear::Shape { rows: tokens, inputs: width, outputs: vocabulary };
    let workspace = cpu.linear_workspace(shape);
    let (x, w, dy) = (r.reals(tokens * width), r.reals(vocabulary * width), r.reals(tokens * vocabulary));
    let _ = cpu.linear_forward(linear::Forward::<Cpu> {
        shape,
        x: &x,
        w: &w,
        bias: Some(&r.reals(vocabulary)),
        y: &mut r.reals(tokens * vocabulary),
        workspace: &mut r.reals(workspace),
    });
    let _ = cpu.linear_dgrad(linear::Dgrad::<Cpu> {
        shape,
        dy: &dy,
        w: &w,
        dx: &mut r.reals(tokens * width),
        accumulate: r.flag(),
        workspace: &mut r.reals(workspace),
    });
    let _ = cpu.linear_wgrad(linear::Wgrad::<Cpu> {
        shape,
        x: &x,
        dy: &dy,
        dw: &mut r.reals(vocabulary * width),
        dbias: Some(&mut r.reals(vocabulary)),
        workspace: &mut r.reals(workspace),
    });

    let shape = activation::Shape { rows: tokens, width, gated: r.flag() };
    let _ = cpu.activation_forward(activation::Forward::<Cpu> {
        shape,
        activation: Activation::Gelu,
        pre: &r.reals(tokens * shape.pre()),
        out: &mut r.reals(tokens * width),
    });
    let _ = cpu.activation_backward(activation::Backward::<Cpu> {
        shape,
        activation: Activation::Silu,
        pre: &r.reals(tokens * shape.pre()),
        dout: &r.reals(tokens * width),
        dpre: &mut r.reals(tokens * shape.pre()),
    });
    let _ = cpu.clamp_forward(activation::Clamp::<Cpu> {
        limit: 1.0,
        x: &r.reals(width),
        y: &mut r.reals(width),
    });
    let _ = cpu.clamp_backward(activation::ClampBackward::<Cpu> {
        limit: 1.0,
        x: &r.reals(width),
        dy: &mut r.reals(width),
    });
    let targets: Vec<i32> = r.indices(tokens, vocabulary).into_iter().map(|id| id as i32 - 1).collect();
    let _ = cpu.cross_entropy(cross_entropy::ForwardBackward::<Cpu> {
        rows: tokens,
        vocabulary,
        targets: &targets,
        scale: 1.0,
        z_weight: 0.1,
        logits: &mut r.reals(tokens * vocabulary),
        backward: r.flag(),
        loss: &mut r.reals(tokens),
        lse: &mut r.reals(tokens),
    });

    let shape = router_logits::Shape { tokens, width, experts };
    let _ = cpu.router_logits_forward(router_logits::Forward::<Cpu> {
        shape,
        x: &r.reals(tokens * width),
        w: &r.reals(experts * width),
        logits: &mut r.reals(tokens * experts),
    });
    let _ = cpu.router_logits_backward(router_logits::Backward::<Cpu> {
        shape,
        x: &r.reals(tokens * width),
        w: &r.reals(experts * width),
        dlogits: &r.reals(tokens * experts),
        dx: &mut r.reals(tokens * width),
        dw: &mut r.reals(experts * width),
    });
    let shape = smoothing::Shape {
        tokens,
        channels: experts,
        width: r.below(11),
        ahead: r.below(4),
        depthwise: r.flag(),
        renormalise: r.flag(),
    };
    let taps = if shape.depthwise { experts * shape.width } else { shape.width };
    let _ = cpu.smoothing_forward(smoothing::Forward::<Cpu> {
        shape,
        segments: partition(&offsets, &of_token),
        x: &r.reals(tokens * experts),
        taps: &r.reals(taps),
        y: &mut r.reals(tokens * experts),
    });
    let _ = cpu.smoothing_backward(smoothing::Backward::<Cpu> {
        shape,
        segments: partition(&offsets, &of_token),
        x: &r.reals(tokens * experts),
        taps: &r.reals(taps),
        dy: &r.reals(tokens * experts),
        dx: &mut r.reals(tokens * experts),
        dtaps: Some(&mut r.reals(taps)),
    });
    let routed = experts.saturating_sub(shared);
    let gate = r.reals(experts);
    let _ = cpu.pool_keep(pool::Keep::<Cpu> {
        tokens,
        experts,
        routed,
        forced: r.below(3),
        segments: partition(&offsets, &of_token),
        logits: &r.reals(tokens * experts),
        bias: r.flag().then_some(gate.as_slice()),
        temperature: 0.5 + r.below(3) as f64,
        sizes: &r.indices(count, experts + 2),
        keep: &mut r.bytes(count * routed),
        scores: &mut r.reals(count * routed),
        entropy: Some(&mut r.reals(count)),
    });

    let always_active = if r.below(4) == 0 { r.indices(1, routed) } else { vec![] };
    let config = RouterConfig {
        experts,
        top_k,
        shared,
        always_active,
        shared_weight: if r.flag() { SharedWeight::One } else { SharedWeight::Softmax },
        score: if r.flag() { Score::Softmax } else { Score::Sigmoid },
        temperature: if r.flag() { 1.0 } else { 0.3 },
        normalise: if r.flag() { Normalise::None } else { Normalise::Lp(1.5) },
    };
    let (by_token, by_segment) = (r.bytes(tokens * routed), r.bytes(count * routed));
    let kind = r.below(3);
    let keep = (kind, &by_token[..], &by_segment[..]);
    let _ = cpu.router_forward(router::Forward::<Cpu> {
        config: &config,
        tokens,
        logits: &r.reals(tokens * experts),
        bias: Some(&r.reals(experts)),
        selection_bias: Some(&r.reals(routed)),
        keep: mask(keep, &offsets, &of_token),
        probs: &mut r.reals(tokens * routed),
        weights: &mut r.reals(slots),
        indices: &mut r.indices(slots, 1),
        counts: &mut r.indices(experts, 1),
        lse: &mut r.reals(tokens),
    });
    let _ = cpu.router_backward(router::Backward::<Cpu> {
        config: &config,
        tokens,
        logits: &r.reals(tokens * experts),
        bias: None,
        keep: mask(keep, &offsets, &of_token),
        probs: &r.reals(tokens * routed),
        weights: &r.reals(slots),
        indices: &r.indices(slots, routed),
        lse: &r.reals(tokens),
        dweights: &r.reals(slots),
        dprobs: Some(&r.reals(tokens * routed)),
        z_coefficient: 0.1,
        dlogits: &mut r.reals(tokens * experts),
        dbias: Some(&mut r.reals(experts)),
    });

    let probs = r.reals(tokens * routed);
    let valid = r.bytes(tokens);
    let _ = cpu.load_balance(losses::LoadBalance::<Cpu> {
        tokens,
        routed,
        coefficient: 1.0,
        counts: &r.reals(routed),
        valid: Some(&valid),
        probs: &probs,
        dprobs: &mut r.reals(tokens * routed),
        loss: &mut [0.0],
    });
    let _ = cpu.mutual_information(losses::MutualInformation::<Cpu> {
        tokens,
        routed,
        token_weight: 1.0,
        marginal_weight: 1.0,
        valid: Some(&valid),
        probs: &probs,
        dprobs: &mut r.reals(tokens * routed),
        loss: &mut [0.0],
    });
    let _ = cpu.sequence_consistency(losses::SequenceConsistency::<Cpu> {
        tokens,
        routed,
        coefficient: 1.0,
        segments: partition(&offsets, &of_token),
        probs: &probs,
        dprobs: &mut r.reals(tokens * routed),
        loss: &mut [0.0],
    });
    let domains = r.below(3);
    let _ = cpu.domain_consistency(losses::DomainConsistency::<Cpu> {
        tokens,
        routed,
        domains,
        coefficient: 1.0,
        segments: partition(&offsets, &of_token),
        domain: &r.indices(count, domains),
        probs: &probs,
        dprobs: &mut r.reals(tokens * routed),
        loss: &mut [0.0],
        workspace: &mut r.reals((count + domains) * routed),
    });

    let shape = permutation::Shape { tokens, top_k, experts };
    let [mut order, mut token, mut inverse] = [(); 3].map(|()| r.indices(slots, 1));
    let mut plan_offsets = r.indices(experts + 1, 1);
    let _ = cpu.plan(permutation::Plan::<Cpu> {
        shape,
        indices: &r.indices(slots, experts),
        order: &mut order,
        token: &mut token,
        offsets: &mut plan_offsets,
        inverse: &mut inverse,
    });
    if r.below(4) == 0 {
        [order, token, inverse] = [(); 3].map(|()| r.indices(slots, slots));
    }
    let _ = cpu.redundancy(losses::Redundancy::<Cpu> {
        tokens,
        top_k,
        routed_k: r.below(5),
        width,
        coefficient: 1.0,
        inverse: &inverse,
        rows: &r.reals(slots * width),
        drows: &mut r.reals(slots * width),
        loss: &mut [0.0],
    });
    let _ = cpu.dispatch_forward(permutation::Dispatch::<Cpu> {
        shape,
        width,
        token: &token,
        x: &r.reals(tokens * width),
        rows: &mut r.reals(slots * width),
    });
    let _ = cpu.dispatch_backward(permutation::DispatchBackward::<Cpu> {
        shape,
        width,
        inverse: &inverse,
        drows: &r.reals(slots * width),
        dx: &mut r.reals(tokens * width),
    });
    let _ = cpu.combine_forward(permutation::Combine::<Cpu> {
        shape,
        width,
        inverse: &inverse,
        weights: &r.reals(slots),
        rows: &r.reals(slots * width),
        y: &mut r.reals(tokens * width),
        accumulate: r.flag(),
    });
    let _ = cpu.combine_backward(permutation::CombineBackward::<Cpu> {
        shape,
        width,
        inverse: &inverse,
        weights: &r.reals(slots),
        rows: &r.reals(slots * width),
        dy: &r.reals(tokens * width),
        drows: &mut r.reals(slots * width),
        dweights: &mut r.reals(slots),
    });

    let shape = experts::Shape {
        tokens,
        top_k,
        experts,
        width,
        hidden: r.below(7),
        gated: r.flag(),
        activation: Activation::Relu,
    };
    let workspace = cpu.experts_workspace(shape);
    let (w_in, w_out) = (experts * shape.pre() * width, experts * width * shape.hidden);
    let _ = cpu.experts_forward(experts::Forward::<Cpu> {
        shape,
        offsets: &plan_offsets,
        token: &token,
        x: &r.reals(tokens * width),
        w_in: &r.reals(w_in),
        w_out: &r.reals(w_out),
        pre: &mut r.reals(slots * shape.pre()),
        rows: &mut r.reals(slots * width),
        workspace: &mut r.reals(workspace),
    });
    let _ = cpu.experts_backward(experts::Backward::<Cpu> {
        shape,
        offsets: &plan_offsets,
        token: &token,
        order: &order,
        x: &r.reals(tokens * width),
        weights: &r.reals(slots),
        w_in: &r.reals(w_in),
        w_out: &r.reals(w_out),
        pre: &r.reals(slots * shape.pre()),
        dy: &r.reals(tokens * width),
        row_grad: Some(&r.reals(slots * width)),
        dx_rows: &mut r.reals(slots * width),
        dweights: &mut r.reals(slots),
        dw_in: &mut r.reals(w_in),
        dw_out: &mut r.reals(w_out),
        workspace: &mut r.reals(workspace),
    });
    let shape = grouped_gemm::Shape { groups: experts, rows: slots, inputs: width, outputs: vocabulary };
    let workspace = cpu.grouped_gemm_workspace(shape);
    let gather = r.flag().then_some(&token[..]);
    let _ = cpu.grouped_gemm_forward(grouped_gemm::Forward::<Cpu> {
        shape,
        offsets: &plan_offsets,
        x: &r.reals(slots * width),
        gather,
        w: &r.reals(experts * vocabulary * width),
        y: &mut r.reals(slots * vocabulary),
        workspace: &mut r.reals(workspace),
    });
    let _ = cpu.grouped_gemm_dgrad(grouped_gemm::Dgrad::<Cpu> {
        shape,
        offsets: &plan_offsets,
        dy: &r.reals(slots * vocabulary),
        gather,
        w: &r.reals(experts * vocabulary * width),
        dx: &mut r.reals(slots * width),
        workspace: &mut r.reals(workspace),
    });
    let _ = cpu.grouped_gemm_wgrad(grouped_gemm::Wgrad::<Cpu> {
        shape,
        offsets: &plan_offsets,
        x: &r.reals(slots * width),
        x_gather: gather,
        dy: &r.reals(slots * vocabulary),
        dy_gather: None,
        dw: &mut r.reals(experts * vocabulary * width),
        workspace: &mut r.reals(workspace),
    });

    let hyper = adamw::Hyper {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.9,
        eps: 0.0,
        weight_decay: 0.0,
        step: 1,
        grad_scale: 1.0,
    };
    let _ = cpu.adamw(adamw::Step::<Cpu> {
        hyper,
        params: &mut r.reals(width),
        grads: &r.reals(width),
        m: &mut r.reals(width),
        v: &mut r.reals(width),
        copy: Some(&mut r.reals(width)),
    });
    let _ = cpu.sum_of_squares(adamw::SumOfSquares::<Cpu> { x: &r.reals(width), out: &mut [0.0] });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn no_arguments_make_an_op_panic(seed in any::<u64>()) {
        let machines = machines();
        call_everything(seed, &machines[seed as usize % machines.len()][1]);
    }
}

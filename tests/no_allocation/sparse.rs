//! The router, its losses, the permutation and the experts.

use super::{D, E, H, K, R, T, wave};
use emo::Backend;
use emo::cpu::Cpu;
use emo::ops::activation::Activation;
use emo::ops::router::{KeepMask, RouterConfig, SharedWeight};
use emo::ops::segments::Segments;
use emo::ops::{experts, grouped_gemm, losses, permutation, pool, router, router_logits, smoothing};

pub fn run(b: &Cpu, out: &mut Vec<(&'static str, usize)>) {
    let (offsets, sizes, domain) = ([0u32, 70, T as u32], [5u32, 4], [0u32, 1]);
    let of_token: Vec<u32> = (0..T).map(|t| u32::from(t >= 70)).collect();
    // Not a value: one that lives on would tie the arguments of every op that takes it together.
    macro_rules! segments {
        () => {
            Segments { offsets: offsets.as_slice(), of_token: of_token.as_slice() }
        };
    }
    let (x, dy, mut y, mut loss) = (wave(T * D), wave(T * D), wave(T * D), [0.0f64]);
    let (mut dx, mut lse, act) = (wave(T * D), wave(T), Activation::Silu);
    let shape = router_logits::Shape { tokens: T, width: D, experts: E };
    let (w, mut logits, mut dw) = (wave(E * D), wave(T * E), wave(E * D));
    count!(
        out,
        "router_logits_forward",
        b.router_logits_forward(router_logits::Forward { shape, x: &x, w: &w, logits: &mut logits })
    );
    count!(
        out,
        "router_logits_backward",
        b.router_logits_backward(router_logits::Backward {
            shape,
            x: &x,
            w: &w,
            dlogits: &logits,
            dx: &mut dx,
            dw: &mut dw
        })
    );
    let shape =
        smoothing::Shape { tokens: T, channels: E, width: 3, ahead: 0, depthwise: false, renormalise: true };
    let (taps, mut smooth, mut dsmooth, mut dtaps) = (wave(3), wave(T * E), wave(T * E), wave(3));
    count!(
        out,
        "smoothing_forward",
        b.smoothing_forward(smoothing::Forward {
            shape,
            segments: segments!(),
            x: &logits,
            taps: &taps,
            y: &mut smooth
        })
    );
    count!(
        out,
        "smoothing_backward",
        b.smoothing_backward(smoothing::Backward {
            shape,
            segments: segments!(),
            x: &logits,
            taps: &taps,
            dy: &smooth,
            dx: &mut dsmooth,
            dtaps: Some(&mut dtaps),
        })
    );

    let config = RouterConfig {
        shared: 1,
        shared_weight: SharedWeight::Softmax,
        temperature: 0.5,
        always_active: vec![2],
        ..RouterConfig::softmax(E, K)
    };
    let routed = E - 1;
    let mut entropy = wave(2);
    let (gate, select, mut keep, mut scores) =
        (wave(E), wave(routed), vec![0u8; 2 * routed], wave(2 * routed));
    count!(
        out,
        "pool_keep",
        b.pool_keep(pool::Keep {
            tokens: T,
            experts: E,
            routed,
            forced: 1,
            segments: segments!(),
            logits: &logits,
            bias: Some(&gate),
            temperature: 0.5,
            sizes: &sizes,
            keep: &mut keep,
            scores: &mut scores,
            entropy: Some(&mut entropy),
        })
    );
    let (mut probs, mut weights, mut indices, mut counts) =
        (wave(T * routed), wave(R), vec![0u32; R], vec![0u32; E]);
    count!(
        out,
        "router_forward",
        b.router_forward(router::Forward {
            config: &config,
            tokens: T,
            logits: &logits,
            bias: Some(&gate),
            selection_bias: Some(&select),
            keep: KeepMask::PerSegment(keep.as_slice(), segments!()),
            probs: &mut probs,
            weights: &mut weights,
            indices: &mut indices,
            counts: &mut counts,
            lse: &mut lse,
        })
    );
    let (dweights, mut dprobs, mut dlogits, mut dgate) = (wave(R), wave(T * routed), wave(T * E), wave(E));
    count!(
        out,
        "router_backward",
        b.router_backward(router::Backward {
            config: &config,
            tokens: T,
            logits: &logits,
            bias: Some(&gate),
            keep: KeepMask::PerSegment(keep.as_slice(), segments!()),
            probs: &probs,
            weights: &weights,
            indices: &indices,
            lse: &lse,
            dweights: &dweights,
            dprobs: Some(&dprobs),
            z_coefficient: 0.1,
            dlogits: &mut dlogits,
            dbias: Some(&mut dgate),
        })
    );
    let balance = wave(routed);
    count!(
        out,
        "load_balance",
        b.load_balance(losses::LoadBalance {
            tokens: T,
            routed,
            coefficient: 1.0,
            counts: &balance,
            valid: None,
            probs: &probs,
            dprobs: &mut dprobs,
            loss: &mut loss,
        })
    );
    count!(
        out,
        "mutual_information",
        b.mutual_information(losses::MutualInformation {
            tokens: T,
            routed,
            token_weight: 1.0,
            marginal_weight: 1.0,
            valid: None,
            probs: &probs,
            dprobs: &mut dprobs,
            loss: &mut loss,
        })
    );
    count!(
        out,
        "sequence_consistency",
        b.sequence_consistency(losses::SequenceConsistency {
            tokens: T,
            routed,
            coefficient: 1.0,
            segments: segments!(),
            probs: &probs,
            dprobs: &mut dprobs,
            loss: &mut loss,
        })
    );
    let mut workspace = wave(4 * routed);
    count!(
        out,
        "domain_consistency",
        b.domain_consistency(losses::DomainConsistency {
            tokens: T,
            routed,
            domains: 2,
            coefficient: 1.0,
            segments: segments!(),
            domain: &domain,
            probs: &probs,
            dprobs: &mut dprobs,
            loss: &mut loss,
            workspace: &mut workspace,
        })
    );

    let shape = permutation::Shape { tokens: T, top_k: K, experts: E };
    let [mut order, mut token, mut inverse] = [(); 3].map(|()| vec![0u32; R]);
    let mut starts = vec![0u32; E + 1];
    count!(
        out,
        "plan",
        b.plan(permutation::Plan {
            shape,
            indices: &indices,
            order: &mut order,
            token: &mut token,
            offsets: &mut starts,
            inverse: &mut inverse
        })
    );
    let (mut rows, mut drows, mut dw) = (wave(R * D), wave(R * D), wave(R));
    count!(
        out,
        "dispatch_forward",
        b.dispatch_forward(permutation::Dispatch { shape, width: D, token: &token, x: &x, rows: &mut rows })
    );
    count!(
        out,
        "dispatch_backward",
        b.dispatch_backward(permutation::DispatchBackward {
            shape,
            width: D,
            inverse: &inverse,
            drows: &rows,
            dx: &mut dx
        })
    );
    count!(
        out,
        "combine_forward",
        b.combine_forward(permutation::Combine {
            shape,
            width: D,
            inverse: &inverse,
            weights: &weights,
            rows: &rows,
            y: &mut y,
            accumulate: false,
        })
    );
    count!(
        out,
        "combine_backward",
        b.combine_backward(permutation::CombineBackward {
            shape,
            width: D,
            inverse: &inverse,
            weights: &weights,
            rows: &rows,
            dy: &dy,
            drows: &mut drows,
            dweights: &mut dw,
        })
    );
    count!(
        out,
        "redundancy",
        b.redundancy(losses::Redundancy {
            tokens: T,
            top_k: K,
            routed_k: K - 1,
            width: D,
            coefficient: 1.0,
            inverse: &inverse,
            rows: &rows,
            drows: &mut drows,
            loss: &mut loss,
        })
    );

    let shape = grouped_gemm::Shape { groups: E, rows: R, inputs: D, outputs: H };
    let (w, mut z, mut dw) = (wave(E * H * D), wave(R * H), wave(E * H * D));
    let mut workspace = wave(b.grouped_gemm_workspace(shape));
    count!(
        out,
        "grouped_gemm_forward",
        b.grouped_gemm_forward(grouped_gemm::Forward {
            shape,
            offsets: &starts,
            x: &x,
            gather: Some(&token),
            w: &w,
            y: &mut z,
            workspace: &mut workspace,
        })
    );
    count!(
        out,
        "grouped_gemm_dgrad",
        b.grouped_gemm_dgrad(grouped_gemm::Dgrad {
            shape,
            offsets: &starts,
            dy: &z,
            gather: None,
            w: &w,
            dx: &mut drows,
            workspace: &mut workspace,
        })
    );
    count!(
        out,
        "grouped_gemm_wgrad",
        b.grouped_gemm_wgrad(grouped_gemm::Wgrad {
            shape,
            offsets: &starts,
            x: &x,
            x_gather: Some(&token),
            dy: &z,
            dy_gather: None,
            dw: &mut dw,
            workspace: &mut workspace,
        })
    );
    let shape =
        experts::Shape { tokens: T, top_k: K, experts: E, width: D, hidden: H, gated: true, activation: act };
    let (w_in, w_out, mut pre) = (wave(E * 2 * H * D), wave(E * D * H), wave(R * 2 * H));
    let (mut dw_in, mut dw_out, mut dslots) = (w_in.clone(), w_out.clone(), wave(R));
    let mut workspace = wave(b.experts_workspace(shape));
    count!(
        out,
        "experts_forward",
        b.experts_forward(experts::Forward {
            shape,
            offsets: &starts,
            token: &token,
            x: &x,
            w_in: &w_in,
            w_out: &w_out,
            pre: &mut pre,
            rows: &mut rows,
            workspace: &mut workspace,
        })
    );
    count!(
        out,
        "experts_backward",
        b.experts_backward(experts::Backward {
            shape,
            offsets: &starts,
            token: &token,
            order: &order,
            x: &x,
            weights: &weights,
            w_in: &w_in,
            w_out: &w_out,
            pre: &pre,
            dy: &dy,
            row_grad: Some(&rows),
            dx_rows: &mut drows,
            dweights: &mut dslots,
            dw_in: &mut dw_in,
            dw_out: &mut dw_out,
            workspace: &mut workspace,
        })
    );
}

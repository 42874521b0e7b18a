//! The dense transformer and the optimiser.

use super::{D, E, H, T, wave};
use emo::Backend;
use emo::cpu::Cpu;
use emo::ops::activation::{self, Activation};
use emo::ops::segments::Segments;
use emo::ops::{adamw, attention, cross_entropy, embedding, linear, rms_norm, rope};

pub fn run(b: &Cpu, out: &mut Vec<(&'static str, usize)>) {
    let offsets = [0u32, 70, T as u32];
    let of_token: Vec<u32> = (0..T).map(|t| u32::from(t >= 70)).collect();
    // Not a value: one that lives on would tie the arguments of every op that takes it together.
    macro_rules! segments {
        () => {
            Segments { offsets: offsets.as_slice(), of_token: of_token.as_slice() }
        };
    }
    let (x, dy, mut y, mut loss) = (wave(T * D), wave(T * D), wave(T * D), [0.0f64]);

    count!(out, "copy", b.copy(x.as_slice(), y.as_mut_slice()));
    count!(out, "zero", b.zero(y.as_mut_slice()));
    count!(out, "add", b.add(&x, &mut y));

    let shape = embedding::Shape { rows: T, vocabulary: E, width: D };
    let (ids, mut table): (Vec<u32>, _) = ((0..T as u32).map(|t| t % E as u32).collect(), wave(E * D));
    count!(
        out,
        "embedding_forward",
        b.embedding_forward(embedding::Forward { shape, ids: &ids, table: &table, y: &mut y })
    );
    count!(
        out,
        "embedding_backward",
        b.embedding_backward(embedding::Backward {
            shape,
            ids: &ids,
            padding: None,
            dy: &dy,
            dtable: &mut table
        })
    );

    let shape = rms_norm::Shape::rows(T, D);
    let (weight, mut dweight, mut rstd, mut dx) = (wave(D), wave(D), wave(T), wave(T * D));
    let mut workspace = wave(b.rms_norm_workspace(shape));
    count!(
        out,
        "rms_norm_forward",
        b.rms_norm_forward(rms_norm::Forward {
            shape,
            eps: 1e-6,
            x: &x,
            weight: &weight,
            y: &mut y,
            rstd: &mut rstd
        })
    );
    count!(
        out,
        "rms_norm_backward",
        b.rms_norm_backward(rms_norm::Backward {
            shape,
            x: &x,
            weight: &weight,
            rstd: &rstd,
            dy: &dy,
            dx: &mut dx,
            accumulate: true,
            dweight: &mut dweight,
            workspace: &mut workspace,
        })
    );
    let (cos, sin, mut turned) = (wave(E * 6), wave(E * 6), wave(T * D));
    let shape = rope::Shape { rows: T, heads: 3, head_dim: 12, stride: D, positions: E };
    count!(
        out,
        "rope",
        b.rope(rope::Apply { shape, position: &ids, cos: &cos, sin: &sin, inverse: false, x: &mut turned })
    );

    let shape = attention::Shape { tokens: T, heads: 2, kv_heads: 1, head_dim: 9, longest: 80 };
    let (mut o, mut lse, mut dqkv, dout) = (wave(T * 18), wave(T * 2), wave(T * D), wave(T * 18));
    let mut workspace = wave(b.attention_workspace(shape));
    count!(
        out,
        "attention_forward",
        b.attention_forward(attention::Forward {
            shape,
            segments: segments!(),
            qkv: &x,
            out: &mut o,
            lse: &mut lse,
            workspace: &mut workspace
        })
    );
    let cached = attention::Shape { longest: T, ..shape };
    let (mut cache, mut space) = (wave(T * cached.cache_row()), wave(b.attention_workspace(cached)));
    count!(
        out,
        "attention_cached",
        b.attention_cached(attention::Cached {
            shape: cached,
            places: 1,
            segments: Segments { offsets: &[0, T as u32], of_token: &[0; T] },
            slots: &[0],
            past: &[0],
            qkv: &x,
            cache: &mut cache,
            out: &mut o,
            workspace: &mut space,
        })
    );
    count!(
        out,
        "attention_backward",
        b.attention_backward(attention::Backward {
            shape,
            segments: segments!(),
            qkv: &x,
            out: &o,
            lse: &lse,
            dout: &dout,
            dqkv: &mut dqkv,
            workspace: &mut workspace,
        })
    );

    let shape = linear::Shape { rows: T, inputs: D, outputs: H };
    let (w, bias, mut z, mut dw, mut dbias) = (wave(H * D), wave(H), wave(T * H), wave(H * D), wave(H));
    let mut workspace = wave(b.linear_workspace(shape));
    count!(
        out,
        "linear_forward",
        b.linear_forward(linear::Forward {
            shape,
            x: &x,
            w: &w,
            bias: Some(&bias),
            y: &mut z,
            workspace: &mut workspace
        })
    );
    count!(
        out,
        "linear_dgrad",
        b.linear_dgrad(linear::Dgrad {
            shape,
            dy: &z,
            w: &w,
            dx: &mut dx,
            accumulate: false,
            workspace: &mut workspace
        })
    );
    count!(
        out,
        "linear_wgrad",
        b.linear_wgrad(linear::Wgrad {
            shape,
            x: &x,
            dy: &z,
            dw: &mut dw,
            dbias: Some(&mut dbias),
            workspace: &mut workspace
        })
    );

    let shape = activation::Shape { rows: T, width: D / 2, gated: true };
    let (mut a, act) = (wave(T * D / 2), Activation::Silu);
    count!(
        out,
        "activation_forward",
        b.activation_forward(activation::Forward { shape, activation: act, pre: &x, out: &mut a })
    );
    count!(
        out,
        "activation_backward",
        b.activation_backward(activation::Backward {
            shape,
            activation: act,
            pre: &x,
            dout: &a,
            dpre: &mut dx
        })
    );
    count!(out, "clamp_forward", b.clamp_forward(activation::Clamp { limit: 0.5, x: &x, y: &mut y }));
    count!(
        out,
        "clamp_backward",
        b.clamp_backward(activation::ClampBackward { limit: 0.5, x: &x, dy: &mut y })
    );
    let (targets, mut losses_of, mut lse) = (vec![3i32; T], wave(T), wave(T));
    count!(
        out,
        "cross_entropy",
        b.cross_entropy(cross_entropy::ForwardBackward {
            rows: T,
            vocabulary: D,
            targets: &targets,
            scale: 1.0,
            z_weight: 0.1,
            logits: &mut y,
            backward: true,
            loss: &mut losses_of,
            lse: &mut lse,
        })
    );
    let hyper = adamw::Hyper {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.9,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 1,
        grad_scale: 1.0,
    };
    let (mut m, mut v) = (wave(T * D), vec![0.5; T * D]);
    count!(
        out,
        "adamw",
        b.adamw(adamw::Step { hyper, params: &mut y, grads: &dy, m: &mut m, v: &mut v, copy: None })
    );
    count!(out, "sum_of_squares", b.sum_of_squares(adamw::SumOfSquares { x: &x, out: &mut loss }));
}

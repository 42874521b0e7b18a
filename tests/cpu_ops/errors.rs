//! Wrong arguments give an error that names them.

use crate::machines::machines;
use emo::cpu::Cpu;
use emo::ops::activation::Activation;
use emo::ops::segments::Segments;
use emo::ops::{attention, cross_entropy, embedding, experts, linear, permutation, rms_norm};
use emo::{Backend, Error, Result};

fn cpu() -> &'static Cpu {
    &machines()[0][1]
}

/// The argument that an error names.
fn blames(result: Result<()>) -> &'static str {
    match result.unwrap_err() {
        Error::Length { arg, .. } | Error::Argument { arg, .. } | Error::Index { arg, .. } => arg,
        other => panic!("{other}"),
    }
}

#[test]
fn a_wrong_length_names_the_argument_and_both_lengths() {
    let shape = rms_norm::Shape::rows(3, 4);
    let (x, weight, mut y, mut rstd) = ([0.0; 12], [0.0; 5], [0.0; 12], [0.0; 3]);
    let args =
        rms_norm::Forward::<Cpu> { shape, eps: 0.0, x: &x, weight: &weight, y: &mut y, rstd: &mut rstd };
    let error = cpu().rms_norm_forward(args).unwrap_err();
    assert_eq!(error, Error::Length { op: "rms_norm_forward", arg: "weight", expected: 4, found: 5 });
    assert_eq!(error.to_string(), "rms_norm_forward: `weight` must hold 4 elements, found 5");
}

#[test]
fn an_index_out_of_range_names_its_place() {
    let shape = embedding::Shape { rows: 3, vocabulary: 2, width: 1 };
    let args = embedding::Forward::<Cpu> { shape, ids: &[0, 1, 2], table: &[0.0; 2], y: &mut [0.0; 3] };
    assert_eq!(
        cpu().embedding_forward(args),
        Err(Error::Index { op: "embedding_forward", arg: "ids", position: 2, bound: 2, found: 2 })
    );
    let args = permutation::Dispatch::<Cpu> {
        shape: permutation::Shape { tokens: 2, top_k: 1, experts: 1 },
        width: 1,
        token: &[0, 2],
        x: &[0.0; 2],
        rows: &mut [0.0; 2],
    };
    assert_eq!(blames(cpu().dispatch_forward(args)), "token");
}

#[test]
fn rows_written_twice_are_refused() {
    let args = permutation::CombineBackward::<Cpu> {
        shape: permutation::Shape { tokens: 2, top_k: 1, experts: 1 },
        width: 1,
        inverse: &[1, 1],
        weights: &[0.0; 2],
        rows: &[0.0; 2],
        dy: &[0.0; 2],
        drows: &mut [0.0; 2],
        dweights: &mut [0.0; 2],
    };
    assert_eq!(blames(cpu().combine_backward(args)), "inverse");
}

#[test]
fn segments_must_partition_the_tokens() {
    let attend = |offsets: &[u32], of_token: &[u32], longest| {
        let shape = attention::Shape { tokens: 3, heads: 1, kv_heads: 1, head_dim: 1, longest };
        cpu().attention_forward(attention::Forward::<Cpu> {
            shape,
            segments: Segments::<Cpu> { offsets, of_token },
            qkv: &[0.0; 9],
            out: &mut [0.0; 3],
            lse: &mut [0.0; 3],
            workspace: &mut vec![0.0; cpu().attention_workspace(shape)],
        })
    };
    assert_eq!(attend(&[0, 2, 3], &[0, 0, 1], 2), Ok(()));
    assert_eq!(blames(attend(&[0, 2, 3], &[0, 0, 1], 1)), "longest");
    assert_eq!(blames(attend(&[0, 2, 3], &[0, 1, 1], 3)), "segments.of_token");
    for offsets in [&[0, 2][..], &[1, 3], &[0, 4, 3], &[0, u32::MAX, 3], &[]] {
        assert_eq!(blames(attend(offsets, &[0, 0, 0], 3)), "segments.offsets", "{offsets:?}");
    }
}

#[test]
fn targets_must_be_in_the_vocabulary() {
    let run = |target: i32| {
        cpu().cross_entropy(cross_entropy::ForwardBackward::<Cpu> {
            rows: 1,
            vocabulary: 2,
            targets: &[target],
            scale: 1.0,
            z_weight: 0.0,
            logits: &mut [0.0; 2],
            backward: true,
            loss: &mut [0.0],
            lse: &mut [0.0],
        })
    };
    assert_eq!(run(1), Ok(()));
    assert_eq!(run(cross_entropy::IGNORE), Ok(()));
    for target in [2, -1, i32::MIN, i32::MAX] {
        assert_eq!(blames(run(target)), "targets");
    }
}

/// Shapes whose sizes overflow are errors too, and their workspaces more than anyone can allocate.
#[test]
fn absurd_shapes_are_errors() {
    const HUGE: usize = 1 << 40;
    let shape = linear::Shape { rows: HUGE, inputs: HUGE, outputs: HUGE };
    assert!(cpu().alloc::<f32>(cpu().linear_workspace(shape)).is_err());
    let args = linear::Forward::<Cpu> { shape, x: &[], w: &[], bias: None, y: &mut [], workspace: &mut [] };
    assert_eq!(blames(cpu().linear_forward(args)), "x");
    let shape = experts::Shape {
        tokens: HUGE,
        top_k: HUGE,
        experts: HUGE,
        width: HUGE,
        hidden: HUGE,
        gated: true,
        activation: Activation::Silu,
    };
    assert!(cpu().alloc::<f32>(cpu().experts_workspace(shape)).is_err());
    let shape = attention::Shape { tokens: HUGE, heads: HUGE, kv_heads: 1, head_dim: HUGE, longest: HUGE };
    assert!(cpu().alloc::<f32>(cpu().attention_workspace(shape)).is_err());
}

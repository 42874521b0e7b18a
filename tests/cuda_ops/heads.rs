//! Attention of heads of every width that has kernels of its own, and of what lies between them.

use crate::attention::Attention;
use crate::device::{hold, reals, unset};
use crate::gpu::gpu;
use crate::machines::agree;
use emo::ops::attention::{Forward, Shape};
use emo::ops::segments::Segments;
use emo::{Backend, Error};

#[test]
fn heads_of_every_width_agree() {
    for (heads, kv_heads, head_dim) in [(2, 1, 24), (1, 1, 96), (2, 1, 128), (1, 1, 133), (2, 1, 256)] {
        let shape = Shape { tokens: 150, heads, kv_heads, head_dim, longest: 80 };
        agree(&Attention { offsets: vec![0, 3, 70, 150], shape });
    }
}

#[test]
fn a_head_wider_than_the_kernels_is_an_error() {
    let Some(cuda) = gpu::<f32>() else { return };
    let shape = Shape { tokens: 1, heads: 1, kv_heads: 1, head_dim: 257, longest: 1 };
    let forward = forward(&cuda, shape, &[0, 1], &[0], &vec![0.0; 3 * 257]);
    let error = forward.unwrap_err().to_string();
    assert_eq!(error, "attention_forward: `head_dim` must be at most 256, found 257");
}

/// The launch succeeds; the next wait reports the index, and the token has attended to itself alone.
#[test]
fn a_token_without_a_segment_is_alone() {
    let Some(cuda) = gpu::<f32>() else { return };
    let shape = Shape { tokens: 3, heads: 1, kv_heads: 1, head_dim: 1, longest: 3 };
    let qkv = [0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 6.0];
    let Err(error) = forward(&cuda, shape, &[0, 3], &[0, 7, 0], &qkv) else { panic!("no report") };
    let expected =
        Error::Index { op: "attention", arg: "segments.of_token", position: 1, bound: 1, found: 7 };
    assert_eq!(error, expected);
    // Keys are equal: where segments are right, each token gets the mean of the values up to its own.
    assert_eq!(forward(&cuda, shape, &[0, 3], &[0, 0, 0], &qkv).unwrap(), [1.0, 1.5, 3.0]);
    assert_eq!(forward(&cuda, shape, &[0, 1, 3], &[0, 1, 1], &qkv).unwrap(), [1.0, 2.0, 4.0]);
}

/// A segment that ends behind the last token, and one that ends before a token of its own: both are reported, and their
/// tokens attend to themselves alone.
#[test]
fn a_segment_with_a_wrong_end_is_reported() {
    let Some(cuda) = gpu::<f32>() else { return };
    let shape = Shape { tokens: 3, heads: 1, kv_heads: 1, head_dim: 1, longest: 3 };
    let qkv = [0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 6.0];
    let report =
        |offsets: &[u32], of_token: &[u32]| forward(&cuda, shape, offsets, of_token, &qkv).unwrap_err();
    let behind = Error::Index { op: "attention", arg: "segments.offsets", position: 1, bound: 4, found: 9 };
    assert_eq!(report(&[0, 9], &[0, 0, 0]), behind);
    let before = Error::Index {
        op: "attention",
        arg: "a token of segments.of_token",
        position: 1,
        bound: 1,
        found: 1,
    };
    assert_eq!(report(&[0, 1, 3], &[0, 0, 1]), before);
    assert_eq!(forward(&cuda, shape, &[0, 1, 3], &[0, 1, 1], &qkv).unwrap(), [1.0, 2.0, 4.0]);
}

fn forward<B: Backend>(
    backend: &B,
    shape: Shape,
    offsets: &[u32],
    of_token: &[u32],
    qkv: &[f64],
) -> emo::Result<Vec<f64>> {
    let mut out = unset(backend, shape.tokens * shape.out());
    backend.attention_forward(Forward {
        shape,
        segments: Segments { offsets: hold(backend, offsets).all(), of_token: hold(backend, of_token).all() },
        qkv: reals(backend, qkv).all(),
        out: out.all_mut(),
        lse: unset(backend, shape.tokens * shape.heads).all_mut(),
        workspace: unset(backend, backend.attention_workspace(shape)).all_mut(),
    })?;
    let mut values = vec![<B::Storage as bytemuck::Zeroable>::zeroed(); shape.tokens * shape.out()];
    backend.download(out.all(), &mut values)?;
    Ok(values.into_iter().map(emo::backend::Real::to_f64).collect())
}

//! Wrong arguments: lengths are errors at once, indices when the host next waits.

use crate::device::{hold, reals, unset};
use crate::gpu::gpu;
use emo::ops::{embedding, rms_norm};
use emo::{Backend, Error};

#[test]
fn a_wrong_length_names_the_argument_and_both_lengths() {
    let Some(cuda) = gpu::<f32>() else { return };
    let error = cuda
        .rms_norm_forward(rms_norm::Forward {
            shape: rms_norm::Shape::rows(3, 4),
            eps: 0.0,
            x: reals(&cuda, &[0.0; 12]).all(),
            weight: reals(&cuda, &[0.0; 5]).all(),
            y: unset(&cuda, 12).all_mut(),
            rstd: unset(&cuda, 3).all_mut(),
        })
        .unwrap_err();
    assert_eq!(error, Error::Length { op: "rms_norm_forward", arg: "weight", expected: 4, found: 5 });
}

/// The op's launch succeeds; the next wait reports the index, once, and the backend works on.
#[test]
fn an_index_out_of_range_is_reported_at_the_next_wait() {
    let Some(cuda) = gpu::<half::bf16>() else { return };
    let (mut y, table) = (unset(&cuda, 3), reals(&cuda, &[0.5, 0.25]));
    let mut embed = |ids: &[u32]| {
        cuda.embedding_forward(embedding::Forward {
            shape: embedding::Shape { rows: 3, vocabulary: 2, width: 1 },
            ids: hold(&cuda, ids).all(),
            table: table.all(),
            y: y.all_mut(),
        })
        .unwrap();
    };
    embed(&[0, 1, 2]);
    let expected = Error::Index { op: "embedding_forward", arg: "ids", position: 2, bound: 2, found: 2 };
    assert_eq!(cuda.synchronize(), Err(expected));
    assert_eq!(cuda.synchronize(), Ok(()));
    embed(&[1, 0, 1]);
    assert_eq!(y.reals(), [0.25, 0.5, 0.25]);
}

//! Wrong arguments: lengths are errors at once, indices when the host next waits.

use crate::device::{hold, reals, unset};
use crate::gpu::gpu;
use emo::ops::{embedding, losses, rms_norm};
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

/// Tokens write the rows that their slots name. Where two name one, or one names none, nothing is learned from any.
#[test]
fn redundancy_of_rows_named_twice_is_reported() {
    let Some(cuda) = gpu::<f32>() else { return };
    let rows = reals(&cuda, &[1.0, 1.0, 1.0, 2.0, -1.0, 1.0, 0.5, 0.5]);
    let run = |inverse: &[u32]| {
        let (mut drows, mut loss) = (unset(&cuda, 8), hold(&cuda, &[0.25f64]));
        cuda.redundancy(losses::Redundancy {
            tokens: 2,
            top_k: 2,
            routed_k: 2,
            width: 2,
            coefficient: 1.0,
            inverse: hold(&cuda, inverse).all(),
            rows: rows.all(),
            drows: drows.all_mut(),
            loss: loss.all_mut(),
        })
        .unwrap();
        (cuda.synchronize(), drows.reals(), loss.get()[0])
    };
    let twice =
        Error::Index { op: "redundancy", arg: "a row's slots in inverse", position: 3, bound: 2, found: 2 };
    assert_eq!(run(&[3, 0, 1, 3]), (Err(twice), vec![0.0; 8], 0.25));
    let beyond = Error::Index { op: "redundancy", arg: "inverse", position: 2, bound: 4, found: 4 };
    assert_eq!(run(&[3, 0, 4, 1]), (Err(beyond), vec![0.0; 8], 0.25));
    let (result, drows, loss) = run(&[3, 0, 1, 2]);
    assert!(result.is_ok() && loss > 0.25 && drows.iter().any(|&gradient| gradient != 0.0), "{drows:?}");
}

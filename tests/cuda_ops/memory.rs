//! Buffers, views, and the caller's own slices.

use crate::device::hold;
use crate::gpu::gpu;
use emo::backend::Len;
use emo::{Backend, Error};

#[test]
fn views_keep_inside_their_buffer_and_apart() {
    let Some(cuda) = gpu::<f32>() else { return };
    assert!(matches!(cuda.alloc::<f64>(usize::MAX / 2), Err(Error::Backend { .. })));
    let mut buffer = cuda.alloc::<u32>(10).unwrap();
    let [left, none, right] = cuda.disjoint_mut(&mut buffer, [6..10, 3..3, 0..6]).unwrap();
    cuda.upload(&[1; 4], left).unwrap();
    cuda.upload(&[], none).unwrap();
    cuda.upload(&[2; 6], right).unwrap();
    let mut found = [0; 2];
    cuda.download(cuda.view(&buffer, 5..7).unwrap(), &mut found).unwrap();
    assert_eq!(found, [2, 1]);
    let tail = cuda.view(&buffer, 4..10).unwrap().slice(2..6).unwrap();
    let mut found = [0; 4];
    cuda.download(tail, &mut found).unwrap();
    assert_eq!(found, [1; 4]);
    assert!(tail.slice(3..5).is_err());
    assert!(cuda.view(&buffer, 5..11).is_err());
    assert!(cuda.view_mut(&mut buffer, 11..11).is_err());
    assert!(cuda.disjoint_mut(&mut buffer, [0..6, 5..10]).is_err());
    assert!(cuda.disjoint_mut(&mut buffer, [0..6, 6..11]).is_err());
    let (head, rest) = cuda.view_mut(&mut buffer, 1..9).unwrap().split_at(3).unwrap();
    assert_eq!((head.len(), rest.len()), (3, 5));
    assert!(rest.split_at(6).is_err());
}

#[test]
fn copies_and_zeroes_whole_buffers() {
    let Some(cuda) = gpu::<f32>() else { return };
    let source: Vec<u32> = (0..200_000).collect();
    let (from, mut to) = (hold(&cuda, &source), hold(&cuda, &vec![9u32; source.len()]));
    cuda.copy(from.all(), to.all_mut()).unwrap();
    assert_eq!(to.get(), source);
    cuda.zero(to.all_mut()).unwrap();
    assert!(to.get().iter().all(|&value| value == 0));
    let short = from.all().slice(1..source.len()).unwrap();
    assert!(matches!(cuda.copy(short, to.all_mut()), Err(Error::Length { arg: "target", .. })));
}

/// Work on two streams has no order: a buffer of one is refused by the other.
#[test]
fn buffers_belong_to_their_stream() {
    let (Some(one), Some(other)) = (gpu::<f32>(), gpu::<f32>()) else { return };
    let (x, mut y) = (hold(&one, &[1.0f32]), hold(&other, &[2.0f32]));
    assert!(matches!(other.add(x.all(), y.all_mut()), Err(Error::Backend { .. })));
    assert!(matches!(other.copy(x.all(), y.all_mut()), Err(Error::Backend { .. })));
    assert_eq!(y.get(), [2.0]);
}

/// The caller's slices and stream: nothing is copied, and results are there for cudarc.
#[test]
fn a_callers_slices_are_read_and_written_in_place() {
    let Some(cuda) = gpu::<f32>() else { return };
    let stream = cuda.stream().context().new_stream().unwrap();
    let x = stream.clone_htod(&[1.0f32, 2.0, 3.0]).unwrap();
    let mut y = stream.clone_htod(&[10.0f32, 20.0, 30.0, 40.0]).unwrap();
    {
        let mut tail = y.slice_mut(1..4);
        let (x, mut y) = (cuda.borrow(&x).unwrap(), cuda.borrow_mut(&mut tail).unwrap());
        cuda.add(x.view(), y.view_mut()).unwrap();
    }
    assert_eq!(stream.clone_dtoh(&y).unwrap(), [10.0, 21.0, 32.0, 43.0]);
}

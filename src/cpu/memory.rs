//! Moving, clearing and adding buffers.

use crate::backend::Element;
use crate::{Error, Result};

use super::simd::Storage;
use super::threads::{DisjointMut, Threads};
use super::{Cpu, vector};

/// Elements of a task: large enough to hide the hand-over, small enough to balance.
const CHUNK: usize = 1 << 16;

fn same_length(op: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Length { op, arg: "target", expected, found }) }
}

/// `target = source`.
pub(super) fn copy<T: Element>(
    threads: &Threads,
    op: &'static str,
    source: &[T],
    target: &mut [T],
) -> Result<()> {
    same_length(op, source.len(), target.len())?;
    threads.for_each_chunk(target, CHUNK, |chunk, part, _| {
        part.copy_from_slice(&source[chunk * CHUNK..][..part.len()]);
    });
    Ok(())
}

/// `target = 0`.
pub(super) fn zero<T: Element>(threads: &Threads, target: &mut [T]) {
    threads.for_each_chunk(target, CHUNK, |_, part, _| part.fill(T::zeroed()));
}

/// `y += x`.
pub(super) fn add<T: Storage>(cpu: &Cpu<T>, x: &[T], y: &mut [T]) -> Result<()> {
    if x.len() != y.len() {
        return Err(Error::Length { op: "add", arg: "y", expected: x.len(), found: y.len() });
    }
    cpu.threads.for_each_chunk(y, CHUNK, |chunk, y, _| {
        cpu.isa.dispatch(vector::Add { x: &x[chunk * CHUNK..][..y.len()], y });
    });
    Ok(())
}

/// `width` elements of row `row`, of rows that start `stride` apart.
///
/// # Safety
/// `width <= stride`, and no other reference into that row may be alive.
#[allow(clippy::mut_from_ref)]
pub(super) unsafe fn row_mut<'a, T>(
    data: &'a DisjointMut<'_, T>,
    row: usize,
    stride: usize,
    width: usize,
) -> &'a mut [T] {
    // SAFETY: rows of at most `stride` elements that start `stride` apart do not overlap, and this row has no other user.
    unsafe { data.slice_mut(row * stride..row * stride + width) }
}

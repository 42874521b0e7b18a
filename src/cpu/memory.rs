//! Moving, clearing and adding buffers.

use std::ops::Range;

use crate::backend::Element;
use crate::{Error, Result};

use super::threads::DisjointMut;
use super::{Cpu, vector};

/// Elements of a task: large enough to hide the hand-over, small enough to balance.
const CHUNK: usize = 1 << 16;

fn outside(op: &'static str, range: &Range<usize>, len: usize) -> Error {
    Error::argument(op, "range", format!("ascending and inside 0..{len}"), format!("{range:?}"))
}

/// `range` of `data`.
pub(super) fn view<T>(data: &[T], range: Range<usize>) -> Result<&[T]> {
    data.get(range.clone()).ok_or_else(|| outside("view", &range, data.len()))
}

/// `range` of `data`, writable.
pub(super) fn view_mut<T>(data: &mut [T], range: Range<usize>) -> Result<&mut [T]> {
    let len = data.len();
    data.get_mut(range.clone()).ok_or_else(|| outside("view_mut", &range, len))
}

/// Several ranges of `data`, none of which may overlap another.
pub(super) fn disjoint_mut<T, const N: usize>(
    data: &mut [T],
    ranges: [Range<usize>; N],
) -> Result<[&mut [T]; N]> {
    const OP: &str = "disjoint_mut";
    let len = data.len();
    if let Some(range) = ranges.iter().find(|range| range.start > range.end || range.end > len) {
        return Err(outside(OP, range, len));
    }
    // An empty range overlaps nothing, wherever it lies; the standard library counts it as a point.
    let ranges = ranges.map(|range| if range.is_empty() { 0..0 } else { range });
    let found = format!("{ranges:?}");
    data.get_disjoint_mut(ranges).map_err(|_| Error::argument(OP, "ranges", "free of overlap", found))
}

fn same_length(op: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Length { op, arg: "target", expected, found }) }
}

/// `target = source`.
pub(super) fn copy<T: Element>(cpu: &Cpu, op: &'static str, source: &[T], target: &mut [T]) -> Result<()> {
    same_length(op, source.len(), target.len())?;
    cpu.threads.for_each_chunk(target, CHUNK, |chunk, part, _| {
        part.copy_from_slice(&source[chunk * CHUNK..][..part.len()]);
    });
    Ok(())
}

/// `target = 0`.
pub(super) fn zero<T: Element>(cpu: &Cpu, target: &mut [T]) {
    cpu.threads.for_each_chunk(target, CHUNK, |_, part, _| part.fill(T::zeroed()));
}

/// `y += x`.
pub(super) fn add(cpu: &Cpu, x: &[f32], y: &mut [f32]) -> Result<()> {
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

//! The product summed along a group's rows: `C_g += A_g^T B_g`, the gradient of the group's weights.
//!
//! One task owns one tile of one group's C and walks the group's rows in order, so the sum needs neither atomics nor a
//! second pass, and a group without rows costs nothing.

use super::rows::Rows;
use super::{ALIGN, Along, BlockC, Machine, Operand, aligned, block, micro_kernels, part};
use crate::cpu::isa::Isa;
use crate::cpu::simd::Storage;
use crate::cpu::threads::DisjointMut;
use std::ops::Range;

/// Most rows of a tile of C.
const TILE: usize = 512;

/// Most columns of a tile of C.
const WIDE: usize = 256;

/// Words summed before the tile of C is updated. Fewer than the largest K block, because here both operands are new each time
/// and share L2 with the tile and with the rows that are prefetched.
const DEPTH: usize = 128;

/// Longest rows that are read in place: with longer ones every term lies in another page of memory.
const PAGE: usize = 1024;

/// A tile's width is a multiple of this where it can be, the width of a panel or a multiple of it.
const STEP: usize = 32;

/// Operands. The caller has checked every length.
pub(crate) struct ByGroups<'a, A, B> {
    pub a: &'a A,
    /// Columns of A, rows of C.
    pub m: usize,
    pub b: &'a B,
    /// Columns of B and of C.
    pub n: usize,
    /// Row ranges of the groups, `groups + 1` ascending values from 0.
    pub offsets: &'a [u32],
}

/// f32 elements of workspace for [`by_groups`].
pub(crate) fn workspace_len(threads: usize) -> usize {
    threads * SCRATCH + ALIGN
}

/// One worker's rows of A and of B.
const SCRATCH: usize = DEPTH * (TILE + WIDE + 2 * PAD);

/// Added to a row of scratch, so that equal columns fall into different cache sets.
const PAD: usize = 16;

/// `c[groups, m, n] += A^T B` group by group, with rows that are held as `T`. `workspace` holds [`workspace_len`] elements.
pub(crate) fn by_groups<T: Storage, A: Rows, B: Rows>(
    machine: Machine,
    product: ByGroups<A, B>,
    c: &mut [f32],
    workspace: &mut [f32],
) {
    let ByGroups { a, m, b, n, offsets } = product;
    let Machine { threads, isa } = machine;
    let groups = offsets.len() - 1;
    let rows_of = |g: usize| offsets[g] as usize..offsets[g + 1] as usize;
    let busy = (0..groups).filter(|&g| !rows_of(g).is_empty()).count();
    if busy == 0 || m == 0 || n == 0 {
        return;
    }
    let (mut row_parts, mut column_parts) = (m.div_ceil(TILE), n.div_ceil(WIDE));
    // Few groups: smaller tiles, though each repeats some packing, so that every thread has work.
    let wanted = if threads.len() == 1 { 1 } else { 2 * threads.len() };
    while busy * row_parts * column_parts < wanted {
        let (height, width) = (m.div_ceil(row_parts), n.div_ceil(column_parts));
        match (height > 2 * STEP, width > 2 * STEP) {
            (true, _) if height >= width => row_parts *= 2,
            (_, true) => column_parts *= 2,
            _ => break,
        }
    }
    let micro = micro_kernels::<T>(isa);
    let depth = DEPTH * micro.terms;
    let tiles = row_parts * column_parts;
    let c = DisjointMut::new(c);
    threads.for_each_scratch(groups * tiles, aligned(workspace), SCRATCH, |task, scratch| {
        let (group, tile) = (task / tiles, task % tiles);
        let tile_m = steps(m, row_parts, tile / column_parts);
        let tile_n = steps(n, column_parts, tile % column_parts);
        let group_rows = rows_of(group);
        if group_rows.is_empty() || tile_m.is_empty() || tile_n.is_empty() {
            return;
        }
        let (scratch_a, scratch_b) = scratch.split_at_mut(DEPTH * (TILE + PAD));
        let c = c.as_mut_ptr().wrapping_add(group * m * n + tile_m.start * n + tile_n.start);
        for r0 in group_rows.clone().step_by(depth) {
            let rows = r0..group_rows.end.min(r0 + depth);
            // A micro-kernel reads whole panels of B, which in place must not pass the end of a row.
            let whole = tile_n.len().is_multiple_of(micro.nr);
            let scratch = ((&mut *scratch_a, TILE + PAD), (&mut *scratch_b, WIDE + PAD));
            let (operand_a, operand_b) = if micro.terms == 1 {
                (
                    operand(isa, a, rows.clone(), tile_m.clone(), true, scratch.0),
                    operand(isa, b, rows.clone(), tile_n.clone(), whole, scratch.1),
                )
            } else {
                (
                    paired(isa, a, rows.clone(), tile_m.clone(), scratch.0),
                    paired(isa, b, rows.clone(), tile_n.clone(), scratch.1),
                )
            };
            let words = rows.len().div_ceil(micro.terms);
            let tile_c = BlockC { ptr: c, ld: n, alpha: 1.0, accumulate: true };
            // What is packed next: the group's next rows or, after them, the rows of a task that this worker may well
            // get. Only speed depends on the guess.
            let next = match rows.end {
                r if r < group_rows.end => r..group_rows.end,
                _ => rows_of(((task + threads.len()) / tiles).min(groups - 1)),
            };
            let next = next.start..next.end.min(next.start + depth);
            let prefetch = |call, calls| {
                for row in part(next.len(), calls, call) {
                    a.prefetch(next.start + row, tile_m.clone());
                    b.prefetch(next.start + row, tile_n.clone());
                }
            };
            // SAFETY: both were made above; the tile of C belongs to this task alone and lies inside.
            unsafe {
                let (m, n) = (tile_m.len(), tile_n.len());
                block::<Along, f32>(
                    micro.along,
                    micro.nr,
                    m,
                    n,
                    words,
                    operand_a,
                    operand_b,
                    tile_c,
                    prefetch,
                );
            }
        }
    });
}

/// Columns `cols` of the rows: where they lie if that is allowed, or copied to scratch with rows of the given length. There a
/// row is followed by room for a panel.
fn operand<R: Rows>(
    isa: Isa,
    source: &R,
    rows: Range<usize>,
    cols: Range<usize>,
    allow_in_place: bool,
    (scratch, ld): (&mut [f32], usize),
) -> Operand {
    match source.in_place() {
        Some((data, width)) if allow_in_place && width <= PAGE => {
            Operand { ptr: data[rows.start * width + cols.start..].as_ptr(), step: width }
        }
        _ => {
            source.fill(isa, rows, cols, scratch, ld);
            Operand { ptr: scratch.as_ptr(), step: ld }
        }
    }
}

/// Columns `cols` of the rows, two rows to a row of words.
fn paired<R: Rows>(
    isa: Isa,
    source: &R,
    rows: Range<usize>,
    cols: Range<usize>,
    (scratch, ld): (&mut [f32], usize),
) -> Operand {
    source.fill_pairs(isa, rows, cols, scratch, ld);
    Operand { ptr: scratch.as_ptr(), step: ld }
}

/// Part `i` of `len` cut at multiples of [`STEP`].
fn steps(len: usize, parts: usize, i: usize) -> Range<usize> {
    let part = part(len.div_ceil(STEP), parts, i);
    len.min(part.start * STEP)..len.min(part.end * STEP)
}

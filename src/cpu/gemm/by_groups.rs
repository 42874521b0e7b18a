//! The product summed along a group's rows: `C_g += A_g^T B_g`, the gradient of the group's weights.
//!
//! One task owns one tile of one group's C and walks the group's rows in order, so the sum needs neither atomics nor a
//! second pass, and a group without rows costs nothing.

use super::rows::Rows;
use super::{A_LD, ALIGN, BlockC, Machine, aligned, block, micro_kernels, pack, part};
use crate::cpu::threads::DisjointMut;

/// Most rows of a tile of C.
const TILE: usize = 256;

/// Most columns of a tile of C.
const WIDE: usize = 512;

/// Rows summed before the tile of C is updated. Fewer than the largest K block, because here both packed operands (128 and
/// 256 KiB) are new each time and share L2 with the tile and with the rows that are prefetched.
const DEPTH: usize = 128;

/// Rows packed at a time: a cache line of a packed row of A.
const CHUNK: usize = 16;

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

/// One worker's packed A, packed B and rows in between.
const SCRATCH: usize = TILE * A_LD + DEPTH * WIDE + CHUNK * WIDE;

/// `c[groups, m, n] += A^T B` group by group. `workspace` holds [`workspace_len`] elements.
pub(crate) fn by_groups<A: Rows, B: Rows>(
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
    let micro = micro_kernels(isa);
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
        let (packed_a, rest) = scratch.split_at_mut(TILE * A_LD);
        let (packed_b, chunk) = rest.split_at_mut(DEPTH * WIDE);
        let c = c.as_mut_ptr().wrapping_add(group * m * n + tile_m.start * n + tile_n.start);
        for r0 in group_rows.clone().step_by(DEPTH) {
            let kc = DEPTH.min(group_rows.end - r0);
            for k in (0..kc).step_by(CHUNK) {
                let rows = r0 + k..r0 + kc.min(k + CHUNK);
                let count = rows.len();
                a.fill(isa, rows.clone(), tile_m.clone(), chunk, tile_m.len());
                // SAFETY: the chunk holds `count` rows of the tile's height, and column k + count <= A_LD of as many
                // packed rows exists.
                unsafe {
                    let to = packed_a.as_mut_ptr().add(k);
                    pack::a_from_columns(isa, (chunk.as_ptr(), tile_m.len()), count, tile_m.len(), to);
                }
                b.fill(isa, rows, tile_n.clone(), chunk, tile_n.len());
                for (panel, column) in (0..tile_n.len()).step_by(micro.nr).enumerate() {
                    let cols = micro.nr.min(tile_n.len() - column);
                    let to = &mut packed_b[(panel * kc + k) * micro.nr..][..count * micro.nr];
                    // SAFETY: the chunk holds `count` rows of the tile's width, and `to` is that part of the panel.
                    unsafe {
                        let from = (chunk.as_ptr().add(column), tile_n.len());
                        pack::panel_from_rows(isa, from, count, cols, to.as_mut_ptr(), micro.nr);
                    }
                }
            }
            let tile_c = BlockC { ptr: c, ld: n, alpha: 1.0, accumulate: true };
            // What is packed next: the group's next rows or, after them, the rows of a task that this worker may well
            // get. Only speed depends on the guess.
            let next = match r0 + kc {
                r if r < group_rows.end => r..group_rows.end,
                _ => rows_of(((task + threads.len()) / tiles).min(groups - 1)),
            };
            let next = next.start..next.end.min(next.start + DEPTH);
            let prefetch = |call, calls| {
                for row in part(next.len(), calls, call) {
                    a.prefetch(next.start + row, tile_m.clone());
                    b.prefetch(next.start + row, tile_n.clone());
                }
            };
            // SAFETY: both operands were packed just above, and the tile of C belongs to this task alone and lies inside.
            unsafe {
                let (a, b) = (packed_a.as_ptr(), packed_b.as_ptr());
                block(micro, tile_m.len(), tile_n.len(), kc, a, b, tile_c, prefetch);
            }
        }
    });
}

/// Part `i` of `len` cut at multiples of [`STEP`].
fn steps(len: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
    let part = part(len.div_ceil(STEP), parts, i);
    len.min(part.start * STEP)..len.min(part.end * STEP)
}

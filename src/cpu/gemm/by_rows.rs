//! The grouped product along rows: `C[r] = A[r] op(W_g)` for every row r of group g.
//!
//! Two parallel passes, each over one flat list of tasks: first every panel of every group's weights is packed, then
//! every (group, tile of rows, tile of columns) is computed by one task from packing its rows to finishing them.
//! No barrier stands between groups, so their sizes may be as uneven as they like.

use super::rows::{Finish, Rows};
use super::{A_LD, ALIGN, BlockC, KC, MC, Machine, NR_MAX, aligned, block, micro_kernels, pack, part};
use crate::cpu::threads::DisjointMut;

/// How a group's weights are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weights {
    /// `[n, k]`: the product is with the transpose.
    Nk,
    /// `[k, n]`.
    Kn,
}

/// Shape and operands. The caller has checked every length.
pub(crate) struct ByRows<'a, A> {
    pub a: &'a A,
    /// Row ranges of the groups, `groups + 1` ascending values from 0.
    pub offsets: &'a [u32],
    pub n: usize,
    pub k: usize,
    /// `[groups, n, k]` or `[groups, k, n]`.
    pub weights: &'a [f32],
    pub stored: Weights,
}

/// Where C goes.
pub(crate) enum Output<'a> {
    /// `[rows, n]`, overwritten or added to.
    Matrix { c: &'a mut [f32], accumulate: bool },
    /// Into scratch, where only [`Finish`] sees it.
    Scratch,
}

/// f32 elements of workspace for [`by_rows`].
pub(crate) fn workspace_len(groups: usize, n: usize, k: usize, threads: usize, to_scratch: bool) -> usize {
    groups * k * n.next_multiple_of(NR_MAX) + threads * scratch_len(n, to_scratch) + ALIGN
}

/// One worker's block of A and, if C is not stored, its tile of C.
fn scratch_len(n: usize, to_scratch: bool) -> usize {
    MC * A_LD + if to_scratch { MC * n.next_multiple_of(ALIGN) } else { 0 }
}

/// Computes the product and finishes every row of C. `workspace` holds [`workspace_len`] elements.
pub(crate) fn by_rows<A: Rows, F: Finish>(
    machine: Machine,
    product: ByRows<A>,
    output: Output,
    finish: &F,
    workspace: &mut [f32],
) {
    let ByRows { a, offsets, n, k, weights, stored } = product;
    let Machine { threads, isa } = machine;
    let groups = offsets.len() - 1;
    let rows_of = |g: usize| offsets[g] as usize..offsets[g + 1] as usize;
    let row_tiles: usize = (0..groups).map(|g| rows_of(g).len().div_ceil(MC)).sum();
    if row_tiles == 0 || n == 0 {
        return;
    }
    let micro = micro_kernels(isa);
    let panels = n.div_ceil(micro.nr);
    let packed_group = k * panels * micro.nr;
    let (packed, scratch) = aligned(workspace).split_at_mut(groups * k * n.next_multiple_of(NR_MAX));

    let k_blocks = k.div_ceil(KC);
    let packed_parts = DisjointMut::new(packed);
    threads.for_each(groups * k_blocks * panels, |task, _| {
        let (group, k_block, panel) = (task / panels / k_blocks, task / panels % k_blocks, task % panels);
        if rows_of(group).is_empty() {
            return;
        }
        let (k0, column) = (k_block * KC, panel * micro.nr);
        let (kc, cols) = (KC.min(k - k0), micro.nr.min(n - column));
        let at = group * packed_group + k0 * panels * micro.nr + panel * kc * micro.nr;
        let weights = &weights[group * n * k..][..n * k];
        // SAFETY: each (group, K block, panel) has its own range of the packed buffer, and the columns and K block read
        // lie inside the group's weights.
        unsafe {
            let out = packed_parts.slice_mut(at..at + kc * micro.nr).as_mut_ptr();
            match stored {
                Weights::Nk => pack::panel_from_columns(
                    isa,
                    (weights.as_ptr().add(column * k + k0), k),
                    kc,
                    cols,
                    out,
                    micro.nr,
                ),
                Weights::Kn => pack::panel_from_rows(
                    isa,
                    (weights.as_ptr().add(k0 * n + column), n),
                    kc,
                    cols,
                    out,
                    micro.nr,
                ),
            }
        }
    });
    let packed = &*packed;

    // Few rows: the columns are cut too, so that every thread has work.
    let wanted =
        if threads.len() == 1 || F::WHOLE_ROWS { 1 } else { (4 * threads.len()).div_ceil(row_tiles) };
    let column_tiles = wanted.min(panels);
    let (c, to_scratch, accumulate) = match output {
        Output::Matrix { c, accumulate } => (c, false, accumulate),
        Output::Scratch => (Default::default(), true, false),
    };
    debug_assert!(!to_scratch || F::WHOLE_ROWS);
    let c = DisjointMut::new(c);
    threads.for_each_scratch(
        row_tiles * column_tiles,
        scratch,
        scratch_len(n, to_scratch),
        |task, scratch| {
            let (mut row_tile, column_tile) = (task / column_tiles, task % column_tiles);
            // A scan over the groups costs far less than a tile and needs no table.
            let mut group = 0;
            while row_tile >= rows_of(group).len().div_ceil(MC) {
                row_tile -= rows_of(group).len().div_ceil(MC);
                group += 1;
            }
            let group_rows = rows_of(group);
            let tile = part(group_rows.len(), group_rows.len().div_ceil(MC), row_tile);
            let rows = group_rows.start + tile.start..group_rows.start + tile.end;
            let tile_panels = part(panels, column_tiles, column_tile);
            let columns = tile_panels.start * micro.nr..n.min(tile_panels.end * micro.nr);

            let (packed_a, scratch_c) = scratch.split_at_mut(MC * A_LD);
            let ld = if to_scratch { n.next_multiple_of(ALIGN) } else { n };
            let tile_c = if to_scratch {
                scratch_c.as_mut_ptr()
            } else {
                // The first row's columns; the others are reached from it, row by row.
                c.as_mut_ptr().wrapping_add(rows.start * n + columns.start)
            };
            for k0 in (0..k).step_by(KC) {
                let kc = KC.min(k - k0);
                a.fill(isa, rows.clone(), k0..k0 + kc, packed_a, A_LD);
                let at = group * packed_group + k0 * panels * micro.nr + tile_panels.start * kc * micro.nr;
                let b = &packed[at..at + tile_panels.len() * kc * micro.nr];
                let c = BlockC { ptr: tile_c, ld, alpha: 1.0, accumulate: accumulate || k0 > 0 };
                // SAFETY: `packed_a` holds the tile's rows and `b` its panels; the tile of C belongs to this task alone
                // (rows and columns of different tasks are disjoint; scratch is the worker's own) and lies inside C.
                unsafe { block(micro, rows.len(), columns.len(), kc, packed_a.as_ptr(), b.as_ptr(), c) };
            }
            if k > 0 && !F::ACTIVE {
                return;
            }
            for (i, row) in rows.enumerate() {
                // SAFETY: as above: row i of the tile, which no other task touches.
                let values = unsafe { std::slice::from_raw_parts_mut(tile_c.add(i * ld), columns.len()) };
                if k == 0 && !accumulate {
                    values.fill(0.0);
                }
                finish.row(isa, row, columns.start, values);
            }
        },
    );
}

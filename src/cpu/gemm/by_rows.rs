//! The grouped product along rows: `C[r] = A[r] op(W_g)` for every row r of group g.
//!
//! One flat list of tasks, a task being (group, tile of rows, tile of columns), from packing its rows to finishing them.
//! No barrier stands between groups, so their sizes may be as uneven as they like. Weights are packed in one of two ways:
//!
//! * many groups of small weights (experts): each task packs its group's weights into its worker's scratch and reads
//!   them from L2 at once; the packed copy never travels to memory and back;
//! * few groups or large weights: a first parallel pass packs every panel, and all tasks share them.

use super::rows::{Finish, Rows};
use super::{
    A_LD, ALIGN, BlockC, Blocked, KC, MC, Machine, NR_MAX, Operand, aligned, block, micro_kernels, pack, part,
};
use crate::cpu::isa::Isa;
use crate::cpu::threads::DisjointMut;
use std::ops::Range;

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

/// Weights of at most this many elements (1 MiB, the size of an L2) are packed by the task that uses them.
const PRIVATE_WEIGHTS: usize = 256 * 1024;

/// Blocks of [`MC`] rows that share one such packing, at least.
const BLOCKS_PER_TASK: usize = 4;

/// Tasks for every thread that are enough for balance: larger groups than that are cut, smaller ones are packed once.
const TASKS_PER_THREAD: usize = 16;

/// Whether each task packs its group's weights.
fn packs_privately(groups: usize, n: usize, k: usize) -> bool {
    groups >= 4 && packed_len(n, k) <= PRIVATE_WEIGHTS
}

/// Elements of one group's packed weights, for any panel width.
fn packed_len(n: usize, k: usize) -> usize {
    k * n.next_multiple_of(NR_MAX)
}

/// f32 elements of workspace for [`by_rows`].
pub(crate) fn workspace_len(groups: usize, n: usize, k: usize, threads: usize, to_scratch: bool) -> usize {
    let shared = if packs_privately(groups, n, k) { 0 } else { groups * packed_len(n, k) };
    shared + threads * scratch_len(groups, n, k, to_scratch) + ALIGN
}

/// One worker's packed weights if they are its own, block of A, and tile of C if C is not stored.
fn scratch_len(groups: usize, n: usize, k: usize, to_scratch: bool) -> usize {
    let b = if packs_privately(groups, n, k) { packed_len(n, k) } else { 0 };
    let c = if to_scratch { MC * n.next_multiple_of(ALIGN) } else { 0 };
    b + MC * A_LD + c
}

/// One group's weights and the layout of their packed copy: K blocks outermost, then panels of `nr` columns.
#[derive(Clone, Copy)]
struct Packing {
    isa: Isa,
    stored: Weights,
    n: usize,
    k: usize,
    nr: usize,
}

impl Packing {
    /// Where the panel lies in the packed copy.
    fn range(self, k_block: usize, panel: usize) -> Range<usize> {
        let k0 = k_block * KC;
        let len = KC.min(self.k - k0) * self.nr;
        let start = k0 * self.n.next_multiple_of(self.nr) + panel * len;
        start..start + len
    }

    /// Packs one panel; `out` has the length of its range.
    fn pack(self, weights: &[f32], k_block: usize, panel: usize, out: &mut [f32]) {
        let Self { isa, stored, n, k, nr } = self;
        let (k0, column) = (k_block * KC, panel * nr);
        let (kc, cols) = (KC.min(k - k0), nr.min(n - column));
        assert!(weights.len() == n * k && out.len() == kc * nr);
        // SAFETY: rows column..column + cols (or columns, if stored the other way) and the K block lie inside the weights,
        // and `out` holds kc * nr elements (checked).
        unsafe {
            let (from, to) = (weights.as_ptr(), out.as_mut_ptr());
            match stored {
                Weights::Nk => {
                    pack::panel_from_columns(isa, (from.add(column * k + k0), k), kc, cols, to, nr)
                }
                Weights::Kn => pack::panel_from_rows(isa, (from.add(k0 * n + column), n), kc, cols, to, nr),
            }
        }
    }
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
    let weights_of = |g: usize| &weights[g * n * k..][..n * k];
    let private = packs_privately(groups, n, k);

    // Rows of a task: enough to make its packing pay, fewer where threads would be idle.
    let fair = offsets[groups] as usize / (TASKS_PER_THREAD * threads.len());
    let mut task_rows = if private { fair.max(BLOCKS_PER_TASK * MC) } else { MC };
    let tiles_of = |g: usize, task_rows: usize| rows_of(g).len().div_ceil(task_rows);
    let count = |task_rows: usize| (0..groups).map(|g| tiles_of(g, task_rows)).sum::<usize>();
    while task_rows > MC && threads.len() > 1 && count(task_rows) < 4 * threads.len() {
        task_rows /= 2;
    }
    let row_tiles = count(task_rows);
    if row_tiles == 0 || n == 0 {
        return;
    }
    let micro = micro_kernels(isa);
    let (panels, k_blocks) = (n.div_ceil(micro.nr), k.div_ceil(KC));
    let packing = Packing { isa, stored, n, k, nr: micro.nr };
    let shared_len = if private { 0 } else { groups * packed_len(n, k) };
    let (shared, scratch) = aligned(workspace).split_at_mut(shared_len);
    if !private {
        let parts = DisjointMut::new(shared);
        threads.for_each(groups * k_blocks * panels, |task, _| {
            let (group, k_block, panel) = (task / panels / k_blocks, task / panels % k_blocks, task % panels);
            if !rows_of(group).is_empty() {
                let range = packing.range(k_block, panel);
                let base = group * packed_len(n, k);
                // SAFETY: each (group, K block, panel) has its own range.
                let out = unsafe { parts.slice_mut(base + range.start..base + range.end) };
                packing.pack(weights_of(group), k_block, panel, out);
            }
        });
    }
    let shared = &*shared;

    // Few rows: the columns are cut too.
    let wanted =
        if threads.len() == 1 || F::WHOLE_ROWS { 1 } else { (4 * threads.len()).div_ceil(row_tiles) };
    let column_tiles = wanted.min(panels);
    let (c, to_scratch, accumulate) = match output {
        Output::Matrix { c, accumulate } => (c, false, accumulate),
        Output::Scratch => (Default::default(), true, false),
    };
    debug_assert!(!to_scratch || F::WHOLE_ROWS);
    let c = DisjointMut::new(c);
    let scratch_len = scratch_len(groups, n, k, to_scratch);
    threads.for_each_scratch(row_tiles * column_tiles, scratch, scratch_len, |task, scratch| {
        let (mut row_tile, column_tile) = (task / column_tiles, task % column_tiles);
        // A scan over the groups costs far less than a tile and needs no table.
        let mut group = 0;
        while row_tile >= tiles_of(group, task_rows) {
            row_tile -= tiles_of(group, task_rows);
            group += 1;
        }
        let task_range = part(rows_of(group).len(), tiles_of(group, task_rows), row_tile);
        let tile_panels = part(panels, column_tiles, column_tile);
        let columns = tile_panels.start * micro.nr..n.min(tile_panels.end * micro.nr);

        let (own, rest) = scratch.split_at_mut(if private { packed_len(n, k) } else { 0 });
        let (packed_a, scratch_c) = rest.split_at_mut(MC * A_LD);
        if private {
            for k_block in 0..k_blocks {
                for panel in tile_panels.clone() {
                    let out = &mut own[packing.range(k_block, panel)];
                    packing.pack(weights_of(group), k_block, panel, out);
                }
            }
        }
        let packed = if private { &*own } else { &shared[group * packed_len(n, k)..][..packed_len(n, k)] };

        let blocks = task_range.len().div_ceil(MC);
        let first_row = rows_of(group).start + task_range.start;
        for i in 0..blocks {
            let rows = part(task_range.len(), blocks, i);
            let rows = first_row + rows.start..first_row + rows.end;
            let ld = if to_scratch { n.next_multiple_of(ALIGN) } else { n };
            let tile_c = if to_scratch {
                scratch_c.as_mut_ptr()
            } else {
                c.as_mut_ptr().wrapping_add(rows.start * n + columns.start)
            };
            for k_block in 0..k_blocks {
                let k_range = k_block * KC..k.min((k_block + 1) * KC);
                let kc = k_range.len();
                a.fill(isa, rows.clone(), k_range.clone(), packed_a, A_LD);
                let b = &packed[packing.range(k_block, tile_panels.start).start..];
                let c = BlockC { ptr: tile_c, ld, alpha: 1.0, accumulate: accumulate || k_block > 0 };
                // The rows that follow are packed next, if not here then by a task that starts soon.
                let next = rows.end..offsets[groups] as usize;
                let next = next.start..next.end.min(next.start + rows.len());
                let prefetch = |call, calls| {
                    for row in part(next.len(), calls, call) {
                        a.prefetch(next.start + row, k_range.clone());
                    }
                };
                // SAFETY: `packed_a` holds the block's rows and `b` starts with the tile's panels; the tile of C belongs to
                // this task alone (rows and columns of different tasks are disjoint; scratch is the worker's own) and
                // lies inside C.
                unsafe {
                    let (a, b) = (Operand::blocked(packed_a.as_ptr()), Operand::blocked(b.as_ptr()));
                    block::<Blocked>(micro, rows.len(), columns.len(), kc, a, b, c, prefetch);
                };
            }
            if k > 0 && !F::ACTIVE {
                continue;
            }
            for (i, row) in rows.enumerate() {
                // SAFETY: as above: row i of the tile, which no other task touches.
                let values = unsafe { std::slice::from_raw_parts_mut(tile_c.add(i * ld), columns.len()) };
                if k == 0 && !accumulate {
                    values.fill(0.0);
                }
                finish.row(isa, row, columns.start, values);
            }
        }
    });
}

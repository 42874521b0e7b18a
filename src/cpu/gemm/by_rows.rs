//! The grouped product along rows: `C[r] = A[r] op(W_g)` for every row r of group g.
//!
//! One flat list of tasks, a task being (group, tile of rows, tile of columns), from packing its rows to finishing them.
//! No barrier stands between groups, so their sizes may be as uneven as they like. Weights are packed in one of two ways:
//!
//! * many groups of small weights (experts): each task packs its group's weights into its worker's scratch and reads
//!   them from L2 at once; the packed copy never travels to memory and back;
//! * few groups or large weights: a first parallel pass packs every panel, and all tasks share them.
//!
//! or, for a group of few rows, not at all: see [`few_rows`].

use super::few_rows::{self, Unpacked};
use super::rows::{Finish, Rows, convert, prefetch_lines};
use super::{
    A_LD, ALIGN, BlockC, Blocked, KC, MC, Machine, NR_MAX, Operand, aligned, block, micro_kernels, pack,
    pairs, part,
};
use crate::cpu::isa::Isa;
use crate::cpu::simd::Storage;
use crate::cpu::threads::DisjointMut;
use crate::cpu::vector;
use half::bf16;
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
pub(crate) struct ByRows<'a, A, T> {
    pub a: &'a A,
    /// Row ranges of the groups, `groups + 1` ascending values from 0.
    pub offsets: &'a [u32],
    pub n: usize,
    pub k: usize,
    /// `[groups, n, k]` or `[groups, k, n]`.
    pub weights: &'a [T],
    pub stored: Weights,
}

/// Where C goes.
pub(crate) enum Output<'a, T> {
    /// `[rows, n]`, overwritten or added to.
    Matrix { c: &'a mut [T], accumulate: bool },
    /// Into scratch, where only [`Finish`] sees it.
    Scratch,
}

/// Columns of a tile of C that is summed in scratch before it is stored as another type: with [`MC`] rows a part of L2.
const ROUNDED_COLUMNS: usize = 512;

/// Packed weights of at most this many words (1 MiB, the size of an L2) are packed by the task that uses them.
const PRIVATE_WEIGHTS: usize = 256 * 1024;

/// Blocks of [`MC`] rows that share one such packing, at least.
const BLOCKS_PER_TASK: usize = 4;

/// Tasks for every thread that are enough for balance: larger groups than that are cut, smaller ones are packed once.
const TASKS_PER_THREAD: usize = 16;

/// The scratch of a product whose sums are `words` long.
#[derive(Clone, Copy)]
struct Scratch {
    groups: usize,
    n: usize,
    words: usize,
    /// Columns of the tile of C that a worker keeps to itself, 0 where the kernels write C.
    columns: usize,
}

impl Scratch {
    /// Whether each task packs its group's weights.
    fn packs_privately(self) -> bool {
        self.groups >= 4 && self.packed_len() <= PRIVATE_WEIGHTS
    }

    /// Words of one group's packed weights, for any panel width.
    fn packed_len(self) -> usize {
        self.words * self.n.next_multiple_of(NR_MAX)
    }

    /// Words of the packed weights that all tasks share.
    fn shared_len(self) -> usize {
        if self.packs_privately() { 0 } else { self.groups * self.packed_len() }
    }

    /// One worker's packed weights if they are its own, block of A, and tile of C if it keeps one.
    fn worker_len(self) -> usize {
        let b = if self.packs_privately() { self.packed_len() } else { 0 };
        b + MC * A_LD + MC * self.columns.next_multiple_of(ALIGN)
    }
}

/// Columns of C that a worker sums in scratch, of `n`, when the operands are `T`.
fn scratch_columns<T: Storage>(n: usize, to_scratch: bool) -> usize {
    match (to_scratch, size_of::<T>() == size_of::<f32>()) {
        (true, _) => n,
        (false, true) => 0,
        (false, false) => n.min(ROUNDED_COLUMNS),
    }
}

/// f32 elements of workspace for [`by_rows`], whatever the instruction set.
pub(crate) fn workspace_len<T: Storage>(
    groups: usize,
    n: usize,
    k: usize,
    threads: usize,
    to_scratch: bool,
) -> usize {
    let columns = scratch_columns::<T>(n, to_scratch);
    let len = |words: usize| {
        let scratch = Scratch { groups, n, words, columns };
        scratch.shared_len() + threads * scratch.worker_len() + ALIGN
    };
    // Two elements of a smaller type may share a word.
    if size_of::<T>() == size_of::<f32>() { len(k) } else { len(k).max(len(k.div_ceil(2))) }
}

/// One group's weights and the layout of their packed copy: K blocks outermost, then panels of `nr` columns.
#[derive(Clone, Copy)]
struct Packing {
    isa: Isa,
    stored: Weights,
    n: usize,
    k: usize,
    nr: usize,
    /// Terms of a word.
    terms: usize,
}

impl Packing {
    /// The terms of a K block.
    fn terms_of(self, k_block: usize) -> Range<usize> {
        let depth = KC * self.terms;
        k_block * depth..self.k.min((k_block + 1) * depth)
    }

    /// Where the panel lies in the packed copy.
    fn range(self, k_block: usize, panel: usize) -> Range<usize> {
        let len = self.terms_of(k_block).len().div_ceil(self.terms) * self.nr;
        let start = k_block * KC * self.n.next_multiple_of(self.nr) + panel * len;
        start..start + len
    }

    /// Packs one panel; `out` has the length of its range.
    fn pack<T: Storage>(self, weights: &[T], k_block: usize, panel: usize, out: &mut [f32]) {
        let Self { isa, stored, n, k, nr, terms } = self;
        let (depth, column) = (self.terms_of(k_block), panel * nr);
        let (k0, kc, cols) = (depth.start, depth.len(), nr.min(n - column));
        assert!(weights.len() == n * k && out.len() == kc.div_ceil(terms) * nr);
        let to = out.as_mut_ptr();
        // SAFETY: rows column..column + cols (or columns, if stored the other way) and the K block lie inside the weights,
        // and `out` holds a panel of that many words (checked). Pairs are pairs of bf16, see `micro_kernels`.
        unsafe {
            let (from, ld) = match stored {
                Weights::Nk => (weights.as_ptr().add(column * k + k0), k),
                Weights::Kn => (weights.as_ptr().add(k0 * n + column), n),
            };
            match (stored, terms) {
                (Weights::Nk, 1) => pack::panel_from_columns(isa, (from, ld), kc, cols, to, nr),
                (Weights::Kn, 1) => pack::panel_from_rows(isa, (from, ld), kc, cols, to, nr),
                (Weights::Nk, _) => pairs::panel_from_columns(isa, (from.cast(), ld), kc, cols, to, nr),
                (Weights::Kn, _) => pairs::panel_from_rows(isa, (from.cast(), ld), kc, cols, to, nr),
            }
        }
    }
}

/// Packs a block of A: words of `terms` terms, [`A_LD`] words from row to row.
fn pack_a<A: Rows>(
    isa: Isa,
    a: &A,
    rows: Range<usize>,
    depth: Range<usize>,
    terms: usize,
    packed: &mut [f32],
) {
    if terms == 1 {
        return a.fill(isa, rows, depth, packed, A_LD);
    }
    let (count, len) = (rows.len(), depth.len());
    let packed = bytemuck::cast_slice_mut::<f32, bf16>(packed);
    a.fill(isa, rows, depth, packed, 2 * A_LD);
    if len % 2 == 1 {
        packed.chunks_mut(2 * A_LD).take(count).for_each(|row| row[len] = bf16::ZERO);
    }
}

/// Computes the product and finishes every row of C. `workspace` holds [`workspace_len`] elements.
pub(crate) fn by_rows<A: Rows, F: Finish, T: Storage>(
    machine: Machine,
    product: ByRows<A, T>,
    output: Output<T>,
    finish: &F,
    workspace: &mut [f32],
) {
    let ByRows { a, offsets, n, k, weights, stored } = product;
    let Machine { threads, isa } = machine;
    let groups = offsets.len() - 1;
    let rows_of = |g: usize| offsets[g] as usize..offsets[g + 1] as usize;
    let weights_of = |g: usize| &weights[g * n * k..][..n * k];
    let micro = micro_kernels::<T>(isa);
    let (panels, k_blocks) = (n.div_ceil(micro.nr), k.div_ceil(KC * micro.terms));
    let packing = Packing { isa, stored, n, k, nr: micro.nr, terms: micro.terms };
    let (c, to_scratch, accumulate) = match output {
        Output::Matrix { c, accumulate } => (c, false, accumulate),
        Output::Scratch => (Default::default(), true, false),
    };
    debug_assert!(!to_scratch || F::WHOLE_ROWS);
    // The kernels write C where it can hold what is not yet the whole sum, or where they have the whole sum.
    let exact = size_of::<T>() == size_of::<f32>();
    let direct = !to_scratch && (exact || (k_blocks == 1 && !F::ACTIVE));
    let scratch_c_columns = if direct { 0 } else { scratch_columns::<T>(n, to_scratch) };
    let layout = Scratch { groups, n, words: k.div_ceil(micro.terms), columns: scratch_c_columns };
    let (private, packed_len) = (layout.packs_privately(), layout.packed_len());

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
    let (shared, scratch) = aligned(workspace).split_at_mut(layout.shared_len());
    if !private {
        let parts = DisjointMut::new(shared);
        threads.for_each(groups * k_blocks * panels, |task, _| {
            let (group, k_block, panel) = (task / panels / k_blocks, task / panels % k_blocks, task % panels);
            if !rows_of(group).is_empty() {
                let range = packing.range(k_block, panel);
                let base = group * packed_len;
                // SAFETY: each (group, K block, panel) has its own range.
                let out = unsafe { parts.slice_mut(base + range.start..base + range.end) };
                packing.pack(weights_of(group), k_block, panel, out);
            }
        });
    }
    let shared = &*shared;

    // Few rows: the columns are cut too. And where a tile of C waits in scratch, to what that holds.
    let wanted =
        if threads.len() == 1 || F::WHOLE_ROWS { 1 } else { (4 * threads.len()).div_ceil(row_tiles) };
    let wanted = if direct || to_scratch {
        wanted
    } else {
        wanted.max(panels.div_ceil((scratch_c_columns / micro.nr).max(1)))
    };
    let column_tiles = wanted.min(panels);
    let c = DisjointMut::new(c);
    // What follows the sums of some rows, which are in `values`, `ld` apart.
    let store = |rows: Range<usize>, columns: Range<usize>, values: &mut [f32], ld: usize| {
        for (row, values) in rows.zip(values.chunks_mut(ld)) {
            let values = &mut values[..columns.len()];
            if k == 0 {
                values.fill(0.0);
            }
            finish.row(isa, row, columns.start, values);
            if to_scratch {
                continue;
            }
            // SAFETY: the columns of the row lie in C, and belong to the caller's task alone.
            let stored = unsafe { c.slice_mut(row * n + columns.start..row * n + columns.end) };
            match accumulate {
                true => isa.dispatch(vector::Add { x: values, y: stored }),
                false => convert(isa, values, stored),
            }
        }
    };
    threads.for_each_scratch(row_tiles * column_tiles, scratch, layout.worker_len(), |task, scratch| {
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

        let (own, rest) = scratch.split_at_mut(if private { packed_len } else { 0 });
        let (packed_a, scratch_c) = rest.split_at_mut(MC * A_LD);
        // The next group is a guess; only speed depends on it.
        // A group that is one task: whoever computes it writes all its rows.
        let whole = task_range.len() == rows_of(group).len() && column_tiles == 1;
        let few = private && whole && few_rows::few(rows_of(group).len(), n);
        let (weights, next_weights) =
            (weights_of(group), weights_of((group + threads.len()).min(groups - 1)));
        if few && stored == Weights::Nk && few_rows::can_turn(micro, task_range.len(), (n, k), own.len()) {
            let rows = rows_of(group);
            pack_a(isa, a, rows.clone(), 0..k, micro.terms, packed_a);
            let in_c = direct && exact && !accumulate && !F::ACTIVE;
            let block = packed_a.as_mut_ptr();
            let (to, ld) = match in_c {
                true => (c.as_mut_ptr().wrapping_add(rows.start * n).cast(), n),
                false => (block, A_LD),
            };
            // SAFETY: `can_turn` just above; the group is this task alone (`whole`), so that C's rows are touched by no other, and
            // f32 is what C holds where it is written; the block has room for MC rows, at least those of the group.
            unsafe {
                let shape = (rows.len(), n, k);
                few_rows::turned(isa, micro, weights, shape, block, own, (to, ld), |call, calls| {
                    prefetch_lines(&next_weights[part(next_weights.len(), calls, call)]);
                });
            }
            if !in_c {
                store(rows, 0..n, packed_a, A_LD);
            }
            return;
        }
        let in_place = few && stored == Weights::Kn && n.is_multiple_of(micro.nr) && T::as_f32(&[]).is_some();
        if private && !in_place {
            for k_block in 0..k_blocks {
                for panel in tile_panels.clone() {
                    let out = &mut own[packing.range(k_block, panel)];
                    packing.pack(weights, k_block, panel, out);
                }
            }
        }
        let packed = if private { &*own } else { &shared[group * packed_len..][..packed_len] };

        let blocks = task_range.len().div_ceil(MC);
        let first_row = rows_of(group).start + task_range.start;
        let scratch_ld = scratch_c_columns.next_multiple_of(ALIGN);
        for i in 0..blocks {
            let rows = part(task_range.len(), blocks, i);
            let rows = first_row + rows.start..first_row + rows.end;
            let tile_c = c.as_mut_ptr().wrapping_add(rows.start * n + columns.start);
            for k_block in 0..k_blocks {
                let depth = packing.terms_of(k_block);
                pack_a(isa, a, rows.clone(), depth.clone(), micro.terms, packed_a);
                let b = if in_place {
                    let rows = T::as_f32(&weights[depth.start * n..]).unwrap_or_default();
                    Operand { ptr: rows.as_ptr(), step: n }
                } else {
                    Operand::blocked(packed[packing.range(k_block, tile_panels.start).start..].as_ptr())
                };
                // The rows that follow are packed next, if not here then by a task that starts soon.
                let next = rows.end..offsets[groups] as usize;
                let next = next.start..next.end.min(next.start + rows.len());
                let words = depth.len().div_ceil(micro.terms);
                let prefetch = |call, calls| {
                    for row in part(next.len(), calls, call) {
                        a.prefetch(next.start + row, depth.clone());
                    }
                    if in_place {
                        prefetch_lines(&next_weights[part(next_weights.len(), calls, call)]);
                    }
                };
                let a = Operand::blocked(packed_a.as_ptr());
                let (count, width) = (rows.len(), columns.len());
                // SAFETY: `packed_a` holds the block's rows and `b` starts with the tile's panels; the tile of C belongs to
                // this task alone (rows and columns of different tasks are disjoint; scratch is the worker's own) and
                // lies inside C.
                unsafe {
                    let accumulate = k_block > 0 || (direct && accumulate);
                    let to_c = BlockC { ptr: tile_c, ld: n, alpha: 1.0, accumulate };
                    let to_scratch =
                        BlockC { ptr: scratch_c.as_mut_ptr(), ld: scratch_ld, alpha: 1.0, accumulate };
                    match (direct, in_place) {
                        (true, false) => {
                            block::<Blocked, T>(
                                micro.stored,
                                micro.nr,
                                count,
                                width,
                                words,
                                a,
                                b,
                                to_c,
                                prefetch,
                            );
                        }
                        (false, false) => {
                            block::<Blocked, f32>(
                                micro.blocked,
                                micro.nr,
                                count,
                                width,
                                words,
                                a,
                                b,
                                to_scratch,
                                prefetch,
                            );
                        }
                        (_, true) => {
                            // C holds f32 as the weights do, if it is written.
                            let c = if direct { to_c.cast() } else { to_scratch };
                            block::<Unpacked, f32>(
                                micro.unpacked,
                                micro.nr,
                                count,
                                width,
                                words,
                                a,
                                b,
                                c,
                                prefetch,
                            );
                        }
                    }
                };
            }
            if !direct {
                store(rows, columns.clone(), scratch_c, scratch_ld);
                continue;
            }
            if k > 0 && !F::ACTIVE {
                continue;
            }
            for (i, row) in rows.enumerate() {
                // SAFETY: row i of the tile, which lies in C and which no other task touches.
                let stored = unsafe { std::slice::from_raw_parts_mut(tile_c.add(i * n), columns.len()) };
                if k == 0 && !accumulate {
                    stored.fill(T::from_f32(0.0));
                }
                if let Some(values) = T::as_f32_mut(stored) {
                    finish.row(isa, row, columns.start, values);
                }
            }
        }
    });
}

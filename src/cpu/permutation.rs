//! Permutation: plan, dispatch, combine.

use crate::ops::permutation::{Combine, CombineBackward, Dispatch, DispatchBackward, Plan};
use crate::{Result, host};

use super::simd::{Kernel, Simd, Storage};
use super::threads::DisjointMut;
use super::{Cpu, vector};

/// Tokens or rows of a task.
const ROWS: usize = 32;
/// Slots of one block of the parallel counting sort, at least.
const SORT_BLOCK: usize = 1 << 13;

/// A stable counting sort. Blocks of slots are counted in parallel, an exclusive sum over (expert, block) turns the counts
/// into the first row of each block's slots, and the blocks place their slots in parallel. The sort is stable, so its result
/// is unique and the number of blocks free. The counts live in `token`, which is written last.
pub(super) fn plan<T: Storage>(cpu: &Cpu<T>, args: Plan<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let (experts, top_k, slots) = (args.shape.experts, args.shape.top_k, args.indices.len());
    host::below("plan", "indices", args.indices, experts)?;
    args.offsets.fill(0);
    if slots == 0 {
        return Ok(());
    }
    let blocks = (2 * cpu.threads.len()).min(slots / SORT_BLOCK.max(experts)).clamp(1, 64);
    let order = DisjointMut::new(args.order);
    let inverse = DisjointMut::new(args.inverse);
    // SAFETY (of both calls of `place`): the rows of a (block, expert) pair are its own, because the cursors are an exclusive
    // sum of the pairs' exact counts, and a slot belongs to one block.
    if blocks == 1 {
        for &expert in args.indices {
            args.offsets[expert as usize + 1] += 1;
        }
        exclusive(args.offsets);
        // SAFETY: see above; the cursors are the offsets themselves, which move up by one expert and back.
        unsafe { place(args.indices, 0, &mut args.offsets[..experts], &order, &inverse) };
        args.offsets.copy_within(..experts, 1);
        args.offsets[0] = 0;
    } else {
        let per_block = slots.div_ceil(blocks);
        let cursors = &mut args.token[..blocks * experts];
        cpu.threads.for_each_chunk(cursors, experts, |block, counts, _| {
            counts.fill(0);
            for &expert in &args.indices[block * per_block..slots.min((block + 1) * per_block)] {
                counts[expert as usize] += 1;
            }
        });
        let mut row = 0;
        for expert in 0..experts {
            args.offsets[expert] = row;
            for block in 0..blocks {
                let cursor = &mut cursors[block * experts + expert];
                row += std::mem::replace(cursor, row);
            }
        }
        args.offsets[experts] = row;
        cpu.threads.for_each_chunk(cursors, experts, |block, cursors, _| {
            let start = block * per_block;
            let indices = &args.indices[start..slots.min(start + per_block)];
            // SAFETY: see above.
            unsafe { place(indices, start, cursors, &order, &inverse) };
        });
    }
    // SAFETY: the tasks above are done, so that this is the only reference.
    let order = unsafe { order.slice_mut(0..slots) };
    cpu.threads.for_each_chunk(args.token, ROWS * 64, |block, token, _| {
        for (token, &slot) in token.iter_mut().zip(&order[block * ROWS * 64..]) {
            *token = slot / top_k as u32;
        }
    });
    Ok(())
}

/// Counts `[0, c0, c1, ...]` to the first row of each expert, `[0, c0, c0 + c1, ...]`.
fn exclusive(offsets: &mut [u32]) {
    let mut total = 0;
    for offset in offsets {
        total += *offset;
        *offset = total;
    }
}

/// Gives each slot the next row of its expert and moves the expert's cursor.
///
/// # Safety
/// The rows from each cursor on, as many as there are slots of that expert, and the entries of these slots in `inverse` must
/// belong to the caller alone.
unsafe fn place(
    indices: &[u32],
    first_slot: usize,
    cursors: &mut [u32],
    order: &DisjointMut<'_, u32>,
    inverse: &DisjointMut<'_, u32>,
) {
    // SAFETY: these slots belong to the caller.
    let inverse = unsafe { inverse.slice_mut(first_slot..first_slot + indices.len()) };
    for (i, (&expert, inverse)) in indices.iter().zip(inverse).enumerate() {
        let cursor = &mut cursors[expert as usize];
        let row = *cursor as usize;
        // SAFETY: the row belongs to the caller, and this is its only reference.
        let order = unsafe { order.slice_mut(row..row + 1) };
        order[0] = (first_slot + i) as u32;
        *inverse = *cursor;
        *cursor += 1;
    }
}

pub(super) fn dispatch<T: Storage>(cpu: &Cpu<T>, args: Dispatch<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    host::below("dispatch_forward", "token", args.token, args.shape.tokens)?;
    let width = args.width;
    if width == 0 {
        return Ok(());
    }
    cpu.threads.for_each_chunk(args.rows, ROWS * width, |block, rows, _| {
        for (row, &token) in rows.chunks_exact_mut(width).zip(&args.token[block * ROWS..]) {
            row.copy_from_slice(&args.x[token as usize * width..][..width]);
        }
    });
    Ok(())
}

pub(super) fn dispatch_backward<T: Storage>(cpu: &Cpu<T>, args: DispatchBackward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    host::below("dispatch_backward", "inverse", args.inverse, args.inverse.len())?;
    let gather = Gather { inverse: args.inverse, top_k: args.shape.top_k, weights: None, rows: args.drows };
    gather_sum(cpu, gather, args.width, false, args.dx);
    Ok(())
}

pub(super) fn combine<T: Storage>(cpu: &Cpu<T>, args: Combine<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    host::below("combine_forward", "inverse", args.inverse, args.inverse.len())?;
    let weights = Some(args.weights);
    let gather = Gather { inverse: args.inverse, top_k: args.shape.top_k, weights, rows: args.rows };
    gather_sum(cpu, gather, args.width, args.accumulate, args.y);
    Ok(())
}

/// Where the rows of a token's slots lie, and their weights (1 without).
#[derive(Clone, Copy)]
struct Gather<'a, T> {
    inverse: &'a [u32],
    top_k: usize,
    weights: Option<&'a [f32]>,
    rows: &'a [T],
}

fn gather_sum<T: Storage>(cpu: &Cpu<T>, gather: Gather<'_, T>, width: usize, accumulate: bool, y: &mut [T]) {
    if width == 0 {
        return;
    }
    cpu.threads.for_each_chunk(y, ROWS * width, |block, y, _| {
        for (i, y) in y.chunks_exact_mut(width).enumerate() {
            cpu.isa.dispatch(TokenSum { gather, token: block * ROWS + i, accumulate, y });
        }
    });
}

/// The sum of one token: a vector of columns at a time, slots in ascending order.
struct TokenSum<'a, T> {
    gather: Gather<'a, T>,
    token: usize,
    accumulate: bool,
    y: &'a mut [T],
}

impl<T: Storage> Kernel for TokenSum<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Gather { inverse, top_k, weights, rows } = self.gather;
        let (width, slots) = (self.y.len(), self.token * top_k..(self.token + 1) * top_k);
        for at in (0..width).step_by(S::LANES) {
            let end = width.min(at + S::LANES);
            let mut sum = s.splat(0.0);
            for slot in slots.clone() {
                let row = &rows[inverse[slot] as usize * width..][..width];
                let weight = s.splat(weights.map_or(1.0, |weights| weights[slot]));
                sum = s.fma(weight, s.load_partial(&row[at..end], 0.0), sum);
            }
            if self.accumulate {
                sum = s.load_partial(&self.y[at..end], 0.0) + sum;
            }
            s.store_partial(&mut self.y[at..end], sum);
        }
    }
}

/// Tokens write the rows that `inverse` names, so it must be a permutation; `dweights` serves as the marks of that check.
pub(super) fn combine_backward<T: Storage>(cpu: &Cpu<T>, args: CombineBackward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let mark: &mut [u32] = bytemuck::cast_slice_mut(args.dweights);
    host::permutation("combine_backward", "inverse", args.inverse, mark, 1)?;
    let (top_k, width) = (args.shape.top_k, args.width);
    let drows = DisjointMut::new(args.drows);
    cpu.threads.for_each_chunk(args.dweights, (ROWS * top_k).max(1), |block, dweights, _| {
        for (i, dweight) in dweights.iter_mut().enumerate() {
            let slot = block * ROWS * top_k + i;
            let (token, row) = (slot / top_k, args.inverse[slot] as usize);
            // SAFETY: `inverse` is a permutation (checked), so the row belongs to this slot alone.
            let drow = unsafe { drows.slice_mut(row * width..(row + 1) * width) };
            *dweight = cpu.isa.dispatch(SlotGradient {
                weight: args.weights[slot],
                dy: &args.dy[token * width..][..width],
                row: &args.rows[row * width..][..width],
                drow,
            });
        }
    });
    Ok(())
}

/// `drow = weight dy`; returns `dy . row`.
struct SlotGradient<'a, T> {
    weight: f32,
    dy: &'a [T],
    row: &'a [T],
    drow: &'a mut [T],
}

impl<T: Storage> Kernel for SlotGradient<'_, T> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        vector::scaled(s, self.drow, self.weight, self.dy);
        s.dot(self.dy, self.row)
    }
}

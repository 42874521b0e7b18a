//! Token embedding.

use crate::ops::embedding::{Backward, Forward};
use crate::{Result, host};

use super::simd::{Kernel, Simd, Storage};
use super::threads::DisjointMut;
use super::{Cpu, vector};

/// Rows of a forward task.
const ROWS: usize = 32;
/// Columns of a backward task are a multiple of this, so that tasks do not share cache lines.
const COLUMNS: usize = 16;

pub(super) fn forward<T: Storage>(cpu: &Cpu<T>, args: Forward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    host::below("embedding_forward", "ids", args.ids, args.shape.vocabulary)?;
    let width = args.shape.width;
    if width == 0 {
        return Ok(());
    }
    cpu.threads.for_each_chunk(args.y, ROWS * width, |block, y, _| {
        for (y, &id) in y.chunks_exact_mut(width).zip(&args.ids[block * ROWS..]) {
            y.copy_from_slice(&args.table[id as usize * width..][..width]);
        }
    });
    Ok(())
}

/// A task owns columns of the whole table, so that every element gets its tokens in ascending order.
pub(super) fn backward<T: Storage>(cpu: &Cpu<T>, args: Backward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    host::below("embedding_backward", "ids", args.ids, args.shape.vocabulary)?;
    let width = args.shape.width;
    if width == 0 {
        return Ok(());
    }
    // Elements are summed alike however the columns are cut, so the cut may follow the number of threads.
    let columns = width.div_ceil(4 * cpu.threads.len()).next_multiple_of(COLUMNS);
    let table = DisjointMut::new(args.dtable);
    cpu.threads.for_each(width.div_ceil(columns), |task, _| {
        let start = task * columns;
        cpu.isa.dispatch(Scatter {
            ids: args.ids,
            padding: args.padding,
            dy: args.dy,
            width,
            columns: (start, width.min(start + columns)),
            table: &table,
        });
    });
    Ok(())
}

struct Scatter<'a, 't, T> {
    ids: &'a [u32],
    padding: Option<u32>,
    dy: &'a [T],
    width: usize,
    columns: (usize, usize),
    table: &'a DisjointMut<'t, f32>,
}

impl<T: Storage> Kernel for Scatter<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (start, end) = self.columns;
        for (dy, &id) in self.dy.chunks_exact(self.width).zip(self.ids) {
            if Some(id) == self.padding {
                continue;
            }
            let at = id as usize * self.width;
            // SAFETY: the columns start..end belong to this task alone, in every row, and this is its only reference.
            let row = unsafe { self.table.slice_mut(at + start..at + end) };
            vector::add(s, row, &dy[start..end]);
        }
    }
}

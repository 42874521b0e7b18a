//! Rotary position embedding.

use crate::ops::rope::{Apply, Shape};
use crate::{Result, host};

use super::Cpu;
use super::memory::row_mut;
use super::simd::{Kernel, Simd, Storage};
use super::threads::DisjointMut;

/// Rows of a task.
const ROWS: usize = 32;

pub(super) fn apply<T: Storage>(cpu: &Cpu<T>, args: Apply<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let Shape { rows, heads, head_dim, stride, positions } = args.shape;
    host::below("rope", "position", args.position, positions)?;
    if rows * heads * head_dim == 0 {
        return Ok(());
    }
    let x = DisjointMut::new(args.x);
    cpu.threads.for_each(rows.div_ceil(ROWS), |block, _| {
        for row in block * ROWS..rows.min((block + 1) * ROWS) {
            let half = head_dim / 2;
            let table = args.position[row] as usize * half;
            // SAFETY: rows are `stride >= heads * head_dim` apart (checked) and each belongs to one task.
            let x = unsafe { row_mut(&x, row, stride, heads * head_dim) };
            cpu.isa.dispatch(Rotate {
                cos: &args.cos[table..][..half],
                sin: &args.sin[table..][..half],
                inverse: args.inverse,
                x,
            });
        }
    });
    Ok(())
}

/// All heads of one row.
struct Rotate<'a, T> {
    cos: &'a [f32],
    sin: &'a [f32],
    inverse: bool,
    x: &'a mut [T],
}

impl<T: Storage> Kernel for Rotate<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let half = self.cos.len();
        for head in self.x.chunks_exact_mut(2 * half) {
            let (low, high) = head.split_at_mut(half);
            for at in (0..half).step_by(S::LANES) {
                let (a, b) = (s.load_partial(&low[at..], 0.0), s.load_partial(&high[at..], 0.0));
                let (c, sin) = (s.load_partial(&self.cos[at..], 0.0), s.load_partial(&self.sin[at..], 0.0));
                let sin = if self.inverse { -sin } else { sin };
                s.store_partial(&mut low[at..], s.fma(a, c, -(b * sin)));
                s.store_partial(&mut high[at..], s.fma(b, c, a * sin));
            }
        }
    }
}

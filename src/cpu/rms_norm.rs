//! RMSNorm.

use crate::Result;
use crate::ops::rms_norm::{Backward, Forward, Shape};

use super::memory::row_mut;
use super::simd::{Kernel, Simd, Storage};
use super::threads::DisjointMut;
use super::{Cpu, vector};

/// Rows of a forward task.
const ROWS: usize = 32;
/// The weight's gradient is summed in at most this many blocks of rows, whatever the number of threads.
const BLOCKS: usize = 64;

/// Rows of one block of the backward pass.
fn block_rows(rows: usize) -> usize {
    rows.div_ceil(BLOCKS).max(8)
}

/// One partial gradient of the weight for every block.
pub(super) fn workspace(shape: Shape) -> usize {
    shape.rows.div_ceil(block_rows(shape.rows)).saturating_mul(shape.width)
}

pub(super) fn forward<T: Storage>(cpu: &Cpu<T>, args: Forward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let Shape { rows, groups, width, stride } = args.shape;
    if rows * groups * width == 0 {
        return Ok(());
    }
    let y = DisjointMut::new(args.y);
    cpu.threads.for_each_chunk(args.rstd, ROWS * groups, |block, rstd, _| {
        for (i, rstd) in rstd.chunks_exact_mut(groups).enumerate() {
            let row = block * ROWS + i;
            // SAFETY: rows are `stride >= groups * width` apart (checked) and each belongs to one task.
            let y = unsafe { row_mut(&y, row, stride, groups * width) };
            let x = &args.x[row * stride..][..groups * width];
            cpu.isa.dispatch(Normalise { x, weight: args.weight, eps: args.eps, y, rstd });
        }
    });
    Ok(())
}

/// All vectors of one row.
struct Normalise<'a, T> {
    x: &'a [T],
    weight: &'a [f32],
    eps: f64,
    y: &'a mut [T],
    rstd: &'a mut [f32],
}

impl<T: Storage> Kernel for Normalise<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.weight.len();
        let groups = self.x.chunks_exact(width).zip(self.y.chunks_exact_mut(width)).zip(self.rstd);
        for ((x, y), rstd) in groups {
            let mean = f64::from(s.dot(x, x)) / width as f64;
            *rstd = (1.0 / (mean + self.eps).sqrt()) as f32;
            let scale = s.splat(*rstd);
            let parts = x.chunks(S::LANES).zip(self.weight.chunks(S::LANES)).zip(y.chunks_mut(S::LANES));
            for ((x, w), y) in parts {
                let value = s.load_partial(x, 0.0) * scale * s.load_partial(w, 0.0);
                s.store_partial(y, value);
            }
        }
    }
}

pub(super) fn backward<T: Storage>(cpu: &Cpu<T>, args: Backward<'_, Cpu<T>>) -> Result<()> {
    args.check(workspace(args.shape))?;
    let Shape { rows, groups, width, stride } = args.shape;
    if rows * groups * width == 0 {
        return Ok(());
    }
    let per_block = block_rows(rows);
    let partial = &mut args.workspace[..workspace(args.shape)];
    let dx = DisjointMut::new(args.dx);
    cpu.threads.for_each_chunk(partial, width, |block, partial, _| {
        partial.fill(0.0);
        for row in block * per_block..rows.min((block + 1) * per_block) {
            // SAFETY: rows are `stride >= groups * width` apart (checked) and each belongs to one block.
            let dx = unsafe { row_mut(&dx, row, stride, groups * width) };
            cpu.isa.dispatch(Gradient {
                x: &args.x[row * stride..][..groups * width],
                dy: &args.dy[row * stride..][..groups * width],
                weight: args.weight,
                rstd: &args.rstd[row * groups..][..groups],
                accumulate: args.accumulate,
                dx,
                dweight: partial,
            });
        }
    });
    for partial in partial.chunks_exact(width) {
        cpu.isa.dispatch(vector::Add { x: partial, y: args.dweight });
    }
    Ok(())
}

/// All vectors of one row.
struct Gradient<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    weight: &'a [f32],
    rstd: &'a [f32],
    accumulate: bool,
    dx: &'a mut [T],
    dweight: &'a mut [f32],
}

impl<T: Storage> Kernel for Gradient<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.weight.len();
        for (group, &rstd) in self.rstd.iter().enumerate() {
            let at = group * width;
            let (x, dy) = (&self.x[at..at + width], &self.dy[at..at + width]);
            let dx = &mut self.dx[at..at + width];
            let mut along = [s.splat(0.0); 2];
            for (i, at) in (0..width).step_by(S::LANES).enumerate() {
                let dyw = s.load_partial(&dy[at..], 0.0) * s.load_partial(&self.weight[at..], 0.0);
                along[i % 2] = s.fma(dyw, s.load_partial(&x[at..], 0.0), along[i % 2]);
            }
            let mean = f64::from(s.reduce_add(along[0] + along[1])) / width as f64;
            let pull = s.splat((-mean * f64::from(rstd).powi(3)) as f32);
            let scale = s.splat(rstd);
            for at in (0..width).step_by(S::LANES) {
                let (vx, vdy) = (s.load_partial(&x[at..], 0.0), s.load_partial(&dy[at..], 0.0));
                let value = s.fma(scale * vdy, s.load_partial(&self.weight[at..], 0.0), pull * vx);
                let value = if self.accumulate { value + s.load_partial(&dx[at..], 0.0) } else { value };
                s.store_partial(&mut dx[at..], value);
                let sum = s.fma(vdy * scale, vx, s.load_partial(&self.dweight[at..], 0.0));
                s.store_partial(&mut self.dweight[at..], sum);
            }
        }
    }
}

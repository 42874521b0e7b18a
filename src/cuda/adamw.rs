//! AdamW and the sum of squares: kernels/adamw.cu.

use crate::backend::Len;
use crate::ops::adamw::{Rates, Step, SumOfSquares};
use crate::{Error, Result};

use super::launch::{Grid, wide};
use super::memory;
use super::module::kernels;
use super::params::{
    EMO_ADAMW_ELEMENTS, EMO_ADAMW_THREADS, EMO_SQUARES_PART, EMO_SQUARES_PARTS, EMO_SQUARES_THREADS,
    EmoAdamw, EmoSquares,
};
use super::{Cuda, CudaStorage};

pub(super) fn step<S: CudaStorage>(cuda: &Cuda<S>, args: Step<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    let len = args.params.len();
    let (weights, grads) = (cuda.write(&args.params)?, cuda.read(args.grads)?);
    let (m, v) = (cuda.write(&args.m)?, cuda.write(&args.v)?);
    let copy = cuda.write_optional(&args.copy)?.cast();
    let rates = Rates::new(&args.hyper);
    let params = EmoAdamw {
        params: weights,
        grads,
        m,
        v,
        copy,
        len: len as u64,
        grad_scale: rates.grad_scale,
        beta1: rates.beta1,
        rest1: rates.rest1,
        beta2: rates.beta2,
        rest2: rates.rest2,
        eps: rates.eps,
        decay: rates.decay,
        lr: rates.lr,
        correction: rates.correction,
        wide: wide(&[weights.cast(), grads.cast(), m.cast(), v.cast(), copy], 1, &[]),
    };
    let blocks = len.div_ceil((EMO_ADAMW_THREADS * EMO_ADAMW_ELEMENTS) as usize);
    let blocks = i32::try_from(blocks)
        .map_err(|_| Error::argument("adamw", "params", "fewer than 2^42 elements", len))?;
    let grid = Grid::line(blocks.unsigned_abs(), EMO_ADAMW_THREADS);
    // SAFETY: `check` has compared every length with `len`; the kernel compares each place with it.
    unsafe { cuda.launch(kernels::ADAMW, grid, &params) }
}

pub(super) fn sum_of_squares<S: CudaStorage>(cuda: &Cuda<S>, args: SumOfSquares<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    let len = args.x.len();
    if len == 0 {
        return memory::zero(cuda, args.out);
    }
    // The cut depends on the length alone.
    let part = len.div_ceil(EMO_SQUARES_PARTS as usize).next_multiple_of(EMO_SQUARES_PART as usize);
    let parts = len.div_ceil(part);
    let x = cuda.read(args.x)?;
    let mut scratch = cuda.scratch();
    let params = EmoSquares {
        x,
        partial: scratch.pointer(parts)?,
        out: cuda.write(&args.out)?,
        len: len as u64,
        part: part as u64,
        parts: parts as u32,
        wide: wide(&[x.cast()], 1, &[]),
    };
    // SAFETY: x holds `len` elements, with which the kernel compares each place; the scratch memory, held until both kernels
    // are enqueued, has room for all partial sums, and there are at most EMO_SQUARES_PARTS.
    unsafe {
        cuda.launch(kernels::SQUARES_PARTS, Grid::line(params.parts, EMO_SQUARES_THREADS), &params)?;
        cuda.launch(kernels::SQUARES_SUM, Grid::line(1, EMO_SQUARES_THREADS), &params)
    }
}

//! The second stage of sums over tokens: kernels/sum_rows.cu.

use crate::Result;

use super::launch::Grid;
use super::module::kernels;
use super::params::{EMO_SUM_ROWS_COLUMNS, EMO_SUM_ROWS_THREADS, EmoSumRows};
use super::{Cuda, CudaStorage};

/// Rows of partial sums, and what multiplies their sum.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    /// `[rows, columns]`.
    pub partial: *const f64,
    pub rows: u32,
    pub columns: u32,
    pub scale: f64,
}

/// Adds the rows, in order, to `out`, or to `wide_out` where `out` is null.
///
/// # Safety
/// `partial` holds `rows * columns` elements and the output `columns`, on the device and until the work is enqueued.
pub(super) unsafe fn sum_rows<S: CudaStorage>(
    cuda: &Cuda<S>,
    sum: Sum,
    out: *mut f32,
    wide_out: *mut f64,
) -> Result<()> {
    let Sum { partial, rows, columns, scale } = sum;
    let params = EmoSumRows { partial, out, wide_out, scale, rows, columns };
    let grid = Grid::line(columns.div_ceil(EMO_SUM_ROWS_COLUMNS), EMO_SUM_ROWS_THREADS);
    // SAFETY: the caller's promise.
    unsafe { cuda.launch(kernels::SUM_ROWS, grid, &params) }
}

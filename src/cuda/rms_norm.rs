//! RMSNorm: kernels/rms_norm.cu.

use crate::Result;
use crate::ops::rms_norm::{Backward, Forward, Shape};

use super::launch::{Grid, size, wide};
use super::module::kernels;
use super::params::{
    EMO_RMS_NORM_COLUMNS, EMO_RMS_NORM_PART, EMO_RMS_NORM_PARTS, EMO_RMS_NORM_THREADS, EMO_RMS_NORM_VECTORS,
    EmoRmsNormBackward, EmoRmsNormForward,
};
use super::{Cuda, CudaStorage};

/// Vectors of a part of the weight's gradient.
fn part(vectors: usize) -> usize {
    vectors.div_ceil(EMO_RMS_NORM_PARTS as usize).max(EMO_RMS_NORM_PART as usize)
}

/// One partial gradient of the weight for every part.
pub(super) fn workspace<S: CudaStorage>(_: &Cuda<S>, shape: Shape) -> usize {
    let vectors = shape.rows.saturating_mul(shape.groups);
    vectors.div_ceil(part(vectors)).saturating_mul(shape.width)
}

pub(super) fn forward<S: CudaStorage>(cuda: &Cuda<S>, args: Forward<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "rms_norm_forward";
    args.check()?;
    let Shape { rows, groups, width, stride } = args.shape;
    let (x, y) = (cuda.read(args.x)?.cast(), cuda.write(&args.y)?.cast());
    let weight = cuda.read(args.weight)?;
    let params = EmoRmsNormForward {
        x,
        weight,
        y,
        rstd: cuda.write(&args.rstd)?,
        vectors: size(OP, "rows * groups", rows * groups)?,
        groups: size(OP, "groups", groups)?,
        width: size(OP, "width", width)?,
        stride: size(OP, "stride", stride)?,
        eps: args.eps as f32,
        wide: wide(&[x, y, weight.cast()], size_of::<S>(), &[width, stride]),
    };
    let grid = Grid::line(params.vectors.div_ceil(EMO_RMS_NORM_VECTORS), EMO_RMS_NORM_THREADS);
    // SAFETY: `check` has compared every length with the shape; a warp stays inside the vector it owns.
    unsafe { cuda.launch(kernels::RMS_NORM_FORWARD, grid, &params) }
}

pub(super) fn backward<S: CudaStorage>(cuda: &Cuda<S>, args: Backward<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "rms_norm_backward";
    args.check(workspace(cuda, args.shape))?;
    let Shape { rows, groups, width, stride } = args.shape;
    let (x, dy) = (cuda.read(args.x)?.cast(), cuda.read(args.dy)?.cast());
    let (dx, weight) = (cuda.write(&args.dx)?.cast(), cuda.read(args.weight)?);
    let vectors = size(OP, "rows * groups", rows * groups)?;
    let params = EmoRmsNormBackward {
        x,
        weight,
        rstd: cuda.read(args.rstd)?,
        dy,
        dx,
        dweight: cuda.write(&args.dweight)?,
        parts: cuda.write(&args.workspace)?,
        vectors,
        groups: size(OP, "groups", groups)?,
        width: size(OP, "width", width)?,
        stride: size(OP, "stride", stride)?,
        part: size(OP, "rows * groups", part(rows * groups))?,
        accumulate: u32::from(args.accumulate),
        wide: wide(&[x, dy, dx, weight.cast()], size_of::<S>(), &[width, stride]),
    };
    if vectors == 0 {
        return Ok(());
    }
    let rows_grid = Grid::line(vectors.div_ceil(EMO_RMS_NORM_VECTORS), EMO_RMS_NORM_THREADS);
    let columns = params.width.div_ceil(EMO_RMS_NORM_COLUMNS);
    let parts_grid = Grid { blocks: [columns, vectors.div_ceil(params.part), 1], ..rows_grid };
    let sum_grid = Grid::line(params.width.div_ceil(EMO_RMS_NORM_THREADS), EMO_RMS_NORM_THREADS);
    // SAFETY: `check` has compared every length with the shape, and the workspace with a row for each part; each kernel
    // stays inside the vectors, columns and parts that the shape names.
    unsafe {
        cuda.launch(kernels::RMS_NORM_BACKWARD, rows_grid, &params)?;
        cuda.launch(kernels::RMS_NORM_WEIGHT_PARTS, parts_grid, &params)?;
        cuda.launch(kernels::RMS_NORM_WEIGHT_SUM, sum_grid, &params)
    }
}

//! Products with one matrix: the grouped products with one group, and kernels/linear.cu for sums over rows.

use std::ffi::c_void;

use crate::ops::linear::{Dgrad, Forward, Shape, Wgrad};
use crate::{Error, Result};

use super::grouped_gemm::{self, Output, all_rows, one_group, tile_columns};
use super::launch::{Grid, size, wide};
use super::module::kernels;
use super::params::{
    EMO_GEMM_DEPTH, EMO_GEMM_LARGE_M, EMO_LINEAR_THREADS, EmoColumnSums, EmoGroupedGemmDgrad,
    EmoGroupedGemmForward, EmoGroupedGemmWgrad, EmoSumParts,
};
use super::status::Site;
use super::{Cuda, CudaStorage};

/// No index arguments.
pub(super) const SITES: &[Site] = &[];

/// Rows of a part of the weight's gradient; one part where the output alone has tiles enough to fill a device.
///
/// Depends on the shape alone, never on the device, so that the sum has one order everywhere.
fn weight_part<S: CudaStorage>(shape: Shape) -> usize {
    /// Tiles that fill a device twice over.
    const FILLED: usize = 256;
    /// Rows that are worth a tile's trip through memory.
    const WORTH: usize = 512;
    let rows_of_tiles = shape.outputs.div_ceil(EMO_GEMM_LARGE_M as usize);
    let tiles = rows_of_tiles.saturating_mul(shape.inputs.div_ceil(tile_columns::<S>() as usize));
    let parts = (FILLED / tiles.max(1)).min(shape.rows / WORTH).max(1);
    let depth = EMO_GEMM_DEPTH as usize;
    shape.rows.div_ceil(parts).div_ceil(depth).saturating_mul(depth).max(depth)
}

/// Rows of a part of the bias's gradient: at most 256 parts.
fn bias_part(rows: usize) -> usize {
    rows.div_ceil(256).max(64)
}

/// The parts of the weight's gradient, and afterwards those of the bias's.
pub(super) fn workspace<S: CudaStorage>(_: &Cuda<S>, shape: Shape) -> usize {
    let Shape { rows, inputs, outputs } = shape;
    let matrix = outputs.saturating_mul(inputs);
    let parts = rows.div_ceil(weight_part::<S>(shape));
    let weight = if parts > 1 { parts.saturating_mul(matrix) } else { 0 };
    weight.max(rows.div_ceil(bias_part(rows)).saturating_mul(outputs))
}

pub(super) fn forward<S: CudaStorage>(cuda: &Cuda<S>, args: Forward<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "linear_forward";
    args.check(0)?;
    let Shape { rows, inputs, outputs } = args.shape;
    let (x, w, y) = (cuda.read(args.x)?.cast(), cuda.read(args.w)?.cast(), cuda.write(&args.y)?.cast());
    let params = EmoGroupedGemmForward {
        groups: one_group(OP, rows)?,
        x: all_rows(x),
        w,
        bias: cuda.read_optional(args.bias)?,
        y,
        inputs: size(OP, "inputs", inputs)?,
        outputs: size(OP, "outputs", outputs)?,
        status: cuda.status.pointer(),
    };
    let vectors = wide(&[x, w, y], size_of::<S>(), &[inputs, outputs]) != 0;
    let output = Output::Rows { columns: params.outputs };
    // SAFETY: `check` has compared every length with the shape, and the kernel stays inside it.
    unsafe { cuda.launch_tiles(OP, grouped_gemm::FORWARD, vectors, &params.groups, output, &params) }
}

pub(super) fn dgrad<S: CudaStorage>(cuda: &Cuda<S>, args: Dgrad<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "linear_dgrad";
    args.check(0)?;
    let Shape { rows, inputs, outputs } = args.shape;
    let (dy, w, dx) = (cuda.read(args.dy)?.cast(), cuda.read(args.w)?.cast(), cuda.write(&args.dx)?.cast());
    let params = EmoGroupedGemmDgrad {
        groups: one_group(OP, rows)?,
        dy: all_rows(dy),
        w,
        dx,
        inputs: size(OP, "inputs", inputs)?,
        outputs: size(OP, "outputs", outputs)?,
        accumulate: u32::from(args.accumulate),
        status: cuda.status.pointer(),
    };
    let vectors = wide(&[dy, w, dx], size_of::<S>(), &[inputs, outputs]) != 0;
    let output = Output::Rows { columns: params.inputs };
    // SAFETY: as for `forward`.
    unsafe { cuda.launch_tiles(OP, grouped_gemm::DGRAD, vectors, &params.groups, output, &params) }
}

pub(super) fn wgrad<S: CudaStorage>(cuda: &Cuda<S>, args: Wgrad<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "linear_wgrad";
    args.check(workspace(cuda, args.shape))?;
    let Shape { rows, inputs, outputs } = args.shape;
    let (x, dy) = (cuda.read(args.x)?.cast(), cuda.read(args.dy)?.cast());
    let (dw, parts) = (cuda.write(&args.dw)?, cuda.write(&args.workspace)?);
    let whole = one_group(OP, rows)?;
    let part = weight_part::<S>(args.shape);
    let count = rows.div_ceil(part);
    let split = count > 1;
    let params = EmoGroupedGemmWgrad {
        groups: super::params::EmoGroups {
            count: size(OP, "rows", count.max(1))?,
            group_rows: size(OP, "rows", part)?,
            ..whole
        },
        x: all_rows(x),
        dy: all_rows(dy),
        dw: if split { parts } else { dw },
        inputs: size(OP, "inputs", inputs)?,
        outputs: size(OP, "outputs", outputs)?,
        accumulate: u32::from(!split),
        status: cuda.status.pointer(),
    };
    let pointers = [x, dy, params.dw.cast::<c_void>().cast_const()];
    let vectors = wide(&pointers, size_of::<S>(), &[inputs, outputs]) != 0;
    let output = Output::Weights { m: params.outputs, n: params.inputs };
    // SAFETY: `check` has compared every length with the shape and the workspace with a matrix for each part.
    unsafe { cuda.launch_tiles(OP, grouped_gemm::WGRAD, vectors, &params.groups, output, &params)? };
    if split {
        sum_parts(cuda, OP, parts, dw, outputs * inputs, params.groups.count)?;
    }
    let Some(dbias) = &args.dbias else { return Ok(()) };
    let part = bias_part(rows);
    let sums = EmoColumnSums {
        x: dy,
        parts,
        rows: params.groups.rows,
        columns: params.outputs,
        part_rows: size(OP, "rows", part)?,
    };
    let count = size(OP, "rows", rows.div_ceil(part))?;
    let grid = Grid {
        blocks: [sums.columns.div_ceil(EMO_LINEAR_THREADS), count, 1],
        threads: EMO_LINEAR_THREADS,
        shared: 0,
    };
    // SAFETY: as above; the workspace holds a row for each part, and work in flight on it is earlier on the stream.
    unsafe { cuda.launch(kernels::COLUMN_SUMS, grid, &sums)? };
    sum_parts(cuda, OP, parts, cuda.write(dbias)?, outputs, count)
}

/// `out += sum of parts`, each of `len` elements.
fn sum_parts<S: CudaStorage>(
    cuda: &Cuda<S>,
    op: &'static str,
    parts: *const f32,
    out: *mut f32,
    len: usize,
    count: u32,
) -> Result<()> {
    let blocks = i32::try_from(len.div_ceil(EMO_LINEAR_THREADS as usize))
        .map_err(|_| Error::argument(op, "shape", "fewer than 2^38 weights", len))?;
    let params = EmoSumParts { parts, out, len: len as u64, count };
    let grid = Grid::line(blocks.unsigned_abs(), EMO_LINEAR_THREADS);
    // SAFETY: the callers' `parts` hold `count * len` elements, their `out` holds `len`; the kernel compares with `len`.
    unsafe { cuda.launch(kernels::SUM_PARTS, grid, &params) }
}

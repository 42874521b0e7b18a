//! Grouped products: kernels/grouped_gemm_*.cu. The dense and expert layers launch the same kernels through this module.

use std::ffi::c_void;

use crate::ops::grouped_gemm::{Dgrad, Forward, Shape, Wgrad};
use crate::{Error, Result};

use super::launch::{Grid, size, wide};
use super::module::{Kernel, kernels};
use super::params::{
    EMO_GEMM_BLOCKS_LARGE, EMO_GEMM_BLOCKS_SMALL, EMO_GEMM_DEPTH, EMO_GEMM_LARGE_M, EMO_GEMM_N_BF16,
    EMO_GEMM_N_F32, EMO_GEMM_SMALL_M, EMO_GEMM_STAGES_BF16, EMO_GEMM_STAGES_F32, EMO_GEMM_THREADS,
    EMO_SITE_GROUPED_GEMM_DGRAD_GATHER, EMO_SITE_GROUPED_GEMM_DGRAD_OFFSETS,
    EMO_SITE_GROUPED_GEMM_FORWARD_GATHER, EMO_SITE_GROUPED_GEMM_FORWARD_OFFSETS,
    EMO_SITE_GROUPED_GEMM_WGRAD_DY_GATHER, EMO_SITE_GROUPED_GEMM_WGRAD_OFFSETS,
    EMO_SITE_GROUPED_GEMM_WGRAD_X_GATHER, EmoGroupedGemmDgrad, EmoGroupedGemmForward, EmoGroupedGemmWgrad,
    EmoGroups, EmoRows,
};
use super::status::Site;
use super::{Cuda, CudaStorage};
use crate::backend::Len;

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[
    Site { site: EMO_SITE_GROUPED_GEMM_FORWARD_OFFSETS, op: "grouped_gemm_forward", arg: "offsets" },
    Site { site: EMO_SITE_GROUPED_GEMM_FORWARD_GATHER, op: "grouped_gemm_forward", arg: "gather" },
    Site { site: EMO_SITE_GROUPED_GEMM_DGRAD_OFFSETS, op: "grouped_gemm_dgrad", arg: "offsets" },
    Site { site: EMO_SITE_GROUPED_GEMM_DGRAD_GATHER, op: "grouped_gemm_dgrad", arg: "gather" },
    Site { site: EMO_SITE_GROUPED_GEMM_WGRAD_OFFSETS, op: "grouped_gemm_wgrad", arg: "offsets" },
    Site { site: EMO_SITE_GROUPED_GEMM_WGRAD_X_GATHER, op: "grouped_gemm_wgrad", arg: "x_gather" },
    Site { site: EMO_SITE_GROUPED_GEMM_WGRAD_DY_GATHER, op: "grouped_gemm_wgrad", arg: "dy_gather" },
];

/// The kernels of one problem: by tile, and for what 16-byte copies cannot read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    pub large: Kernel,
    pub small: Kernel,
    pub scalar: Kernel,
}

pub(super) const FORWARD: Family = Family {
    large: kernels::GROUPED_GEMM_FORWARD_LARGE,
    small: kernels::GROUPED_GEMM_FORWARD_SMALL,
    scalar: kernels::GROUPED_GEMM_FORWARD_SCALAR,
};
pub(super) const DGRAD: Family = Family {
    large: kernels::GROUPED_GEMM_DGRAD_LARGE,
    small: kernels::GROUPED_GEMM_DGRAD_SMALL,
    scalar: kernels::GROUPED_GEMM_DGRAD_SCALAR,
};
pub(super) const WGRAD: Family = Family {
    large: kernels::GROUPED_GEMM_WGRAD_LARGE,
    small: kernels::GROUPED_GEMM_WGRAD_SMALL,
    scalar: kernels::GROUPED_GEMM_WGRAD_SCALAR,
};

/// What a problem's tiles cut.
#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    /// `columns` of every row; the rows are cut within their groups.
    Rows { columns: u32 },
    /// `m x n` of every group.
    Weights { m: u32, n: u32 },
}

/// Columns of a tile.
pub(super) fn tile_columns<S: CudaStorage>() -> u32 {
    if size_of::<S>() == 2 { EMO_GEMM_N_BF16 } else { EMO_GEMM_N_F32 }
}

/// Most rows; the kernels count in 32 bits, a pipeline's depth ahead.
const MOST_ROWS: usize = 1 << 31;

/// The groups of an op's rows, by offsets on the device.
pub(super) fn groups(
    op: &'static str,
    offsets: *const u32,
    groups: usize,
    rows: usize,
    site: u32,
) -> Result<EmoGroups> {
    if rows > MOST_ROWS {
        return Err(Error::argument(op, "rows", "at most 2^31", rows));
    }
    let (count, rows) = (size(op, "groups", groups)?, size(op, "rows", rows)?);
    Ok(EmoGroups { offsets, count, rows, group_rows: rows, site })
}

/// One group of all rows.
pub(super) fn one_group(op: &'static str, rows: usize) -> Result<EmoGroups> {
    groups(op, std::ptr::null(), 1, rows, 0)
}

/// An operand without gather.
pub(super) fn all_rows(data: *const c_void) -> EmoRows {
    EmoRows { data, gather: std::ptr::null(), sources: 0, site: 0 }
}

/// Rows of `width` elements, `len` elements in all, that `gather` picks from.
fn gathered(data: *const c_void, gather: *const u32, len: usize, width: usize, site: u32) -> EmoRows {
    // More rows than a u32 names cannot be picked from.
    let sources = u32::try_from(len / width).unwrap_or(u32::MAX);
    EmoRows { data, gather, sources, site }
}

impl<S: CudaStorage> Cuda<S> {
    /// Launches the kernel of `family` that fits, with as many blocks as the device holds at once, or as there are tiles.
    ///
    /// # Safety
    /// As for [`Cuda::launch`]; `vectors` only where every pointer and every row is a multiple of 16 bytes.
    pub(super) unsafe fn launch_tiles<P>(
        &self,
        op: &'static str,
        family: Family,
        vectors: bool,
        groups: &EmoGroups,
        output: Output,
        params: &P,
    ) -> Result<()> {
        if groups.rows == 0 {
            return Ok(());
        }
        // Half of a large tile would be empty in a group of this many rows.
        let few = match output {
            Output::Rows { .. } => groups.rows / groups.count <= EMO_GEMM_SMALL_M,
            Output::Weights { m, .. } => m <= EMO_GEMM_SMALL_M,
        };
        let (kernel, tile_m, blocks) = match (vectors, few) {
            (true, false) => (family.large, EMO_GEMM_LARGE_M, EMO_GEMM_BLOCKS_LARGE),
            (true, true) => (family.small, EMO_GEMM_SMALL_M, EMO_GEMM_BLOCKS_SMALL),
            (false, _) => (family.scalar, EMO_GEMM_SMALL_M, EMO_GEMM_BLOCKS_LARGE),
        };
        let tile_n = tile_columns::<S>();
        let ceil = |a: u32, b: u32| u64::from(a.div_ceil(b));
        let tiles = match output {
            Output::Rows { columns } => {
                let rows = ceil(groups.rows, tile_m) + u64::from(groups.count.min(groups.rows));
                rows.saturating_mul(ceil(columns, tile_n))
            }
            Output::Weights { m, n } => {
                ceil(m, tile_m).saturating_mul(ceil(n, tile_n)).saturating_mul(u64::from(groups.count))
            }
        };
        let Some(tiles) = u32::try_from(tiles).ok().filter(|&tiles| tiles < 1 << 31) else {
            return Err(Error::argument(op, "shape", "fewer than 2^31 tiles of the output", tiles));
        };
        let stages = if size_of::<S>() == 2 { EMO_GEMM_STAGES_BF16 } else { EMO_GEMM_STAGES_F32 };
        let element = size_of::<S>() as u32;
        let grid = Grid {
            blocks: [tiles.min(self.multiprocessors() * blocks), 1, 1],
            threads: EMO_GEMM_THREADS,
            shared: stages * (tile_m + tile_n) * EMO_GEMM_DEPTH * element,
        };
        // SAFETY: the caller's promise.
        unsafe { self.launch(kernel, grid, params) }
    }
}

/// No scratch: a tile's sum never leaves its block.
pub(super) fn workspace<S: CudaStorage>(_: &Cuda<S>, _: Shape) -> usize {
    0
}

pub(super) fn forward<S: CudaStorage>(cuda: &Cuda<S>, args: Forward<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "grouped_gemm_forward";
    args.check(0)?;
    let Shape { groups: count, rows, inputs, outputs } = args.shape;
    let (x, w, y) = (cuda.read(args.x)?.cast(), cuda.read(args.w)?.cast(), cuda.write(&args.y)?.cast());
    let gather = cuda.read_optional(args.gather)?;
    let params = EmoGroupedGemmForward {
        groups: groups(OP, cuda.read(args.offsets)?, count, rows, EMO_SITE_GROUPED_GEMM_FORWARD_OFFSETS)?,
        x: gathered(x, gather, args.x.len(), inputs, EMO_SITE_GROUPED_GEMM_FORWARD_GATHER),
        w,
        bias: std::ptr::null(),
        y,
        inputs: size(OP, "inputs", inputs)?,
        outputs: size(OP, "outputs", outputs)?,
        status: cuda.status.pointer(),
    };
    let vectors = wide(&[x, w, y], size_of::<S>(), &[inputs, outputs]) != 0;
    let output = Output::Rows { columns: params.outputs };
    // SAFETY: `check` has compared every length with the shape; rows are cut to `rows`, and picked rows compared with
    // those that `x` has.
    unsafe { cuda.launch_tiles(OP, FORWARD, vectors, &params.groups, output, &params) }
}

pub(super) fn dgrad<S: CudaStorage>(cuda: &Cuda<S>, args: Dgrad<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "grouped_gemm_dgrad";
    args.check(0)?;
    let Shape { groups: count, rows, inputs, outputs } = args.shape;
    let (dy, w, dx) = (cuda.read(args.dy)?.cast(), cuda.read(args.w)?.cast(), cuda.write(&args.dx)?.cast());
    let gather = cuda.read_optional(args.gather)?;
    let params = EmoGroupedGemmDgrad {
        groups: groups(OP, cuda.read(args.offsets)?, count, rows, EMO_SITE_GROUPED_GEMM_DGRAD_OFFSETS)?,
        dy: gathered(dy, gather, args.dy.len(), outputs, EMO_SITE_GROUPED_GEMM_DGRAD_GATHER),
        w,
        dx,
        inputs: size(OP, "inputs", inputs)?,
        outputs: size(OP, "outputs", outputs)?,
        accumulate: 0,
        status: cuda.status.pointer(),
    };
    let vectors = wide(&[dy, w, dx], size_of::<S>(), &[inputs, outputs]) != 0;
    let output = Output::Rows { columns: params.inputs };
    // SAFETY: as for `forward`.
    unsafe { cuda.launch_tiles(OP, DGRAD, vectors, &params.groups, output, &params) }
}

pub(super) fn wgrad<S: CudaStorage>(cuda: &Cuda<S>, args: Wgrad<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "grouped_gemm_wgrad";
    args.check(0)?;
    let Shape { groups: count, rows, inputs, outputs } = args.shape;
    let (x, dy) = (cuda.read(args.x)?.cast(), cuda.read(args.dy)?.cast());
    let dw = cuda.write(&args.dw)?;
    let (x_gather, dy_gather) = (cuda.read_optional(args.x_gather)?, cuda.read_optional(args.dy_gather)?);
    let params = EmoGroupedGemmWgrad {
        groups: groups(OP, cuda.read(args.offsets)?, count, rows, EMO_SITE_GROUPED_GEMM_WGRAD_OFFSETS)?,
        x: gathered(x, x_gather, args.x.len(), inputs, EMO_SITE_GROUPED_GEMM_WGRAD_X_GATHER),
        dy: gathered(dy, dy_gather, args.dy.len(), outputs, EMO_SITE_GROUPED_GEMM_WGRAD_DY_GATHER),
        dw,
        inputs: size(OP, "inputs", inputs)?,
        outputs: size(OP, "outputs", outputs)?,
        accumulate: 1,
        status: cuda.status.pointer(),
    };
    let vectors = wide(&[x, dy, dw.cast()], size_of::<S>(), &[inputs, outputs]) != 0;
    let output = Output::Weights { m: params.outputs, n: params.inputs };
    // SAFETY: as for `forward`; `dw` holds a matrix for each group.
    unsafe { cuda.launch_tiles(OP, WGRAD, vectors, &params.groups, output, &params) }
}

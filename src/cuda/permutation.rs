//! Plan, dispatch and combine: kernels/permutation_plan.cu and kernels/permutation_move.cu.

use crate::Result;
use crate::backend::Len;
use crate::ops::permutation::{Combine, CombineBackward, Dispatch, DispatchBackward, Plan};

use super::launch::{Grid, size, wide};
use super::memory;
use super::module::{Kernel, kernels};
use super::params::{
    EMO_MOVE_THREADS, EMO_PLAN_BINS, EMO_PLAN_BLOCKS, EMO_PLAN_CELLS, EMO_PLAN_SCAN_THREADS, EMO_PLAN_SLOTS,
    EMO_PLAN_THREADS, EMO_SITE_COMBINE_BACKWARD_INVERSE, EMO_SITE_COMBINE_BACKWARD_UNNAMED,
    EMO_SITE_COMBINE_INVERSE, EMO_SITE_DISPATCH_BACKWARD_INVERSE, EMO_SITE_DISPATCH_TOKEN,
    EMO_SITE_PLAN_INDICES, EmoCombineBackward, EmoDispatch, EmoGatherSum, EmoPlan,
};
use super::status::Site;
use super::{Cuda, CudaStorage};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[
    Site { site: EMO_SITE_PLAN_INDICES, op: "plan", arg: "indices" },
    Site { site: EMO_SITE_DISPATCH_TOKEN, op: "dispatch_forward", arg: "token" },
    Site { site: EMO_SITE_DISPATCH_BACKWARD_INVERSE, op: "dispatch_backward", arg: "inverse" },
    Site { site: EMO_SITE_COMBINE_INVERSE, op: "combine_forward", arg: "inverse" },
    Site { site: EMO_SITE_COMBINE_BACKWARD_INVERSE, op: "combine_backward", arg: "inverse" },
    Site { site: EMO_SITE_COMBINE_BACKWARD_UNNAMED, op: "combine_backward", arg: "a row's slots in inverse" },
];

/// Blocks that sort together: enough to fill the device, few enough for one block to add up their counts, and each with
/// more slots than there are experts, because its counts lie in its part of `inverse`.
fn plan_blocks(slots: u32, experts: u32) -> u32 {
    if experts >= EMO_PLAN_BINS {
        return 1;
    }
    let each = EMO_PLAN_SLOTS.max(experts + 1);
    (slots / each).min(EMO_PLAN_CELLS / (experts + 1)).clamp(1, EMO_PLAN_BLOCKS)
}

pub(super) fn plan<S: CudaStorage>(cuda: &Cuda<S>, args: Plan<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "plan";
    args.check()?;
    let slots = most(OP, "tokens", args.indices.len())?;
    let experts = most(OP, "experts", args.shape.experts)?;
    if slots == 0 {
        return memory::zero(cuda, args.offsets);
    }
    let params = EmoPlan {
        indices: cuda.read(args.indices)?,
        order: cuda.write(&args.order)?,
        token: cuda.write(&args.token)?,
        offsets: cuda.write(&args.offsets)?,
        inverse: cuda.write(&args.inverse)?,
        slots,
        top_k: size(OP, "top_k", args.shape.top_k)?,
        experts,
        blocks: plan_blocks(slots, experts),
        status: cuda.status.pointer(),
    };
    let blocks = Grid::line(params.blocks, EMO_PLAN_THREADS);
    // SAFETY: `check` has compared every length with the shape. Counts lie in `offsets`, of `experts + 1` elements, and in
    // the blocks' own parts of `inverse`, which are longer. The kernels sort each slot, bad ones last, to a row below
    // `slots`, because the scan adds up exactly the counts of these slots.
    unsafe {
        cuda.launch(kernels::PLAN_COUNT, blocks, &params)?;
        cuda.launch(kernels::PLAN_SCAN, Grid::line(1, EMO_PLAN_SCAN_THREADS), &params)?;
        cuda.launch(kernels::PLAN_PLACE, blocks, &params)
    }
}

/// A number of rows, slots or experts: indices and their ends stay below 2^32 in the kernels.
fn most(op: &'static str, arg: &'static str, value: usize) -> Result<u32> {
    match size(op, arg, value)? {
        value if value <= 1 << 31 => Ok(value),
        value => Err(crate::Error::argument(op, arg, "at most 2^31 rows on this device", value)),
    }
}

/// A warp for each of `rows`, and a row of the grid for every 32 pieces of 16 bytes of their width.
fn warps<S>(rows: u32, width: usize) -> Grid {
    let segments = (width * size_of::<S>()).div_ceil(512).clamp(1, 65_535) as u32;
    let line = Grid::line(rows.div_ceil(EMO_MOVE_THREADS / 32), EMO_MOVE_THREADS);
    Grid { blocks: [line.blocks[0], segments, 1], ..line }
}

pub(super) fn dispatch<S: CudaStorage>(cuda: &Cuda<S>, args: Dispatch<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "dispatch_forward";
    args.check()?;
    let (x, rows) = (cuda.read(args.x)?.cast(), cuda.write(&args.rows)?.cast());
    let params = EmoDispatch {
        token: cuda.read(args.token)?,
        x,
        rows,
        rows_len: most(OP, "tokens", args.token.len())?,
        tokens: size(OP, "tokens", args.shape.tokens)?,
        width: size(OP, "width", args.width)?,
        wide: wide(&[x, rows], size_of::<S>(), &[args.width]),
        status: cuda.status.pointer(),
    };
    let grid = Grid::line(params.rows_len.div_ceil(EMO_MOVE_THREADS / 32), EMO_MOVE_THREADS);
    // SAFETY: `check` has compared every length with the shape; tokens are compared with their number before use.
    unsafe { cuda.launch(kernels::DISPATCH_FORWARD, grid, &params) }
}

pub(super) fn dispatch_backward<S: CudaStorage>(
    cuda: &Cuda<S>,
    args: DispatchBackward<'_, Cuda<S>>,
) -> Result<()> {
    const OP: &str = "dispatch_backward";
    args.check()?;
    let (rows, y) = (cuda.read(args.drows)?.cast(), cuda.write(&args.dx)?.cast());
    most(OP, "tokens", args.inverse.len())?;
    let params = EmoGatherSum {
        inverse: cuda.read(args.inverse)?,
        weights: std::ptr::null(),
        rows,
        y,
        tokens: size(OP, "tokens", args.shape.tokens)?,
        top_k: size(OP, "top_k", args.shape.top_k)?,
        width: size(OP, "width", args.width)?,
        wide: wide(&[rows, y], size_of::<S>(), &[args.width]),
        accumulate: 0,
        site: EMO_SITE_DISPATCH_BACKWARD_INVERSE,
        status: cuda.status.pointer(),
    };
    // SAFETY: `check` has compared every length with the shape; rows are compared with their number before use.
    unsafe { cuda.launch(kernels::GATHER_SUM, warps::<S>(params.tokens, args.width), &params) }
}

pub(super) fn combine<S: CudaStorage>(cuda: &Cuda<S>, args: Combine<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "combine_forward";
    args.check()?;
    let (rows, y) = (cuda.read(args.rows)?.cast(), cuda.write(&args.y)?.cast());
    most(OP, "tokens", args.inverse.len())?;
    let params = EmoGatherSum {
        inverse: cuda.read(args.inverse)?,
        weights: cuda.read(args.weights)?,
        rows,
        y,
        tokens: size(OP, "tokens", args.shape.tokens)?,
        top_k: size(OP, "top_k", args.shape.top_k)?,
        width: size(OP, "width", args.width)?,
        wide: wide(&[rows, y], size_of::<S>(), &[args.width]),
        accumulate: u32::from(args.accumulate),
        site: EMO_SITE_COMBINE_INVERSE,
        status: cuda.status.pointer(),
    };
    // SAFETY: as in `dispatch_backward`; the weights are as many as the slots.
    unsafe { cuda.launch(kernels::GATHER_SUM, warps::<S>(params.tokens, args.width), &params) }
}

pub(super) fn combine_backward<S: CudaStorage>(
    cuda: &Cuda<S>,
    mut args: CombineBackward<'_, Cuda<S>>,
) -> Result<()> {
    const OP: &str = "combine_backward";
    args.check()?;
    let slots = most(OP, "tokens", args.inverse.len())?;
    let (rows, dy) = (cuda.read(args.rows)?.cast(), cuda.read(args.dy)?.cast());
    let drows = cuda.write(&args.drows)?.cast();
    let params = EmoCombineBackward {
        inverse: cuda.read(args.inverse)?,
        weights: cuda.read(args.weights)?,
        rows,
        dy,
        drows,
        dweights: cuda.write(&args.dweights)?,
        tokens: size(OP, "tokens", args.shape.tokens)?,
        top_k: size(OP, "top_k", args.shape.top_k)?,
        width: size(OP, "width", args.width)?,
        wide: wide(&[rows, dy, drows], size_of::<S>(), &[args.width]),
        status: cuda.status.pointer(),
    };
    memory::zero(cuda, args.dweights.reborrow())?;
    let lines = |kernel: Kernel, grid: Grid| {
        // SAFETY: `check` has compared every length with the shape; rows are compared with their number before use, and
        // the marks in `dweights` are slots of this shape or 0.
        unsafe { cuda.launch(kernel, grid, &params) }
    };
    lines(kernels::COMBINE_MARK, Grid::line(slots.div_ceil(EMO_MOVE_THREADS), EMO_MOVE_THREADS))?;
    lines(kernels::COMBINE_BACKWARD_ROWS, warps::<S>(slots, args.width))?;
    let a_warp_each = Grid::line(slots.div_ceil(EMO_MOVE_THREADS / 32), EMO_MOVE_THREADS);
    lines(kernels::COMBINE_BACKWARD_WEIGHTS, a_warp_each)
}

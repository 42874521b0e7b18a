//! Document pools: kernels/pool.cu.

use crate::backend::Len;
use crate::ops::pool::{Keep, Sizes};
use crate::ops::smoothing::Pool as Smoothed;
use crate::{Error, Result};

use super::context::SCRATCH;
use super::launch::{Grid, rows, size};
use super::module::kernels;
use super::params::{
    EMO_POOL_MAX_ROUTED, EMO_POOL_THREADS, EMO_SITE_POOL_OFFSETS, EmoPool, EmoPoolSizes, EmoSmoothing,
};
use super::status::Site;
use super::{Cuda, CudaStorage, smoothing};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] =
    &[Site { site: EMO_SITE_POOL_OFFSETS, op: "pool_keep", arg: "segments.offsets" }];

/// Tokens of a block, at least: documents that cross no multiple of it are added in one go.
const BLOCK: usize = 128;

/// How many tokens a block has such that two partial rows of `columns` for every block fit the scratch memory. It depends on
/// the sizes alone, and so does the order of the sums.
pub(super) fn block(tokens: usize, columns: usize) -> usize {
    let fit = (SCRATCH / size_of::<f64>() / 2 / columns.max(1)).max(1);
    tokens.div_ceil(fit).max(BLOCK)
}

pub(super) fn sizes<S: CudaStorage>(cuda: &Cuda<S>, args: Sizes<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    let params = EmoPoolSizes {
        seed: args.seed,
        step: args.step,
        documents: cuda.read(args.documents)?,
        sizes: cuda.write(&args.sizes)?,
        layer: args.layer,
        min: args.min.min(args.max),
        max: args.max.max(args.min),
        count: rows("pool_sizes", "documents", args.documents.len())?,
    };
    let grid = Grid::line(params.count.div_ceil(EMO_POOL_THREADS), EMO_POOL_THREADS);
    // SAFETY: `check` has compared the lengths.
    unsafe { cuda.launch(kernels::POOL_SIZES, grid, &params) }
}

pub(super) fn keep<S: CudaStorage>(cuda: &Cuda<S>, args: Keep<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    choose(cuda, EmoSmoothing::default(), args)
}

pub(super) fn smoothed<S: CudaStorage>(cuda: &Cuda<S>, args: Smoothed<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    let smoothing = smoothing::in_front(cuda, "smoothed_pool", &args.smoothing, args.pool.logits)?;
    choose(cuda, smoothing, args.pool)
}

/// Pools of the logits, or of what the smoothing writes where there is one.
fn choose<S: CudaStorage>(cuda: &Cuda<S>, smoothing: EmoSmoothing, args: Keep<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "pool_keep";
    if args.routed > EMO_POOL_MAX_ROUTED as usize {
        let expected = format!("at most {EMO_POOL_MAX_ROUTED} on a CUDA device");
        return Err(Error::argument(OP, "routed", expected, args.routed));
    }
    let per_block = block(args.tokens, args.routed);
    let blocks = args.tokens.div_ceil(per_block);
    let mut scratch = cuda.scratch();
    let logits = cuda.read(args.logits)?;
    let params = EmoPool {
        logits: if smoothing.x.is_null() { logits } else { smoothing.y },
        smoothing,
        bias: cuda.read_optional(args.bias)?,
        offsets: cuda.read(args.segments.offsets)?,
        sizes: cuda.read(args.sizes)?,
        partial: scratch.pointer(2 * blocks * args.routed)?,
        keep: cuda.write(&args.keep)?,
        scores: cuda.write(&args.scores)?,
        entropy: cuda.write_optional(&args.entropy)?,
        temperature: args.temperature,
        tokens: rows(OP, "tokens", args.tokens)?,
        experts: size(OP, "experts", args.experts)?,
        routed: size(OP, "routed", args.routed)?,
        forced: size(OP, "forced", args.forced)?,
        segments: rows(OP, "segments", args.segments.count())?,
        block: size(OP, "tokens", per_block)?,
        status: cuda.status.pointer(),
    };
    if params.segments == 0 {
        return Ok(());
    }
    let (partial, keep) = match args.routed {
        0..=128 => (kernels::POOL_PARTIAL_128, kernels::POOL_KEEP_128),
        129..=256 => (kernels::POOL_PARTIAL_256, kernels::POOL_KEEP_256),
        _ => (kernels::POOL_PARTIAL_1024, kernels::POOL_KEEP_1024),
    };
    // SAFETY: `check` has compared every length with the shape, whose experts fit the kernels, and those of a smoothing with
    // its own, which is that of the logits; offsets are compared with
    // the tokens before they are followed, and the scratch memory, which is ours until the guard is dropped, holds two rows
    // for each block.
    unsafe {
        cuda.launch(partial, Grid::line(size(OP, "tokens", blocks)?, EMO_POOL_THREADS), &params)?;
        cuda.launch(keep, Grid::line(params.segments, EMO_POOL_THREADS), &params)
    }
}

//! Losses on routing: kernels/losses.cu and kernels/redundancy.cu.

use crate::ops::losses::{
    DomainConsistency, LoadBalance, MutualInformation, Redundancy, SequenceConsistency,
};
use crate::{Error, Result};

use super::buffer::{CudaView, CudaViewMut};
use super::context::SCRATCH;
use super::launch::{Grid, rows, size};
use super::module::kernels;
use super::params::{
    EMO_LOSS_PARTS, EMO_LOSS_THREADS, EMO_LOSS_WARPS, EMO_SITE_LOSS_DOMAIN, EMO_SITE_LOSS_INVERSE,
    EMO_SITE_LOSS_OFFSETS, EMO_SITE_LOSS_SEGMENT, EMO_SITE_LOSS_TWICE, EmoDomainConsistency, EmoLoadBalance,
    EmoMutualInformation, EmoRedundancy, EmoScores, EmoSequenceConsistency,
};
use super::status::Site;
use super::sum_rows::{Sum, sum_rows};
use super::{Cuda, CudaStorage, memory, pool};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[
    Site { site: EMO_SITE_LOSS_OFFSETS, op: "domain_consistency", arg: "segments.offsets" },
    Site { site: EMO_SITE_LOSS_SEGMENT, op: "domain_consistency", arg: "segments.of_token" },
    Site { site: EMO_SITE_LOSS_DOMAIN, op: "domain_consistency", arg: "domain" },
    Site { site: EMO_SITE_LOSS_INVERSE, op: "redundancy", arg: "inverse" },
    Site { site: EMO_SITE_LOSS_TWICE, op: "redundancy", arg: "a row's slots in inverse" },
];

/// Most slots of a redundancy: each has a bit of the scratch memory.
const MOST_SLOTS: usize = 1 << 24;

/// Columns of a warp.
const LANES: u32 = 32;

/// Tokens of a block such that there are at most `parts` blocks, and no warp of a block is idle in a small one.
fn block(tokens: usize, parts: usize) -> usize {
    tokens.div_ceil(parts.max(1)).next_multiple_of(EMO_LOSS_WARPS as usize).max(EMO_LOSS_WARPS as usize)
}

/// The scores and their gradient, in blocks of `block` tokens.
fn scores<S: CudaStorage>(
    cuda: &Cuda<S>,
    op: &'static str,
    probs: CudaView<'_, f32>,
    dprobs: &CudaViewMut<'_, f32>,
    valid: Option<CudaView<'_, u8>>,
    (tokens, routed, block): (usize, usize, usize),
) -> Result<EmoScores> {
    Ok(EmoScores {
        probs: cuda.read(probs)?,
        dprobs: cuda.write(dprobs)?,
        valid: cuda.read_optional(valid)?,
        tokens: rows(op, "tokens", tokens)?,
        routed: rows(op, "routed", routed)?,
        block: size(op, "tokens", block)?,
        blocks: size(op, "tokens", tokens.div_ceil(block))?,
    })
}

/// Adds `scale` times the partial losses to the loss.
///
/// # Safety
/// `partial` holds as many elements as `parts` says, on the device and until the work is enqueued.
unsafe fn add_loss<S: CudaStorage>(
    cuda: &Cuda<S>,
    partial: *const f64,
    parts: u32,
    scale: f64,
    loss: &CudaViewMut<'_, f64>,
) -> Result<()> {
    let sum = Sum { partial, rows: parts, columns: 1, scale };
    // SAFETY: the caller's promise, and a loss has one element, which every op checks.
    unsafe { sum_rows(cuda, sum, std::ptr::null_mut(), cuda.write(loss)?) }
}

/// The kernels' blocks, one a block of tokens.
fn grid(blocks: u32) -> Grid {
    Grid::line(blocks, EMO_LOSS_THREADS)
}

/// `across` columns a block beside the first dimension of the grid.
fn plane(blocks: u32, columns: u32, across: u32) -> Grid {
    Grid { blocks: [blocks, columns.div_ceil(across), 1], threads: EMO_LOSS_THREADS, shared: 0 }
}

pub(super) fn load_balance<S: CudaStorage>(cuda: &Cuda<S>, args: LoadBalance<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "load_balance";
    args.check()?;
    let cut = (args.tokens, args.routed, block(args.tokens, EMO_LOSS_PARTS as usize));
    let scores = scores(cuda, OP, args.probs, &args.dprobs, args.valid, cut)?;
    let mut scratch = cuda.scratch();
    let partial = scratch.pointer(scores.blocks as usize)?;
    let params =
        EmoLoadBalance { scores, counts: cuda.read(args.counts)?, coefficient: args.coefficient, partial };
    if scores.blocks == 0 {
        return Ok(());
    }
    // SAFETY: `check` has compared every length with the shape, inside which the kernel stays, and the scratch memory,
    // which is ours until the guard is dropped, holds a partial loss for each block.
    unsafe {
        cuda.launch(kernels::LOAD_BALANCE, grid(scores.blocks), &params)?;
        add_loss(cuda, partial, scores.blocks, 1.0, &args.loss)
    }
}

pub(super) fn mutual_information<S: CudaStorage>(
    cuda: &Cuda<S>,
    args: MutualInformation<'_, Cuda<S>>,
) -> Result<()> {
    const OP: &str = "mutual_information";
    args.check()?;
    let columns = args.routed + 1;
    // The column sums of the blocks, then slopes and partial losses of the experts, and partial losses of the blocks.
    let fit = (SCRATCH / size_of::<f64>()).saturating_sub(2 * args.routed) / (columns + 1);
    let cut = (args.tokens, args.routed, block(args.tokens, fit.min(EMO_LOSS_PARTS as usize)));
    let scores = scores(cuda, OP, args.probs, &args.dprobs, args.valid, cut)?;
    let blocks = scores.blocks as usize;
    let mut scratch = cuda.scratch();
    let sums = scratch.pointer::<f64>(blocks * (columns + 1) + 2 * args.routed)?;
    let slopes = sums.wrapping_add(blocks * columns);
    let params = EmoMutualInformation {
        scores,
        token_weight: args.token_weight,
        marginal_weight: args.marginal_weight,
        sums,
        slopes,
        partial: slopes.wrapping_add(args.routed),
    };
    if blocks == 0 {
        return Ok(());
    }
    // SAFETY: `check` has compared every length with the shape, inside which the kernels stay, and the scratch memory,
    // which is ours until the guard is dropped, holds the three arrays one after the other.
    unsafe {
        cuda.launch(kernels::INFORMATION_SUMS, plane(scores.blocks, scores.routed + 1, LANES), &params)?;
        cuda.launch(kernels::INFORMATION_MEANS, grid(scores.routed.div_ceil(EMO_LOSS_THREADS)), &params)?;
        cuda.launch(kernels::INFORMATION_TOKENS, grid(scores.blocks), &params)?;
        add_loss(cuda, params.partial, scores.blocks + scores.routed, 1.0, &args.loss)
    }
}

pub(super) fn sequence_consistency<S: CudaStorage>(
    cuda: &Cuda<S>,
    args: SequenceConsistency<'_, Cuda<S>>,
) -> Result<()> {
    const OP: &str = "sequence_consistency";
    args.check()?;
    let cut = (args.tokens, args.routed, block(args.tokens, EMO_LOSS_PARTS as usize));
    let scores = scores(cuda, OP, args.probs, &args.dprobs, None, cut)?;
    let mut scratch = cuda.scratch();
    let pairs = scratch.pointer::<f64>(2 * scores.blocks as usize)?;
    let params = EmoSequenceConsistency {
        scores,
        of_token: cuda.read(args.segments.of_token)?,
        coefficient: args.coefficient,
        pairs,
        partial: pairs.wrapping_add(scores.blocks as usize),
    };
    if scores.blocks == 0 {
        return Ok(());
    }
    // SAFETY: `check` has compared every length with the shape, inside which the kernels stay (segments are compared, not
    // followed), and the scratch memory, which is ours until the guard is dropped, holds two numbers for each block.
    unsafe {
        cuda.launch(kernels::SEQUENCE_PAIRS, grid(scores.blocks), &params)?;
        cuda.launch(kernels::SEQUENCE_TOKENS, grid(scores.blocks), &params)?;
        add_loss(cuda, params.partial, scores.blocks, 1.0, &args.loss)
    }
}

pub(super) fn domain_consistency<S: CudaStorage>(
    cuda: &Cuda<S>,
    args: DomainConsistency<'_, Cuda<S>>,
) -> Result<()> {
    const OP: &str = "domain_consistency";
    args.check()?;
    // One number a block goes beside the two rows.
    let cut = (args.tokens, args.routed, pool::block(args.tokens, args.routed + 1));
    let scores = scores(cuda, OP, args.probs, &args.dprobs, None, cut)?;
    let blocks = scores.blocks as usize;
    let mut scratch = cuda.scratch();
    let crossing = scratch.pointer::<f64>(blocks * (2 * args.routed + 1))?;
    let params = EmoDomainConsistency {
        scores,
        offsets: cuda.read(args.segments.offsets)?,
        of_token: cuda.read(args.segments.of_token)?,
        domain: cuda.read(args.domain)?,
        means: cuda.write(&args.workspace)?,
        crossing,
        partial: crossing.wrapping_add(2 * blocks * args.routed),
        coefficient: args.coefficient,
        segments: rows(OP, "segments", args.segments.count())?,
        domains: rows(OP, "domains", args.domains)?,
        status: cuda.status.pointer(),
    };
    if blocks == 0 || params.segments == 0 {
        return Ok(());
    }
    let routed = scores.routed;
    // SAFETY: `check` has compared every length with the shape, inside which the kernels stay: offsets, segments and domains
    // are compared with their bounds before they are followed. The scratch memory, which is ours until the guard is dropped,
    // holds two rows and a partial loss for each block.
    unsafe {
        cuda.launch(kernels::DOMAIN_CROSSING, plane(scores.blocks, routed, LANES), &params)?;
        cuda.launch(kernels::DOMAIN_DOCUMENTS, plane(params.segments, routed, LANES), &params)?;
        cuda.launch(kernels::DOMAIN_MEANS, plane(params.domains, routed, EMO_LOSS_THREADS), &params)?;
        cuda.launch(kernels::DOMAIN_TOKENS, grid(scores.blocks), &params)?;
        add_loss(cuda, params.partial, scores.blocks, 1.0, &args.loss)
    }
}

pub(super) fn redundancy<S: CudaStorage>(cuda: &Cuda<S>, args: Redundancy<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "redundancy";
    args.check()?;
    let (tokens, routed_k) = (args.tokens, args.routed_k);
    let per_block = tokens.div_ceil(EMO_LOSS_PARTS as usize).max(1);
    let blocks = size(OP, "tokens", tokens.div_ceil(per_block))?;
    let pairs = tokens as f64 * (routed_k * routed_k.saturating_sub(1)) as f64 / 2.0;
    let slots = tokens * args.top_k;
    if slots > MOST_SLOTS {
        return Err(Error::argument(OP, "tokens", "at most 2^24 slots on a CUDA device", slots));
    }
    let words = 1 + slots.div_ceil(32);
    let mut scratch = cuda.scratch();
    let partial: *mut f64 = scratch.pointer(blocks as usize + words.div_ceil(2))?;
    let marks = partial.wrapping_add(blocks as usize).cast::<u32>();
    let params = EmoRedundancy {
        inverse: cuda.read(args.inverse)?,
        rows: cuda.read(args.rows)?.cast(),
        drows: cuda.write(&args.drows)?.cast(),
        factor: if pairs > 0.0 { args.coefficient / pairs } else { 0.0 },
        partial,
        marks,
        tokens: rows(OP, "tokens * top_k", tokens * args.top_k)? / size(OP, "top_k", args.top_k)?,
        top_k: size(OP, "top_k", args.top_k)?,
        routed_k: size(OP, "routed_k", routed_k)?,
        width: rows(OP, "width", args.width)?,
        block: size(OP, "tokens", per_block)?,
        status: cuda.status.pointer(),
    };
    if blocks == 0 {
        return Ok(());
    }
    // SAFETY: `check` has compared every length with the shape, inside which the kernel stays: rows are compared with their
    // number and marked before they are followed. The scratch memory, which is ours until the guard is dropped, holds a partial
    // loss for each block, and behind those the marks.
    unsafe {
        memory::clear(cuda, marks as u64, words * size_of::<u32>())?;
        let slots = Grid::line(size(OP, "tokens", slots)?.div_ceil(EMO_LOSS_THREADS), EMO_LOSS_THREADS);
        cuda.launch(kernels::REDUNDANCY_MARK, slots, &params)?;
        cuda.launch(kernels::REDUNDANCY, grid(blocks), &params)?;
        add_loss(cuda, partial, blocks, 1.0, &args.loss)
    }
}

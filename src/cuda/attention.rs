//! Causal attention inside documents: kernels/attention_forward.cu, and two files for the two halves of the backward pass.

use std::ffi::c_void;

use crate::ops::attention::{Backward, Forward, Shape};
use crate::ops::segments::Segments;
use crate::{Error, Result};

use super::launch::{Grid, size, wide};
use super::module::{Kernel, kernels};
use super::params::*;
use super::status::Site;
use super::{Cuda, CudaStorage};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[
    Site { site: EMO_ATTENTION_OF_TOKEN, op: "attention", arg: "segments.of_token" },
    Site { site: EMO_ATTENTION_OFFSETS, op: "attention", arg: "segments.offsets" },
    Site { site: EMO_ATTENTION_END, op: "attention", arg: "a token of segments.of_token" },
];

/// There is no kernel for attention to cached keys yet.
pub(super) fn no_cached() -> Error {
    Error::Backend {
        backend: "cuda",
        message: "attention_cached has no kernel yet; run the whole sequence through attention_forward"
            .into(),
    }
}

/// The widest head that there are kernels for.
const WIDEST: usize = 256;

/// A kernel for heads up to a width, and its tile (see kernels/include/attention.h) for each storage type.
struct Tile {
    kernel: Kernel,
    f32: u32,
    bf16: u32,
}

/// For heads of at most 32, 64, 128 and 256 elements.
const FORWARD: [Tile; 4] = [
    tile(kernels::ATTENTION_FORWARD_32, EMO_ATTENTION_FORWARD_32_F32, EMO_ATTENTION_FORWARD_32_BF16),
    tile(kernels::ATTENTION_FORWARD_64, EMO_ATTENTION_FORWARD_64_F32, EMO_ATTENTION_FORWARD_64_BF16),
    tile(kernels::ATTENTION_FORWARD_128, EMO_ATTENTION_FORWARD_128_F32, EMO_ATTENTION_FORWARD_128_BF16),
    tile(kernels::ATTENTION_FORWARD_256, EMO_ATTENTION_FORWARD_256_F32, EMO_ATTENTION_FORWARD_256_BF16),
];
const DQ: [Tile; 4] = [
    tile(kernels::ATTENTION_DQ_32, EMO_ATTENTION_DQ_32_F32, EMO_ATTENTION_DQ_32_BF16),
    tile(kernels::ATTENTION_DQ_64, EMO_ATTENTION_DQ_64_F32, EMO_ATTENTION_DQ_64_BF16),
    tile(kernels::ATTENTION_DQ_128, EMO_ATTENTION_DQ_128_F32, EMO_ATTENTION_DQ_128_BF16),
    tile(kernels::ATTENTION_DQ_256, EMO_ATTENTION_DQ_256_F32, EMO_ATTENTION_DQ_256_BF16),
];
const DKV: [Tile; 4] = [
    tile(kernels::ATTENTION_DKV_32, EMO_ATTENTION_DKV_32_F32, EMO_ATTENTION_DKV_32_BF16),
    tile(kernels::ATTENTION_DKV_64, EMO_ATTENTION_DKV_64_F32, EMO_ATTENTION_DKV_64_BF16),
    tile(kernels::ATTENTION_DKV_128, EMO_ATTENTION_DKV_128_F32, EMO_ATTENTION_DKV_128_BF16),
    tile(kernels::ATTENTION_DKV_256, EMO_ATTENTION_DKV_256_F32, EMO_ATTENTION_DKV_256_BF16),
];

const fn tile(kernel: Kernel, f32: u32, bf16: u32) -> Tile {
    Tile { kernel, f32, bf16 }
}

/// The kernel of a pass for this head, and its grid: a block for each tile of tokens of each of `heads`.
fn choose<S: CudaStorage>(
    op: &'static str,
    tiles: &[Tile; 4],
    shape: Shape,
    heads: usize,
) -> Result<(Kernel, Grid)> {
    let place = [32, 64, 128].iter().filter(|&&width| shape.head_dim > width).count();
    let tile = &tiles[place];
    let packed = S::choose(tile.f32 as usize, tile.bf16 as usize) as u32;
    let (owned, warps, shared) = (packed & 0xff, packed >> 8 & 0xff, (packed >> 16) * 16);
    let blocks = shape.tokens.div_ceil(owned as usize).saturating_mul(heads);
    Ok((tile.kernel, Grid { blocks: [grid(op, blocks)?, 1, 1], threads: 32 * warps, shared }))
}

/// As many blocks as a grid may have.
fn grid(op: &'static str, blocks: usize) -> Result<u32> {
    let most = i32::MAX as usize;
    match blocks <= most {
        true => size(op, "tokens * heads", blocks),
        false => Err(Error::argument(op, "tokens * heads", "at most 2^31 tiles", blocks)),
    }
}

/// `delta` for each head and the start of the segment for each token, in the backward pass.
pub(super) fn workspace<S: CudaStorage>(_: &Cuda<S>, shape: Shape) -> usize {
    shape.tokens.saturating_mul(shape.heads.saturating_add(1))
}

fn params<S: CudaStorage>(
    op: &'static str,
    cuda: &Cuda<S>,
    shape: Shape,
    segments: Segments<'_, Cuda<S>>,
    addresses: &[*const c_void],
) -> Result<EmoAttentionShape> {
    if shape.head_dim > WIDEST {
        return Err(Error::argument(op, "head_dim", format_args!("at most {WIDEST}"), shape.head_dim));
    }
    // Kernels add the sizes of tiles to tokens.
    if shape.tokens > i32::MAX as usize {
        return Err(Error::argument(op, "tokens", "below 2^31", shape.tokens));
    }
    size(op, "elements of a row", shape.row())?;
    Ok(EmoAttentionShape {
        offsets: cuda.read(segments.offsets)?,
        of_token: cuda.read(segments.of_token)?,
        tokens: size(op, "tokens", shape.tokens)?,
        segments: size(op, "segments", segments.count())?,
        heads: size(op, "heads", shape.heads)?,
        kv_heads: size(op, "kv_heads", shape.kv_heads)?,
        head_dim: size(op, "head_dim", shape.head_dim)?,
        scale: (1.0 / (shape.head_dim as f64).sqrt()) as f32,
        wide: wide(addresses, size_of::<S>(), &[shape.head_dim]),
        status: cuda.status.pointer(),
    })
}

pub(super) fn forward<S: CudaStorage>(cuda: &Cuda<S>, args: Forward<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "attention_forward";
    args.check(workspace(cuda, args.shape))?;
    let (qkv, out) = (cuda.read(args.qkv)?.cast(), cuda.write(&args.out)?.cast());
    let params = EmoAttentionForward {
        shape: params(OP, cuda, args.shape, args.segments, &[qkv, out])?,
        qkv,
        out,
        lse: cuda.write(&args.lse)?,
    };
    let (kernel, grid) = choose::<S>(OP, &FORWARD, args.shape, args.shape.heads)?;
    // SAFETY: `check` has compared every length with the shape, whose sizes bound every row and column that the kernel
    // touches; segments only narrow the keys of a token, and are checked before they are used.
    unsafe { cuda.launch(kernel, grid, &params) }
}

pub(super) fn backward<S: CudaStorage>(cuda: &Cuda<S>, args: Backward<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "attention_backward";
    args.check(workspace(cuda, args.shape))?;
    let Shape { tokens, heads, kv_heads, .. } = args.shape;
    let (qkv, dqkv) = (cuda.read(args.qkv)?.cast(), cuda.write(&args.dqkv)?.cast());
    let (out, dout) = (cuda.read(args.out)?.cast(), cuda.read(args.dout)?.cast());
    let delta = cuda.write(&args.workspace)?;
    let params = EmoAttentionBackward {
        shape: params(OP, cuda, args.shape, args.segments, &[qkv, dqkv, out, dout])?,
        qkv,
        out,
        lse: cuda.read(args.lse)?,
        dout,
        dqkv,
        delta,
        starts: delta.wrapping_add(tokens * heads).cast(),
    };
    let rows = (EMO_ATTENTION_DELTA_THREADS / EMO_ATTENTION_DELTA_LANES) as usize;
    let delta_blocks = grid(OP, (tokens * heads).div_ceil(rows))?;
    let (dq, dq_grid) = choose::<S>(OP, &DQ, args.shape, heads)?;
    let (dkv, dkv_grid) = choose::<S>(OP, &DKV, args.shape, kv_heads)?;
    // SAFETY: `check` has compared every length with the shape, and the workspace with a word for each head and one more
    // for each token; the sizes bound every row and column that the kernels touch. The first kernel writes `delta` and
    // `starts`, each start at most its token, before the others read them.
    unsafe {
        cuda.launch(
            kernels::ATTENTION_DELTA,
            Grid::line(delta_blocks, EMO_ATTENTION_DELTA_THREADS),
            &params,
        )?;
        cuda.launch(dq, dq_grid, &params)?;
        cuda.launch(dkv, dkv_grid, &params)
    }
}

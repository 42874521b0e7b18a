//! Sequence smoothing: kernels/smoothing.cu.

use crate::Result;
use crate::ops::smoothing::{Backward, Forward, InFront, Shape};

use super::buffer::CudaView;
use super::context::SCRATCH;
use super::launch::{Grid, rows, size};
use super::module::kernels;
use super::params::{
    EMO_SMOOTHING_CHANNELS, EMO_SMOOTHING_PARTS, EMO_SMOOTHING_THREADS, EMO_SMOOTHING_TOKENS, EmoSmoothing,
};
use super::status::Site;
use super::sum_rows::{Sum, sum_rows};
use super::{Cuda, CudaStorage};

/// Kernels compare the segments of tokens and follow none.
pub(super) const SITES: &[Site] = &[];

/// The struct with its sizes; pointers are null.
fn sized(op: &'static str, shape: Shape) -> Result<EmoSmoothing> {
    Ok(EmoSmoothing {
        tokens: rows(op, "tokens", shape.tokens)?,
        channels: rows(op, "channels", shape.channels)?,
        width: size(op, "width", shape.width)?,
        ahead: size(op, "ahead", shape.ahead)?,
        depthwise: u32::from(shape.depthwise),
        renormalise: u32::from(shape.renormalise),
        ..EmoSmoothing::default()
    })
}

/// Smoothing of `logits` by a kernel that goes on from there. Everything is `check`ed before.
pub(super) fn in_front<'a, S: CudaStorage>(
    cuda: &Cuda<S>,
    op: &'static str,
    smoothing: &InFront<'a, Cuda<S>>,
    logits: CudaView<'a, f32>,
) -> Result<EmoSmoothing> {
    Ok(EmoSmoothing {
        x: cuda.read(logits)?,
        taps: cuda.read(smoothing.taps)?,
        of_token: cuda.read(smoothing.segments.of_token)?,
        y: cuda.write(&smoothing.smoothed)?,
        ..sized(op, smoothing.shape)?
    })
}

/// A tile of tokens times a tile of channels a block.
fn grid(tokens: u32, channels: u32) -> Grid {
    let blocks = [tokens, channels.div_ceil(EMO_SMOOTHING_CHANNELS), 1];
    Grid { blocks, threads: EMO_SMOOTHING_THREADS, shared: 0 }
}

pub(super) fn forward<S: CudaStorage>(cuda: &Cuda<S>, args: Forward<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    let params = EmoSmoothing {
        x: cuda.read(args.x)?,
        taps: cuda.read(args.taps)?,
        of_token: cuda.read(args.segments.of_token)?,
        y: cuda.write(&args.y)?,
        ..sized("smoothing_forward", args.shape)?
    };
    let grid = grid(params.tokens.div_ceil(EMO_SMOOTHING_TOKENS), params.channels);
    // SAFETY: `check` has compared every length with the shape, inside which the kernel stays.
    unsafe { cuda.launch(kernels::SMOOTHING_FORWARD, grid, &params) }
}

pub(super) fn backward<S: CudaStorage>(cuda: &Cuda<S>, args: Backward<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "smoothing_backward";
    args.check()?;
    let sizes = sized(OP, args.shape)?;
    let taps = args.shape.channels * args.shape.width;
    // As many blocks along the tokens as leave partial sums that fit.
    let fit = (SCRATCH / size_of::<f64>() / taps.max(1)).clamp(1, EMO_SMOOTHING_PARTS as usize);
    let tiles = sizes.tokens.div_ceil(EMO_SMOOTHING_TOKENS);
    let tiles_per_block = tiles.div_ceil(size(OP, "parts", fit)?).max(1);
    let grid = grid(tiles.div_ceil(tiles_per_block), sizes.channels);
    let [parts, columns, _] = grid.blocks;
    let (sum_rows_count, sum_columns) = match args.shape.depthwise {
        true => (parts, size(OP, "taps", taps)?),
        false => (parts * columns, sizes.width),
    };
    let mut scratch = cuda.scratch();
    let partial = match args.dtaps {
        Some(_) => scratch.pointer(sum_rows_count as usize * sum_columns as usize)?,
        None => std::ptr::null_mut(),
    };
    let params = EmoSmoothing {
        x: cuda.read(args.x)?,
        taps: cuda.read(args.taps)?,
        of_token: cuda.read(args.segments.of_token)?,
        dy: cuda.read(args.dy)?,
        dx: cuda.write(&args.dx)?,
        partial,
        tiles: tiles_per_block,
        ..sizes
    };
    // SAFETY: `check` has compared every length with the shape, inside which the kernel stays, and the scratch memory,
    // which is ours until the guard is dropped, holds the partial sums of each block.
    unsafe { cuda.launch(kernels::SMOOTHING_BACKWARD, grid, &params)? };
    let Some(dtaps) = &args.dtaps else { return Ok(()) };
    let sum = Sum { partial, rows: sum_rows_count, columns: sum_columns, scale: 1.0 };
    // SAFETY: the kernel before has written every partial sum, and `dtaps` has a place for each tap.
    unsafe { sum_rows(cuda, sum, cuda.write(dtaps)?, std::ptr::null_mut()) }
}

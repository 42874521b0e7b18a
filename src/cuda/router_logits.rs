//! The router's linear layer: kernels/router_logits.cu.

use crate::Result;
use crate::ops::router_logits::{Backward, Forward, Shape};

use super::launch::{Grid, rows};
use super::module::kernels;
use super::params::{
    EMO_LOGITS_COLUMNS, EMO_LOGITS_EXPERTS, EMO_LOGITS_GROUP, EMO_LOGITS_ROWS, EMO_LOGITS_THREADS,
    EMO_LOGITS_TOKENS, EMO_LOGITS_WEIGHT_GROUPS, EmoRouterLogits,
};
use super::{Cuda, CudaStorage};

/// The struct with its sizes; pointers are null.
fn sized(op: &'static str, shape: Shape) -> Result<EmoRouterLogits> {
    Ok(EmoRouterLogits {
        x: std::ptr::null(),
        w: std::ptr::null(),
        logits: std::ptr::null_mut(),
        dlogits: std::ptr::null(),
        dx: std::ptr::null_mut(),
        dw: std::ptr::null_mut(),
        tokens: rows(op, "tokens", shape.tokens)?,
        width: rows(op, "width", shape.width)?,
        experts: rows(op, "experts", shape.experts)?,
    })
}

pub(super) fn forward<S: CudaStorage>(cuda: &Cuda<S>, args: Forward<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    let params = EmoRouterLogits {
        x: cuda.read(args.x)?.cast(),
        w: cuda.read(args.w)?,
        logits: cuda.write(&args.logits)?,
        ..sized("router_logits_forward", args.shape)?
    };
    let tiles = [params.tokens.div_ceil(EMO_LOGITS_TOKENS), params.experts.div_ceil(EMO_LOGITS_EXPERTS), 1];
    let grid = Grid { blocks: tiles, threads: EMO_LOGITS_THREADS, shared: 0 };
    // SAFETY: `check` has compared every length with the shape, inside which the kernel stays.
    unsafe { cuda.launch(kernels::ROUTER_LOGITS_FORWARD, grid, &params) }
}

pub(super) fn backward<S: CudaStorage>(cuda: &Cuda<S>, args: Backward<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    let params = EmoRouterLogits {
        x: cuda.read(args.x)?.cast(),
        w: cuda.read(args.w)?,
        dlogits: cuda.read(args.dlogits)?,
        dx: cuda.write(&args.dx)?.cast(),
        dw: cuda.write(&args.dw)?,
        ..sized("router_logits_backward", args.shape)?
    };
    let columns = params.width.div_ceil(EMO_LOGITS_COLUMNS);
    let input = [params.tokens.div_ceil(EMO_LOGITS_ROWS), columns, 1];
    let weight = [columns, params.experts.div_ceil(EMO_LOGITS_ROWS), 1];
    let weight_threads = EMO_LOGITS_GROUP * EMO_LOGITS_WEIGHT_GROUPS;
    // SAFETY: `check` has compared every length with the shape, inside which the kernels stay.
    unsafe {
        let grid = Grid { blocks: input, threads: EMO_LOGITS_GROUP, shared: 0 };
        cuda.launch(kernels::ROUTER_LOGITS_DX, grid, &params)?;
        let grid = Grid { blocks: weight, threads: weight_threads, shared: 0 };
        cuda.launch(kernels::ROUTER_LOGITS_DW, grid, &params)
    }
}

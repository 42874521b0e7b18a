//! The fused router: kernels/router_forward.cu and kernels/router_backward.cu.

use crate::ops::router::{Backward, Forward, KeepMask, Normalise, RouterConfig, Score, SharedWeight};
use crate::ops::smoothing::Router as Smoothed;
use crate::{Error, Result};

use super::buffer::CudaView;
use super::launch::{Grid, rows, size};
use super::memory;
use super::module::{Kernel, kernels};
use super::params::{
    EMO_ROUTER_MAX_EXPERTS, EMO_ROUTER_MAX_TOP_K, EMO_ROUTER_PARTS, EMO_ROUTER_THREADS, EMO_ROUTER_TOKENS,
    EMO_ROUTER_WARPS, EMO_SITE_ROUTER_BACKWARD_SEGMENT, EMO_SITE_ROUTER_INDICES, EMO_SITE_ROUTER_SEGMENT,
    EmoRouterBackward, EmoRouterForward, EmoRouterInputs, EmoSmoothing,
};
use super::status::Site;
use super::sum_rows::{Sum, sum_rows};
use super::{Cuda, CudaStorage, smoothing};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[
    Site { site: EMO_SITE_ROUTER_SEGMENT, op: "router_forward", arg: "segments.of_token" },
    Site { site: EMO_SITE_ROUTER_BACKWARD_SEGMENT, op: "router_backward", arg: "segments.of_token" },
    Site { site: EMO_SITE_ROUTER_INDICES, op: "router_backward", arg: "indices" },
];

/// Blocks of the forward pass, which walk over the tokens: enough for the greatest cards, few enough that counting in
/// shared memory pays.
const BLOCKS: u32 = 1024;

/// The kernel with the fewest registers that hold the routed experts.
fn smallest(routed: usize, kernels: [Kernel; 6]) -> Kernel {
    let place = [32, 64, 128, 256, 512].iter().filter(|&&experts| routed > experts).count();
    kernels[place]
}

/// What both passes read. Everything is `check`ed before.
fn inputs<'a, S: CudaStorage>(
    cuda: &Cuda<S>,
    op: &'static str,
    segment_site: u32,
    config: &RouterConfig,
    tokens: usize,
    logits: CudaView<'a, f32>,
    bias: Option<CudaView<'a, f32>>,
    keep: KeepMask<'a, Cuda<S>>,
) -> Result<EmoRouterInputs> {
    let most = |arg, value: usize, most: u32| match value <= most as usize {
        true => Ok(()),
        false => Err(Error::argument(op, arg, format!("at most {most} on a CUDA device"), value)),
    };
    most("routed experts", config.routed(), EMO_ROUTER_MAX_EXPERTS)?;
    most("top_k", config.top_k, EMO_ROUTER_MAX_TOP_K)?;
    let (keep, of_token, segments) = match keep {
        KeepMask::All => (std::ptr::null(), std::ptr::null(), 0),
        KeepMask::PerToken(keep) => (cuda.read(keep)?, std::ptr::null(), 0),
        KeepMask::PerSegment(keep, segments) => {
            let count = size(op, "segments", segments.count())?;
            (cuda.read(keep)?, cuda.read(segments.of_token)?, count)
        }
    };
    Ok(EmoRouterInputs {
        logits: cuda.read(logits)?,
        bias: cuda.read_optional(bias)?,
        keep,
        of_token,
        segments,
        segment_site,
        tokens: rows(op, "tokens", tokens)?,
        experts: size(op, "experts", config.experts)?,
        routed: size(op, "experts", config.routed())?,
        top_k: size(op, "top_k", config.top_k)?,
        sigmoid: u32::from(config.score == Score::Sigmoid),
        shared_softmax: u32::from(config.shared_weight == SharedWeight::Softmax),
        temperature: config.temperature,
        norm_power: match config.normalise {
            Normalise::None => 0.0,
            Normalise::Lp(power) => power,
        },
    })
}

pub(super) fn forward<S: CudaStorage>(cuda: &Cuda<S>, args: Forward<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    route(cuda, EmoSmoothing::default(), args)
}

pub(super) fn smoothed<S: CudaStorage>(cuda: &Cuda<S>, args: Smoothed<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    let smoothing = smoothing::in_front(cuda, "smoothed_router", &args.smoothing, args.router.logits)?;
    route(cuda, smoothing, args.router)
}

/// Routes the logits, or what the smoothing writes where there is one.
fn route<S: CudaStorage>(cuda: &Cuda<S>, smoothing: EmoSmoothing, args: Forward<'_, Cuda<S>>) -> Result<()> {
    let Forward { config, tokens, logits, bias, selection_bias, keep, .. } = args;
    let mut inputs =
        inputs(cuda, "router_forward", EMO_SITE_ROUTER_SEGMENT, config, tokens, logits, bias, keep)?;
    if !smoothing.x.is_null() {
        inputs.logits = smoothing.y;
    }
    let mut always_active = [0; EMO_ROUTER_MAX_TOP_K as usize];
    always_active[..config.always_active.len()].copy_from_slice(&config.always_active);
    let params = EmoRouterForward {
        inputs,
        smoothing,
        selection_bias: cuda.read_optional(selection_bias)?,
        probs: cuda.write(&args.probs)?,
        weights: cuda.write(&args.weights)?,
        indices: cuda.write(&args.indices)?,
        counts: cuda.write(&args.counts)?,
        lse: cuda.write(&args.lse)?,
        always: size("router_forward", "always_active", config.always_active.len())?,
        always_active,
        status: cuda.status.pointer(),
    };
    memory::zero(cuda, args.counts)?;
    let kernel = smallest(
        config.routed(),
        [
            kernels::ROUTER_FORWARD_32,
            kernels::ROUTER_FORWARD_64,
            kernels::ROUTER_FORWARD_128,
            kernels::ROUTER_FORWARD_256,
            kernels::ROUTER_FORWARD_512,
            kernels::ROUTER_FORWARD_1024,
        ],
    );
    let grid = Grid::line(params.inputs.tokens.div_ceil(EMO_ROUTER_TOKENS).min(BLOCKS), EMO_ROUTER_THREADS);
    // SAFETY: `check` has compared every length with tokens and configuration, and those of a smoothing with its shape, which
    // is that of the logits; experts and slots fit the kernel. A segment is compared with the mask's rows before it is followed, and slots name experts that the kernel chose itself.
    unsafe { cuda.launch(kernel, grid, &params) }
}

pub(super) fn backward<S: CudaStorage>(cuda: &Cuda<S>, args: Backward<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "router_backward";
    args.check()?;
    let Backward { config, tokens, logits, bias, keep, .. } = args;
    let inputs = inputs(cuda, OP, EMO_SITE_ROUTER_BACKWARD_SEGMENT, config, tokens, logits, bias, keep)?;
    size(OP, "tokens * top_k", tokens * config.top_k)?;
    let per_block =
        inputs.tokens.div_ceil(EMO_ROUTER_PARTS).next_multiple_of(EMO_ROUTER_WARPS).max(EMO_ROUTER_WARPS);
    let blocks = inputs.tokens.div_ceil(per_block);
    let mut scratch = cuda.scratch();
    let partial = match args.dbias {
        Some(_) => scratch.pointer(blocks as usize * config.experts)?,
        None => std::ptr::null_mut(),
    };
    let params = EmoRouterBackward {
        inputs,
        probs: cuda.read(args.probs)?,
        weights: cuda.read(args.weights)?,
        indices: cuda.read(args.indices)?,
        lse: cuda.read(args.lse)?,
        dweights: cuda.read(args.dweights)?,
        dprobs: cuda.read_optional(args.dprobs)?,
        z_coefficient: args.z_coefficient,
        dlogits: cuda.write(&args.dlogits)?,
        partial,
        tokens_per_block: per_block,
        status: cuda.status.pointer(),
    };
    let kernel = smallest(
        config.routed(),
        [
            kernels::ROUTER_BACKWARD_32,
            kernels::ROUTER_BACKWARD_64,
            kernels::ROUTER_BACKWARD_128,
            kernels::ROUTER_BACKWARD_256,
            kernels::ROUTER_BACKWARD_512,
            kernels::ROUTER_BACKWARD_1024,
        ],
    );
    // SAFETY: `check` has compared every length with tokens and configuration, whose experts and slots fit the kernel;
    // segments and slots are compared with their bounds before they are followed, and the scratch memory, which is ours
    // until the guard is dropped, holds a row of experts for each block.
    unsafe { cuda.launch(kernel, Grid::line(blocks, EMO_ROUTER_THREADS), &params)? };
    let Some(dbias) = &args.dbias else { return Ok(()) };
    let sum = Sum { partial, rows: blocks, columns: params.inputs.experts, scale: 1.0 };
    // SAFETY: the kernel before has written every partial row, and `dbias` has a place for each expert.
    unsafe { sum_rows(cuda, sum, cuda.write(dbias)?, std::ptr::null_mut()) }
}

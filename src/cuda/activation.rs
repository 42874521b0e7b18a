//! Activations and clamping: kernels/activation.cu.

use std::ffi::c_void;

use crate::ops::activation::{Activation, Backward, Clamp, ClampBackward, Forward, Shape};
use crate::{Error, Result};

use super::buffer::{CudaView, CudaViewMut};
use super::launch::{Grid, size, wide};
use super::module::{Kernel, kernels};
use super::params::{
    EMO_ACTIVATION_GELU, EMO_ACTIVATION_GELU_TANH, EMO_ACTIVATION_RELU, EMO_ACTIVATION_RELU_SQUARED,
    EMO_ACTIVATION_SILU, EMO_ACTIVATION_THREADS, EMO_GATE_CONCATENATED, EmoActivationRows, EmoClamp,
};
use super::{Cuda, CudaStorage};
use crate::backend::Len;

/// The kernels' name of an activation.
pub(super) fn code(activation: Activation) -> u32 {
    match activation {
        Activation::Silu => EMO_ACTIVATION_SILU,
        Activation::Gelu => EMO_ACTIVATION_GELU,
        Activation::GeluTanh => EMO_ACTIVATION_GELU_TANH,
        Activation::Relu => EMO_ACTIVATION_RELU,
        Activation::ReluSquared => EMO_ACTIVATION_RELU_SQUARED,
    }
}

/// Rows that [`launch_rows`] activates; `dout` for the gradient.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub shape: Shape,
    pub activation: Activation,
    /// An `EMO_GATE_*`.
    pub layout: u32,
    pub pre: *const c_void,
    pub dout: *const c_void,
    pub out: *mut c_void,
}

/// Activates rows, or takes the gradient where `rows.dout` is not null.
///
/// # Safety
/// As for [`Cuda::launch`], with the lengths that `rows.shape` asks for.
pub(super) unsafe fn launch_rows<S: CudaStorage>(cuda: &Cuda<S>, op: &'static str, rows: Rows) -> Result<()> {
    let Rows { shape, activation, layout, pre, dout, out } = rows;
    let wide = wide(&[pre, dout, out.cast_const()], size_of::<S>(), &[shape.width]);
    let run = if wide != 0 { 16 / size_of::<S>() } else { 1 };
    let params = EmoActivationRows {
        pre,
        dout,
        out,
        runs: size(op, "rows * width", shape.rows * shape.width / run)?,
        width: size(op, "width", shape.width)?,
        gated: u32::from(shape.gated),
        layout,
        activation: code(activation),
        wide,
    };
    let kernel = if dout.is_null() { kernels::ACTIVATION_FORWARD } else { kernels::ACTIVATION_BACKWARD };
    let grid = Grid::line(params.runs.div_ceil(EMO_ACTIVATION_THREADS), EMO_ACTIVATION_THREADS);
    // SAFETY: the caller's promise; a thread stays inside the run it owns.
    unsafe { cuda.launch(kernel, grid, &params) }
}

pub(super) fn forward<S: CudaStorage>(cuda: &Cuda<S>, args: Forward<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    let rows = Rows {
        shape: args.shape,
        activation: args.activation,
        layout: EMO_GATE_CONCATENATED,
        pre: cuda.read(args.pre)?.cast(),
        dout: std::ptr::null(),
        out: cuda.write(&args.out)?.cast(),
    };
    // SAFETY: `check` has compared every length with the shape.
    unsafe { launch_rows(cuda, "activation_forward", rows) }
}

pub(super) fn backward<S: CudaStorage>(cuda: &Cuda<S>, args: Backward<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    if args.shape.rows == 0 {
        return Ok(());
    }
    let rows = Rows {
        shape: args.shape,
        activation: args.activation,
        layout: EMO_GATE_CONCATENATED,
        pre: cuda.read(args.pre)?.cast(),
        dout: cuda.read(args.dout)?.cast(),
        out: cuda.write(&args.dpre)?.cast(),
    };
    // SAFETY: `check` has compared every length with the shape.
    unsafe { launch_rows(cuda, "activation_backward", rows) }
}

pub(super) fn clamp_forward<S: CudaStorage>(cuda: &Cuda<S>, args: Clamp<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    launch_clamp(cuda, "clamp_forward", kernels::CLAMP_FORWARD, args.limit, args.x, &args.y)
}

pub(super) fn clamp_backward<S: CudaStorage>(cuda: &Cuda<S>, args: ClampBackward<'_, Cuda<S>>) -> Result<()> {
    args.check()?;
    launch_clamp(cuda, "clamp_backward", kernels::CLAMP_BACKWARD, args.limit, args.x, &args.dy)
}

/// `x` and `y` are equally long.
fn launch_clamp<S: CudaStorage>(
    cuda: &Cuda<S>,
    op: &'static str,
    kernel: Kernel,
    limit: f64,
    x: CudaView<'_, S>,
    y: &CudaViewMut<'_, S>,
) -> Result<()> {
    let len = x.len();
    let (x, y) = (cuda.read(x)?.cast(), cuda.write(y)?.cast());
    let wide = wide(&[x, y], 1, &[]);
    let run = if wide != 0 { 16 / size_of::<S>() } else { 1 };
    let blocks = i32::try_from(len.div_ceil(run).div_ceil(EMO_ACTIVATION_THREADS as usize))
        .map_err(|_| Error::argument(op, "x", "fewer than 2^39 elements", len))?;
    let params = EmoClamp { x, y, len: len as u64, limit: limit as f32, wide };
    let grid = Grid::line(blocks.unsigned_abs(), EMO_ACTIVATION_THREADS);
    // SAFETY: `check` has compared the lengths; the kernel compares each place with `len`.
    unsafe { cuda.launch(kernel, grid, &params) }
}

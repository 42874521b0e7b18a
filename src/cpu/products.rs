//! The ops that are matrix products, as the backend's argument structs state them. The kernels check lengths again, since
//! their inner loops trust them; what is checked here is what the structs promise beyond.

use crate::ops::{experts as expert_ops, grouped_gemm as grouped_ops, linear as linear_ops};
use crate::{Result, host};

use super::gemm::Machine;
use super::grouped_gemm::Gather;
use super::simd::Storage;
use super::{Cpu, experts, grouped_gemm, linear};

impl<T: Storage> Cpu<T> {
    fn machine(&self) -> Machine<'_> {
        Machine { threads: &self.threads, isa: self.isa }
    }
}

/// `len()`, unless the extents are so large that no buffer could hold their product: then more than can be allocated.
fn bounded(extents: &[usize], len: impl FnOnce() -> usize) -> usize {
    let product = extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent.max(1)));
    if product.is_some_and(|product| product <= isize::MAX as usize / 64) { len() } else { usize::MAX }
}

pub(super) fn linear_workspace<T: Storage>(cpu: &Cpu<T>, shape: linear_ops::Shape) -> usize {
    let linear_ops::Shape { inputs, outputs, .. } = shape;
    bounded(&[inputs, outputs, cpu.threads.len()], || {
        linear::workspace_len::<T>(outputs, inputs, cpu.threads.len())
    })
}

fn linear_shape(shape: linear_ops::Shape) -> linear::Shape {
    linear::Shape { rows: shape.rows, n: shape.outputs, k: shape.inputs }
}

pub(super) fn linear_forward<T: Storage>(cpu: &Cpu<T>, args: linear_ops::Forward<'_, Cpu<T>>) -> Result<()> {
    args.check(linear_workspace(cpu, args.shape))?;
    linear::forward(
        cpu.machine(),
        linear_shape(args.shape),
        args.x,
        args.w,
        args.bias,
        args.y,
        args.workspace,
    )
}

pub(super) fn linear_dgrad<T: Storage>(cpu: &Cpu<T>, args: linear_ops::Dgrad<'_, Cpu<T>>) -> Result<()> {
    args.check(linear_workspace(cpu, args.shape))?;
    let shape = linear_shape(args.shape);
    linear::dgrad(cpu.machine(), shape, args.dy, args.w, args.dx, args.accumulate, args.workspace)
}

pub(super) fn linear_wgrad<T: Storage>(cpu: &Cpu<T>, args: linear_ops::Wgrad<'_, Cpu<T>>) -> Result<()> {
    args.check(linear_workspace(cpu, args.shape))?;
    let shape = linear_shape(args.shape);
    linear::wgrad(cpu.machine(), shape, args.dy, args.x, args.dw, args.dbias, args.workspace)
}

pub(super) fn grouped_workspace<T: Storage>(cpu: &Cpu<T>, shape: grouped_ops::Shape) -> usize {
    let grouped_ops::Shape { groups, inputs, outputs, .. } = shape;
    let threads = cpu.threads.len();
    bounded(&[groups, inputs, outputs, threads], || {
        grouped_gemm::workspace_len::<T>(groups, outputs, inputs, threads)
    })
}

fn grouped_shape<'a>(
    op: &'static str,
    shape: grouped_ops::Shape,
    offsets: &'a [u32],
) -> Result<grouped_gemm::Shape<'a>> {
    host::offsets(op, "offsets", offsets, shape.rows)?;
    Ok(grouped_gemm::Shape { offsets, n: shape.outputs, k: shape.inputs })
}

/// The rows of a gathered operand that the index names exist.
fn check_gather<T>(op: &'static str, arg: &'static str, gather: Gather<'_, T>, width: usize) -> Result<()> {
    match (gather.index, gather.data.len().checked_div(width)) {
        (Some(index), Some(rows)) => host::below(op, arg, index, rows),
        _ => Ok(()),
    }
}

pub(super) fn grouped_forward<T: Storage>(
    cpu: &Cpu<T>,
    args: grouped_ops::Forward<'_, Cpu<T>>,
) -> Result<()> {
    const OP: &str = "grouped_gemm_forward";
    args.check(grouped_workspace(cpu, args.shape))?;
    let x = Gather { data: args.x, index: args.gather };
    check_gather(OP, "gather", x, args.shape.inputs)?;
    let shape = grouped_shape(OP, args.shape, args.offsets)?;
    grouped_gemm::forward(cpu.machine(), shape, x, args.w, args.y, args.workspace)
}

pub(super) fn grouped_dgrad<T: Storage>(cpu: &Cpu<T>, args: grouped_ops::Dgrad<'_, Cpu<T>>) -> Result<()> {
    const OP: &str = "grouped_gemm_dgrad";
    args.check(grouped_workspace(cpu, args.shape))?;
    let dy = Gather { data: args.dy, index: args.gather };
    check_gather(OP, "gather", dy, args.shape.outputs)?;
    let shape = grouped_shape(OP, args.shape, args.offsets)?;
    grouped_gemm::dgrad(cpu.machine(), shape, dy, args.w, args.dx, false, args.workspace)
}

pub(super) fn grouped_wgrad<T: Storage>(cpu: &Cpu<T>, args: grouped_ops::Wgrad<'_, Cpu<T>>) -> Result<()> {
    const OP: &str = "grouped_gemm_wgrad";
    args.check(grouped_workspace(cpu, args.shape))?;
    let x = Gather { data: args.x, index: args.x_gather };
    let dy = Gather { data: args.dy, index: args.dy_gather };
    check_gather(OP, "x_gather", x, args.shape.inputs)?;
    check_gather(OP, "dy_gather", dy, args.shape.outputs)?;
    let shape = grouped_shape(OP, args.shape, args.offsets)?;
    grouped_gemm::wgrad(cpu.machine(), shape, dy, x, args.dw, args.workspace)
}

fn expert_shape(shape: expert_ops::Shape) -> experts::Shape {
    let expert_ops::Shape { experts, width, hidden, gated, activation, .. } = shape;
    experts::Shape { experts, width, hidden, activation, gated }
}

pub(super) fn experts_workspace<T: Storage>(cpu: &Cpu<T>, shape: expert_ops::Shape) -> usize {
    let expert_ops::Shape { tokens, top_k, experts, width, hidden, .. } = shape;
    let threads = cpu.threads.len();
    let products = || {
        let shape = expert_shape(shape);
        shape
            .forward_workspace_len::<T>(threads)
            .max(shape.backward_workspace_len::<T>(tokens * top_k, threads))
    };
    bounded(&[tokens, top_k, hidden, threads], || bounded(&[experts, width, hidden, threads], products))
}

pub(super) fn experts_forward<T: Storage>(cpu: &Cpu<T>, args: expert_ops::Forward<'_, Cpu<T>>) -> Result<()> {
    const OP: &str = "experts_forward";
    args.check(experts_workspace(cpu, args.shape))?;
    host::offsets(OP, "offsets", args.offsets, args.shape.rows())?;
    host::below(OP, "token", args.token, args.shape.tokens)?;
    let rows = experts::Rows { offsets: args.offsets, token: Some(args.token) };
    let shape = expert_shape(args.shape);
    experts::forward(
        cpu.machine(),
        shape,
        rows,
        args.x,
        args.w_in,
        args.w_out,
        args.pre,
        args.rows,
        args.workspace,
    )
}

pub(super) fn experts_backward<T: Storage>(
    cpu: &Cpu<T>,
    args: expert_ops::Backward<'_, Cpu<T>>,
) -> Result<()> {
    const OP: &str = "experts_backward";
    args.check(experts_workspace(cpu, args.shape))?;
    host::offsets(OP, "offsets", args.offsets, args.shape.rows())?;
    host::below(OP, "token", args.token, args.shape.tokens)?;
    // Each row writes its slot's gradient, so that slots must differ; these gradients hold the marks of the check first.
    host::permutation(OP, "order", args.order, bytemuck::cast_slice_mut::<f32, u32>(args.dweights), 1)?;
    experts::backward(
        cpu.machine(),
        expert_shape(args.shape),
        experts::Rows { offsets: args.offsets, token: Some(args.token) },
        Some(experts::Slots { order: args.order, weights: args.weights, dweights: args.dweights }),
        experts::BackwardInputs {
            x: args.x,
            pre: args.pre,
            w_in: args.w_in,
            w_out: args.w_out,
            dy: args.dy,
            row_grad: args.row_grad,
        },
        experts::BackwardOutputs { dx: args.dx_rows, dw_in: args.dw_in, dw_out: args.dw_out },
        args.workspace,
    )
}

//! Permutation, grouped GEMM and the expert MLPs.

use super::{OracleIn, add_to, put, store, wide};
use crate::backend::Real;
use crate::ops::{all_to_all, experts, grouped_gemm, permutation};
use crate::{Result, host, reference};

fn mlp(shape: experts::Shape) -> reference::experts::Mlp {
    reference::experts::Mlp {
        activation: shape.activation,
        gated: shape.gated,
        width: shape.width,
        hidden: shape.hidden,
    }
}

fn gathered<S: Real>(x: &[S], index: Option<&[u32]>, width: usize) -> Vec<f64> {
    match index {
        None => wide(x),
        Some(index) => index.iter().flat_map(|&row| wide(&x[row as usize * width..][..width])).collect(),
    }
}

fn gather_fits<S>(op: &'static str, index: Option<&[u32]>, x: &[S], width: usize) -> Result<()> {
    index.map_or(Ok(()), |index| host::below(op, "gather", index, x.len().checked_div(width).unwrap_or(0)))
}

/// A plan rebuilt from the parts that an op was given.
fn rebuilt(order: &[u32], token: &[u32], offsets: &[u32], inverse: &[u32]) -> reference::permutation::Plan {
    reference::permutation::Plan {
        order: order.to_vec(),
        token: token.to_vec(),
        offsets: offsets.to_vec(),
        inverse: inverse.to_vec(),
    }
}

/// Order and token of each row from the rows of the slots.
fn plan_of_inverse(op: &'static str, inverse: &[u32], top_k: usize) -> Result<reference::permutation::Plan> {
    let mut order = vec![0; inverse.len()];
    host::permutation(op, "inverse", inverse, &mut order, 1u32)?;
    for (slot, &row) in inverse.iter().enumerate() {
        order[row as usize] = slot as u32;
    }
    let token: Vec<u32> = order.iter().map(|&slot| slot / top_k as u32).collect();
    Ok(rebuilt(&order, &token, &[], inverse))
}

pub(super) fn plan<S: Real>(args: permutation::Plan<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    host::below("plan", "indices", args.indices, args.shape.experts)?;
    let plan = reference::permutation::plan(args.indices, args.shape.top_k, args.shape.experts);
    args.order.copy_from_slice(&plan.order);
    args.token.copy_from_slice(&plan.token);
    args.offsets.copy_from_slice(&plan.offsets);
    args.inverse.copy_from_slice(&plan.inverse);
    Ok(())
}

pub(super) fn dispatch_forward<S: Real>(args: permutation::Dispatch<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    host::below("dispatch_forward", "token", args.token, args.shape.tokens)?;
    let plan = rebuilt(&[], args.token, &[], &[]);
    put(args.rows, &reference::permutation::dispatch(&plan, &wide(args.x), args.width));
    Ok(())
}

pub(super) fn dispatch_backward<S: Real>(args: permutation::DispatchBackward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let plan = plan_of_inverse("dispatch_backward", args.inverse, args.shape.top_k)?;
    let dx =
        reference::permutation::dispatch_backward(&plan, &wide(args.drows), args.width, args.shape.tokens);
    put(args.dx, &dx);
    Ok(())
}

pub(super) fn combine_forward<S: Real>(args: permutation::Combine<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let plan = plan_of_inverse("combine_forward", args.inverse, args.shape.top_k)?;
    let y =
        reference::permutation::combine(&plan, &wide(args.rows), args.weights, args.width, args.shape.tokens);
    store(args.y, &y, args.accumulate);
    Ok(())
}

pub(super) fn combine_backward<S: Real>(args: permutation::CombineBackward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let plan = plan_of_inverse("combine_backward", args.inverse, args.shape.top_k)?;
    let (drows, dweights) = reference::permutation::combine_backward(
        &plan,
        &wide(args.rows),
        args.weights,
        &wide(args.dy),
        args.width,
    );
    put(args.drows, &drows);
    args.dweights.copy_from_slice(&dweights);
    Ok(())
}

pub(super) fn send_plan<S: Real>(args: all_to_all::SendPlan<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    host::offsets("send_plan", "offsets", args.offsets, args.rows)?;
    let (counts, send) = reference::all_to_all::send(args.shape, args.offsets);
    args.counts.copy_from_slice(&counts);
    args.send.copy_from_slice(&send);
    Ok(())
}

pub(super) fn receive_plan<S: Real>(args: all_to_all::ReceivePlan<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    host::room("receive_plan", "counts", args.counts, args.gather.len())?;
    let plan = reference::all_to_all::receive(args.shape.ranks, args.counts);
    args.receive.copy_from_slice(&plan.receive);
    args.offsets.copy_from_slice(&plan.offsets);
    args.gather[..plan.gather.len()].copy_from_slice(&plan.gather);
    args.inverse[..plan.inverse.len()].copy_from_slice(&plan.inverse);
    Ok(())
}

pub(super) fn grouped_gemm_forward<S: Real>(args: grouped_gemm::Forward<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    let grouped_gemm::Shape { rows, inputs, outputs, .. } = args.shape;
    host::offsets("grouped_gemm_forward", "offsets", args.offsets, rows)?;
    gather_fits("grouped_gemm_forward", args.gather, args.x, inputs)?;
    let y = reference::grouped_gemm::forward(
        &wide(args.x),
        args.gather,
        args.offsets,
        &wide(args.w),
        inputs,
        outputs,
    );
    put(args.y, &y);
    Ok(())
}

pub(super) fn grouped_gemm_dgrad<S: Real>(args: grouped_gemm::Dgrad<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    let grouped_gemm::Shape { rows, inputs, outputs, .. } = args.shape;
    host::offsets("grouped_gemm_dgrad", "offsets", args.offsets, rows)?;
    gather_fits("grouped_gemm_dgrad", args.gather, args.dy, outputs)?;
    let dy = gathered(args.dy, args.gather, outputs);
    put(args.dx, &reference::grouped_gemm::dgrad(&dy, args.offsets, &wide(args.w), inputs, outputs));
    Ok(())
}

pub(super) fn grouped_gemm_wgrad<S: Real>(args: grouped_gemm::Wgrad<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    let grouped_gemm::Shape { rows, inputs, outputs, .. } = args.shape;
    host::offsets("grouped_gemm_wgrad", "offsets", args.offsets, rows)?;
    gather_fits("grouped_gemm_wgrad", args.x_gather, args.x, inputs)?;
    gather_fits("grouped_gemm_wgrad", args.dy_gather, args.dy, outputs)?;
    let dy = gathered(args.dy, args.dy_gather, outputs);
    let dw = reference::grouped_gemm::wgrad(&wide(args.x), args.x_gather, &dy, args.offsets, inputs, outputs);
    add_to(args.dw, &dw);
    Ok(())
}

pub(super) fn experts_forward<S: Real>(args: experts::Forward<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    host::offsets("experts_forward", "offsets", args.offsets, args.shape.rows())?;
    host::below("experts_forward", "token", args.token, args.shape.tokens)?;
    let plan = rebuilt(&[], args.token, args.offsets, &[]);
    let out = reference::experts::forward(
        &mlp(args.shape),
        &wide(args.x),
        &plan,
        &wide(args.w_in),
        &wide(args.w_out),
    );
    put(args.pre, &out.pre);
    put(args.rows, &out.rows);
    Ok(())
}

pub(super) fn experts_backward<S: Real>(args: experts::Backward<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    host::offsets("experts_backward", "offsets", args.offsets, args.shape.rows())?;
    host::below("experts_backward", "token", args.token, args.shape.tokens)?;
    host::permutation("experts_backward", "order", args.order, &mut vec![0u32; args.order.len()], 1)?;
    let plan = rebuilt(args.order, args.token, args.offsets, &[]);
    let gradients = reference::experts::backward(
        &mlp(args.shape),
        &wide(args.x),
        &plan,
        &wide(args.w_in),
        &wide(args.w_out),
        &wide(args.pre),
        args.weights,
        &wide(args.dy),
        args.row_grad.map(wide).as_deref(),
    );
    put(args.dx_rows, &gradients.dx_rows);
    args.dweights.copy_from_slice(&gradients.dweights);
    add_to(args.dw_in, &gradients.dw_in);
    add_to(args.dw_out, &gradients.dw_out);
    Ok(())
}

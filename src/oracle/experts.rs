//! Permutation, grouped GEMM and the expert MLPs.

use super::{Oracle, add_to, store};
use crate::ops::{experts, grouped_gemm, permutation};
use crate::{Result, host, reference};

fn mlp(shape: experts::Shape) -> reference::experts::Mlp {
    reference::experts::Mlp {
        activation: shape.activation,
        gated: shape.gated,
        width: shape.width,
        hidden: shape.hidden,
    }
}

fn gathered(x: &[f64], index: Option<&[u32]>, width: usize) -> Vec<f64> {
    match index {
        None => x.to_vec(),
        Some(index) => {
            index.iter().flat_map(|&row| x[row as usize * width..][..width].iter().copied()).collect()
        }
    }
}

fn gather_fits(op: &'static str, index: Option<&[u32]>, x: &[f64], width: usize) -> Result<()> {
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

pub(super) fn plan(args: permutation::Plan<'_, Oracle>) -> Result<()> {
    args.check()?;
    host::below("plan", "indices", args.indices, args.shape.experts)?;
    let plan = reference::permutation::plan(args.indices, args.shape.top_k, args.shape.experts);
    args.order.copy_from_slice(&plan.order);
    args.token.copy_from_slice(&plan.token);
    args.offsets.copy_from_slice(&plan.offsets);
    args.inverse.copy_from_slice(&plan.inverse);
    Ok(())
}

pub(super) fn dispatch_forward(args: permutation::Dispatch<'_, Oracle>) -> Result<()> {
    args.check()?;
    host::below("dispatch_forward", "token", args.token, args.shape.tokens)?;
    let plan = rebuilt(&[], args.token, &[], &[]);
    args.rows.copy_from_slice(&reference::permutation::dispatch(&plan, args.x, args.width));
    Ok(())
}

pub(super) fn dispatch_backward(args: permutation::DispatchBackward<'_, Oracle>) -> Result<()> {
    args.check()?;
    let plan = plan_of_inverse("dispatch_backward", args.inverse, args.shape.top_k)?;
    let dx = reference::permutation::dispatch_backward(&plan, args.drows, args.width, args.shape.tokens);
    args.dx.copy_from_slice(&dx);
    Ok(())
}

pub(super) fn combine_forward(args: permutation::Combine<'_, Oracle>) -> Result<()> {
    args.check()?;
    let plan = plan_of_inverse("combine_forward", args.inverse, args.shape.top_k)?;
    let y = reference::permutation::combine(&plan, args.rows, args.weights, args.width, args.shape.tokens);
    store(args.y, &y, args.accumulate);
    Ok(())
}

pub(super) fn combine_backward(args: permutation::CombineBackward<'_, Oracle>) -> Result<()> {
    args.check()?;
    let plan = plan_of_inverse("combine_backward", args.inverse, args.shape.top_k)?;
    let (drows, dweights) =
        reference::permutation::combine_backward(&plan, args.rows, args.weights, args.dy, args.width);
    args.drows.copy_from_slice(&drows);
    args.dweights.copy_from_slice(&dweights);
    Ok(())
}

pub(super) fn grouped_gemm_forward(args: grouped_gemm::Forward<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    let grouped_gemm::Shape { rows, inputs, outputs, .. } = args.shape;
    host::offsets("grouped_gemm_forward", "offsets", args.offsets, rows)?;
    gather_fits("grouped_gemm_forward", args.gather, args.x, inputs)?;
    let y = reference::grouped_gemm::forward(args.x, args.gather, args.offsets, args.w, inputs, outputs);
    args.y.copy_from_slice(&y);
    Ok(())
}

pub(super) fn grouped_gemm_dgrad(args: grouped_gemm::Dgrad<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    let grouped_gemm::Shape { rows, inputs, outputs, .. } = args.shape;
    host::offsets("grouped_gemm_dgrad", "offsets", args.offsets, rows)?;
    gather_fits("grouped_gemm_dgrad", args.gather, args.dy, outputs)?;
    let dy = gathered(args.dy, args.gather, outputs);
    args.dx.copy_from_slice(&reference::grouped_gemm::dgrad(&dy, args.offsets, args.w, inputs, outputs));
    Ok(())
}

pub(super) fn grouped_gemm_wgrad(args: grouped_gemm::Wgrad<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    let grouped_gemm::Shape { rows, inputs, outputs, .. } = args.shape;
    host::offsets("grouped_gemm_wgrad", "offsets", args.offsets, rows)?;
    gather_fits("grouped_gemm_wgrad", args.x_gather, args.x, inputs)?;
    gather_fits("grouped_gemm_wgrad", args.dy_gather, args.dy, outputs)?;
    let dy = gathered(args.dy, args.dy_gather, outputs);
    let dw = reference::grouped_gemm::wgrad(args.x, args.x_gather, &dy, args.offsets, inputs, outputs);
    add_to(args.dw, &dw);
    Ok(())
}

pub(super) fn experts_forward(args: experts::Forward<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    host::offsets("experts_forward", "offsets", args.offsets, args.shape.rows())?;
    host::below("experts_forward", "token", args.token, args.shape.tokens)?;
    let plan = rebuilt(&[], args.token, args.offsets, &[]);
    let out = reference::experts::forward(&mlp(args.shape), args.x, &plan, args.w_in, args.w_out);
    args.pre.copy_from_slice(&out.pre);
    args.rows.copy_from_slice(&out.rows);
    Ok(())
}

pub(super) fn experts_backward(args: experts::Backward<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    host::offsets("experts_backward", "offsets", args.offsets, args.shape.rows())?;
    host::below("experts_backward", "token", args.token, args.shape.tokens)?;
    host::permutation("experts_backward", "order", args.order, &mut vec![0u32; args.order.len()], 1)?;
    let plan = rebuilt(args.order, args.token, args.offsets, &[]);
    let gradients = reference::experts::backward(
        &mlp(args.shape),
        args.x,
        &plan,
        args.w_in,
        args.w_out,
        args.pre,
        args.weights,
        args.dy,
        args.row_grad,
    );
    args.dx_rows.copy_from_slice(&gradients.dx_rows);
    args.dweights.copy_from_slice(&gradients.dweights);
    add_to(args.dw_in, &gradients.dw_in);
    add_to(args.dw_out, &gradients.dw_out);
    Ok(())
}

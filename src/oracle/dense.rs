//! The dense transformer's ops and the optimiser.

use super::{Oracle, add_to, store};
use crate::ops::{activation, adamw, attention, cross_entropy, embedding, linear, rms_norm, rope};
use crate::{Error, Result, host, reference};

/// The vectors of a strided norm op, one after the other.
fn packed(x: &[f64], shape: rms_norm::Shape) -> Vec<f64> {
    (0..shape.rows)
        .flat_map(|row| x[row * shape.stride..][..shape.groups * shape.width].iter().copied())
        .collect()
}

fn unpacked(target: &mut [f64], source: &[f64], shape: rms_norm::Shape, accumulate: bool) {
    let width = shape.groups * shape.width;
    for row in 0..shape.rows {
        store(&mut target[row * shape.stride..][..width], &source[row * width..][..width], accumulate);
    }
}

fn dense_mlp(shape: activation::Shape, activation: activation::Activation) -> reference::experts::Mlp {
    reference::experts::Mlp { activation, gated: shape.gated, width: 0, hidden: shape.width }
}

fn attention_shape(shape: attention::Shape) -> reference::attention::Shape {
    let scale = 1.0 / (shape.head_dim as f64).sqrt();
    reference::attention::Shape {
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.head_dim,
        scale,
    }
}

pub(super) fn embedding_forward(args: embedding::Forward<'_, Oracle>) -> Result<()> {
    args.check()?;
    host::below("embedding_forward", "ids", args.ids, args.shape.vocabulary)?;
    args.y.copy_from_slice(&reference::embedding::forward(args.ids, args.table, args.shape.width));
    Ok(())
}

pub(super) fn embedding_backward(args: embedding::Backward<'_, Oracle>) -> Result<()> {
    args.check()?;
    let embedding::Shape { vocabulary, width, .. } = args.shape;
    host::below("embedding_backward", "ids", args.ids, vocabulary)?;
    add_to(args.dtable, &reference::embedding::backward(args.ids, args.dy, vocabulary, width, args.padding));
    Ok(())
}

pub(super) fn rms_norm_forward(args: rms_norm::Forward<'_, Oracle>) -> Result<()> {
    args.check()?;
    let x = packed(args.x, args.shape);
    for (rstd, x) in args.rstd.iter_mut().zip(x.chunks_exact(args.shape.width.max(1))) {
        *rstd = reference::rms_norm::inverse_rms(x, args.eps);
    }
    unpacked(args.y, &reference::rms_norm::forward(&x, args.weight, args.eps), args.shape, false);
    Ok(())
}

pub(super) fn rms_norm_backward(args: rms_norm::Backward<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    let (x, dy) = (packed(args.x, args.shape), packed(args.dy, args.shape));
    let (dx, dweight) = reference::rms_norm::backward_with(&x, args.weight, args.rstd, &dy);
    unpacked(args.dx, &dx, args.shape, args.accumulate);
    add_to(args.dweight, &dweight);
    Ok(())
}

pub(super) fn rope(args: rope::Apply<'_, Oracle>) -> Result<()> {
    args.check()?;
    let rope::Shape { rows, heads, head_dim, stride, positions } = args.shape;
    host::below("rope", "position", args.position, positions)?;
    let tables = reference::rope::Tables { cos: args.cos, sin: args.sin, head_dim };
    let rotate = if args.inverse { reference::rope::backward } else { reference::rope::forward };
    for row in 0..rows {
        let x = &mut args.x[row * stride..][..heads * head_dim];
        let y = rotate(x, &args.position[row..=row], x.len(), heads, tables);
        x.copy_from_slice(&y);
    }
    Ok(())
}

pub(super) fn attention_forward(args: attention::Forward<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    host::segments("attention_forward", &args.segments, args.shape.tokens)?;
    let (out, lse) =
        reference::attention::forward(&attention_shape(args.shape), args.qkv, args.segments.offsets);
    args.out.copy_from_slice(&out);
    args.lse.copy_from_slice(&lse);
    Ok(())
}

pub(super) fn attention_backward(args: attention::Backward<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    host::segments("attention_backward", &args.segments, args.shape.tokens)?;
    let shape = attention_shape(args.shape);
    args.dqkv.copy_from_slice(&reference::attention::backward(
        &shape,
        args.qkv,
        args.segments.offsets,
        args.dout,
    ));
    Ok(())
}

pub(super) fn linear_forward(args: linear::Forward<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    let linear::Shape { inputs, outputs, .. } = args.shape;
    args.y.copy_from_slice(&reference::linear::forward(args.x, args.w, args.bias, inputs, outputs));
    Ok(())
}

pub(super) fn linear_dgrad(args: linear::Dgrad<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    let linear::Shape { inputs, outputs, .. } = args.shape;
    store(args.dx, &reference::linear::dgrad(args.dy, args.w, inputs, outputs), args.accumulate);
    Ok(())
}

pub(super) fn linear_wgrad(args: linear::Wgrad<'_, Oracle>) -> Result<()> {
    args.check(0)?;
    let linear::Shape { inputs, outputs, .. } = args.shape;
    add_to(args.dw, &reference::linear::wgrad(args.x, args.dy, inputs, outputs));
    if let Some(dbias) = args.dbias {
        add_to(dbias, &reference::linear::bgrad(args.dy, outputs));
    }
    Ok(())
}

pub(super) fn activation_forward(args: activation::Forward<'_, Oracle>) -> Result<()> {
    args.check()?;
    let mlp = dense_mlp(args.shape, args.activation);
    args.out.copy_from_slice(&reference::experts::hidden(&mlp, args.pre));
    Ok(())
}

pub(super) fn activation_backward(args: activation::Backward<'_, Oracle>) -> Result<()> {
    args.check()?;
    let mlp = dense_mlp(args.shape, args.activation);
    args.dpre.copy_from_slice(&reference::experts::hidden_backward(&mlp, args.pre, args.dout));
    Ok(())
}

pub(super) fn clamp_forward(args: activation::Clamp<'_, Oracle>) -> Result<()> {
    args.check()?;
    for (y, x) in args.y.iter_mut().zip(args.x) {
        *y = reference::activation::clamp(*x, args.limit);
    }
    Ok(())
}

pub(super) fn clamp_backward(args: activation::ClampBackward<'_, Oracle>) -> Result<()> {
    args.check()?;
    for (dy, x) in args.dy.iter_mut().zip(args.x) {
        *dy *= reference::activation::clamp_derivative(*x, args.limit);
    }
    Ok(())
}

pub(super) fn cross_entropy(args: cross_entropy::ForwardBackward<'_, Oracle>) -> Result<()> {
    args.check()?;
    let v = args.vocabulary;
    for (row, target) in args.targets.iter().enumerate() {
        if *target != cross_entropy::IGNORE && usize::try_from(*target).map_or(true, |target| target >= v) {
            let expected = format!("below {v} or {}", cross_entropy::IGNORE);
            return Err(Error::argument(
                "cross_entropy",
                "targets",
                expected,
                format!("{target} in row {row}"),
            ));
        }
        let logits = &mut args.logits[row * v..][..v];
        let out = reference::cross_entropy::forward_backward(logits, &[*target], v, args.z_weight, 1.0);
        args.loss[row] = out.loss_sum;
        args.lse[row] = out.lse[0];
        if args.backward {
            logits.iter_mut().zip(&out.dlogits).for_each(|(logit, gradient)| *logit = args.scale * gradient);
        }
    }
    Ok(())
}

pub(super) fn adamw(args: adamw::Step<'_, Oracle>) -> Result<()> {
    args.check()?;
    let adamw::Hyper { lr, beta1, beta2, eps, weight_decay, step, grad_scale } = args.hyper;
    let hyper = reference::adamw::Hyper { lr, beta1, beta2, eps, weight_decay };
    let grads: Vec<f64> = args.grads.iter().map(|grad| grad * grad_scale).collect();
    reference::adamw::step(&hyper, step, args.params, &grads, args.m, args.v);
    if let Some(copy) = args.copy {
        copy.copy_from_slice(args.params);
    }
    Ok(())
}

pub(super) fn sum_of_squares(args: adamw::SumOfSquares<'_, Oracle>) -> Result<()> {
    args.check()?;
    args.out[0] = reference::global_norm::sum_of_squares(args.x);
    Ok(())
}

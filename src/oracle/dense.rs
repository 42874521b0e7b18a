//! The dense transformer's ops and the optimiser.

use super::{OracleIn, add_to, put, store, wide};
use crate::backend::Real;
use crate::ops::{activation, adamw, attention, cross_entropy, embedding, linear, rms_norm, rope};
use crate::{Error, Result, host, reference};

/// The vectors of a strided norm op, one after the other.
fn packed<S: Real>(x: &[S], shape: rms_norm::Shape) -> Vec<f64> {
    (0..shape.rows)
        .flat_map(|row| x[row * shape.stride..][..shape.groups * shape.width].iter().map(|x| x.to_f64()))
        .collect()
}

fn unpacked<S: Real>(target: &mut [S], source: &[f64], shape: rms_norm::Shape, accumulate: bool) {
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

pub(super) fn embedding_forward<S: Real>(args: embedding::Forward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    host::below("embedding_forward", "ids", args.ids, args.shape.vocabulary)?;
    put(args.y, &reference::embedding::forward(args.ids, &wide(args.table), args.shape.width));
    Ok(())
}

pub(super) fn embedding_backward<S: Real>(args: embedding::Backward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let embedding::Shape { vocabulary, width, .. } = args.shape;
    host::below("embedding_backward", "ids", args.ids, vocabulary)?;
    add_to(
        args.dtable,
        &reference::embedding::backward(args.ids, &wide(args.dy), vocabulary, width, args.padding),
    );
    Ok(())
}

pub(super) fn rms_norm_forward<S: Real>(args: rms_norm::Forward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let x = packed(args.x, args.shape);
    for (rstd, x) in args.rstd.iter_mut().zip(x.chunks_exact(args.shape.width.max(1))) {
        *rstd = reference::rms_norm::inverse_rms(x, args.eps);
    }
    unpacked(args.y, &reference::rms_norm::forward(&x, args.weight, args.eps), args.shape, false);
    Ok(())
}

pub(super) fn rms_norm_backward<S: Real>(args: rms_norm::Backward<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    let (x, dy) = (packed(args.x, args.shape), packed(args.dy, args.shape));
    let (dx, dweight) = reference::rms_norm::backward_with(&x, args.weight, args.rstd, &dy);
    unpacked(args.dx, &dx, args.shape, args.accumulate);
    add_to(args.dweight, &dweight);
    Ok(())
}

pub(super) fn rope<S: Real>(args: rope::Apply<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let rope::Shape { rows, heads, head_dim, stride, positions } = args.shape;
    host::below("rope", "position", args.position, positions)?;
    let tables = reference::rope::Tables { cos: args.cos, sin: args.sin, head_dim };
    let rotate = if args.inverse { reference::rope::backward } else { reference::rope::forward };
    for row in 0..rows {
        let x = &mut args.x[row * stride..][..heads * head_dim];
        let y = rotate(&wide(x), &args.position[row..=row], x.len(), heads, tables);
        put(x, &y);
    }
    Ok(())
}

pub(super) fn attention_forward<S: Real>(args: attention::Forward<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    host::segments("attention_forward", &args.segments, args.shape.tokens)?;
    let (out, lse) =
        reference::attention::forward(&attention_shape(args.shape), &wide(args.qkv), args.segments.offsets);
    put(args.out, &out);
    args.lse.copy_from_slice(&lse);
    Ok(())
}

pub(super) fn attention_cached<S: Real>(args: attention::Cached<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    host::cached_sequences("attention_cached", &args)?;
    let (row, kept) = (args.shape.row(), args.shape.cache_row());
    let (mut out, qkv) = (Vec::new(), wide(args.qkv));
    for (segment, ends) in args.segments.offsets.windows(2).enumerate() {
        let tokens = ends[0] as usize..ends[1] as usize;
        let start = args.slots[segment] as usize * args.shape.longest * kept;
        let now = start + args.past[segment] as usize * kept;
        let new = &qkv[tokens.start * row..tokens.end * row];
        out.extend(reference::attention::cached(
            &attention_shape(args.shape),
            new,
            &wide(&args.cache[start..now]),
        ));
        for (token, target) in tokens.zip(args.cache[now..].chunks_exact_mut(kept)) {
            target.copy_from_slice(&args.qkv[(token + 1) * row - kept..(token + 1) * row]);
        }
    }
    put(args.out, &out);
    Ok(())
}

pub(super) fn attention_backward<S: Real>(args: attention::Backward<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    host::segments("attention_backward", &args.segments, args.shape.tokens)?;
    let shape = attention_shape(args.shape);
    let offsets = args.segments.offsets;
    put(args.dqkv, &reference::attention::backward(&shape, &wide(args.qkv), offsets, &wide(args.dout)));
    Ok(())
}

pub(super) fn linear_forward<S: Real>(args: linear::Forward<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    let linear::Shape { inputs, outputs, .. } = args.shape;
    put(args.y, &reference::linear::forward(&wide(args.x), &wide(args.w), args.bias, inputs, outputs));
    Ok(())
}

pub(super) fn linear_dgrad<S: Real>(args: linear::Dgrad<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    let linear::Shape { inputs, outputs, .. } = args.shape;
    store(
        args.dx,
        &reference::linear::dgrad(&wide(args.dy), &wide(args.w), inputs, outputs),
        args.accumulate,
    );
    Ok(())
}

pub(super) fn linear_wgrad<S: Real>(args: linear::Wgrad<'_, OracleIn<S>>) -> Result<()> {
    args.check(0)?;
    let linear::Shape { inputs, outputs, .. } = args.shape;
    add_to(args.dw, &reference::linear::wgrad(&wide(args.x), &wide(args.dy), inputs, outputs));
    if let Some(dbias) = args.dbias {
        add_to(dbias, &reference::linear::bgrad(&wide(args.dy), outputs));
    }
    Ok(())
}

pub(super) fn activation_forward<S: Real>(args: activation::Forward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let mlp = dense_mlp(args.shape, args.activation);
    put(args.out, &reference::experts::hidden(&mlp, &wide(args.pre)));
    Ok(())
}

pub(super) fn activation_backward<S: Real>(args: activation::Backward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let mlp = dense_mlp(args.shape, args.activation);
    put(args.dpre, &reference::experts::hidden_backward(&mlp, &wide(args.pre), &wide(args.dout)));
    Ok(())
}

pub(super) fn clamp_forward<S: Real>(args: activation::Clamp<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    for (y, x) in args.y.iter_mut().zip(args.x) {
        *y = S::from_f64(reference::activation::clamp(x.to_f64(), args.limit));
    }
    Ok(())
}

pub(super) fn clamp_backward<S: Real>(args: activation::ClampBackward<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    for (dy, x) in args.dy.iter_mut().zip(args.x) {
        *dy = S::from_f64(dy.to_f64() * reference::activation::clamp_derivative(x.to_f64(), args.limit));
    }
    Ok(())
}

pub(super) fn cross_entropy<S: Real>(args: cross_entropy::ForwardBackward<'_, OracleIn<S>>) -> Result<()> {
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
        let out =
            reference::cross_entropy::forward_backward(&wide(logits), &[*target], v, args.z_weight, 1.0);
        args.loss[row] = out.loss_sum;
        args.lse[row] = out.lse[0];
        if args.backward {
            let scaled = |gradient: &f64| S::from_f64(args.scale * gradient);
            logits.iter_mut().zip(&out.dlogits).for_each(|(logit, gradient)| *logit = scaled(gradient));
        }
    }
    Ok(())
}

pub(super) fn adamw<S: Real>(args: adamw::Step<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    let adamw::Hyper { lr, beta1, beta2, eps, weight_decay, step, grad_scale } = args.hyper;
    let hyper = reference::adamw::Hyper { lr, beta1, beta2, eps, weight_decay };
    let grads: Vec<f64> = args.grads.iter().map(|grad| grad * grad_scale).collect();
    reference::adamw::step(&hyper, step, args.params, &grads, args.m, args.v);
    if let Some(copy) = args.copy {
        put(copy, args.params);
    }
    Ok(())
}

pub(super) fn sum_of_squares<S: Real>(args: adamw::SumOfSquares<'_, OracleIn<S>>) -> Result<()> {
    args.check()?;
    args.out[0] = reference::global_norm::sum_of_squares(args.x);
    Ok(())
}

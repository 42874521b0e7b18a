//! The f64 reference as a backend: the same model code that trains on a fast backend runs here in plain f64, so that a
//! whole network, and not only an op, is compared with its specification and with finite differences.
//!
//! It is slow and single-threaded on purpose. Each method checks its arguments, calls the function of
//! [`crate::reference`] that defines the op, and stores what it returns.

use std::ops::Range;

use crate::backend::{Backend, Element, Len, View, ViewMut};
use crate::ops::segments::Segments;
use crate::ops::{
    activation, adamw, attention, cross_entropy, embedding, experts, grouped_gemm, linear, losses, norm,
    permutation, pool, rope, router, router_logits, smoothing,
};
use crate::{Error, Result, reference};

/// The specification as a backend; see the module's documentation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Oracle;

/// `range` lies inside `len` elements.
fn inside(op: &'static str, range: &Range<usize>, len: usize) -> Result<()> {
    if range.start <= range.end && range.end <= len {
        Ok(())
    } else {
        Err(Error::argument(op, "range", format!("inside 0..{len}"), format!("{range:?}")))
    }
}

/// Every index is below `bound`.
fn below(op: &'static str, arg: &'static str, indices: &[u32], bound: usize) -> Result<()> {
    match indices.iter().position(|&index| index as usize >= bound) {
        None => Ok(()),
        Some(position) => Err(Error::Index { op, arg, position, bound, found: indices[position] as usize }),
    }
}

/// `offsets` ascend from 0 to `end`.
fn ascending(op: &'static str, offsets: &[u32], end: usize) -> Result<()> {
    let fine = offsets.first() == Some(&0)
        && offsets.last().map(|&last| last as usize) == Some(end)
        && offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    if fine {
        Ok(())
    } else {
        Err(Error::argument(op, "offsets", format!("ascending from 0 to {end}"), format!("{offsets:?}")))
    }
}

fn segments(op: &'static str, segments: &Segments<'_, Oracle>, tokens: usize) -> Result<()> {
    ascending(op, segments.offsets, tokens)?;
    for (segment, range) in segments.offsets.windows(2).enumerate() {
        let members = &segments.of_token[range[0] as usize..range[1] as usize];
        if let Some(position) = members.iter().position(|&of| of as usize != segment) {
            let found = members[position];
            return Err(Error::argument(
                op,
                "segments.of_token",
                format!("{segment} inside segment {segment}"),
                found,
            ));
        }
    }
    Ok(())
}

fn add_to(target: &mut [f64], source: &[f64]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += source;
    }
}

fn store(target: &mut [f64], source: &[f64], accumulate: bool) {
    if accumulate { add_to(target, source) } else { target.copy_from_slice(source) }
}

/// The vectors of a strided norm op, one after the other.
fn packed(x: &[f64], shape: norm::Shape) -> Vec<f64> {
    (0..shape.rows)
        .flat_map(|row| x[row * shape.stride..][..shape.groups * shape.width].iter().copied())
        .collect()
}

fn unpacked(target: &mut [f64], source: &[f64], shape: norm::Shape, accumulate: bool) {
    let width = shape.groups * shape.width;
    for row in 0..shape.rows {
        store(&mut target[row * shape.stride..][..width], &source[row * width..][..width], accumulate);
    }
}

fn valid(mask: Option<&[u8]>) -> Option<Vec<bool>> {
    mask.map(|mask| mask.iter().map(|&flag| flag != 0).collect())
}

/// A keep mask as one flag a token and expert.
fn keep(
    op: &'static str,
    mask: router::KeepMask<'_, Oracle>,
    tokens: usize,
    routed: usize,
) -> Result<Option<Vec<bool>>> {
    Ok(match mask {
        router::KeepMask::All => None,
        router::KeepMask::PerToken(keep) => valid(Some(keep)),
        router::KeepMask::PerSegment(keep, of) => {
            segments(op, &of, tokens)?;
            let keep: Vec<bool> = keep.iter().map(|&flag| flag != 0).collect();
            Some(reference::pool::per_token(&keep, routed, of.offsets))
        }
    })
}

fn mlp(shape: experts::Shape) -> reference::experts::Mlp {
    reference::experts::Mlp {
        activation: shape.activation,
        gated: shape.gated,
        width: shape.width,
        hidden: shape.hidden,
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

fn filter(shape: smoothing::Shape, taps: &[f64]) -> reference::smoothing::Filter<'_> {
    reference::smoothing::Filter {
        taps,
        width: shape.width,
        ahead: shape.ahead,
        renormalise: shape.renormalise,
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
    index.map_or(Ok(()), |index| below(op, "gather", index, x.len().checked_div(width).unwrap_or(0)))
}

/// A plan rebuilt from the parts that an op was given.
fn plan(order: &[u32], token: &[u32], offsets: &[u32], inverse: &[u32]) -> reference::permutation::Plan {
    reference::permutation::Plan {
        order: order.to_vec(),
        token: token.to_vec(),
        offsets: offsets.to_vec(),
        inverse: inverse.to_vec(),
    }
}

/// Order and token of each row from the rows of the slots.
fn plan_of_inverse(op: &'static str, inverse: &[u32], top_k: usize) -> Result<reference::permutation::Plan> {
    below(op, "inverse", inverse, inverse.len())?;
    let mut order = vec![u32::MAX; inverse.len()];
    for (slot, &row) in inverse.iter().enumerate() {
        order[row as usize] = slot as u32;
    }
    below(op, "inverse", &order, inverse.len())?;
    let token: Vec<u32> = order.iter().map(|&slot| slot / top_k as u32).collect();
    Ok(plan(&order, &token, &[], inverse))
}

/// Host memory of the [`Oracle`].
#[derive(Debug, Clone)]
pub struct OracleBuffer<T>(Vec<T>);

impl<T> Len for OracleBuffer<T> {
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl Backend for Oracle {
    type Real = f64;
    type Buffer<T: Element> = OracleBuffer<T>;
    type View<'a, T: Element> = &'a [T];
    type ViewMut<'a, T: Element> = &'a mut [T];

    fn describe(&self) -> String {
        "oracle (f64 reference, 1 thread)".into()
    }

    fn alloc<T: Element>(&self, len: usize) -> Result<OracleBuffer<T>> {
        Ok(OracleBuffer(vec![T::zeroed(); len]))
    }

    fn view<'a, T: Element>(&self, buffer: &'a OracleBuffer<T>, range: Range<usize>) -> Result<&'a [T]> {
        inside("view", &range, buffer.0.len())?;
        Ok(&buffer.0[range])
    }

    fn view_mut<'a, T: Element>(
        &self,
        buffer: &'a mut OracleBuffer<T>,
        range: Range<usize>,
    ) -> Result<&'a mut [T]> {
        inside("view_mut", &range, buffer.0.len())?;
        Ok(&mut buffer.0[range])
    }

    fn disjoint_mut<'a, T: Element, const N: usize>(
        &self,
        buffer: &'a mut OracleBuffer<T>,
        ranges: [Range<usize>; N],
    ) -> Result<[&'a mut [T]; N]> {
        let found = format!("{ranges:?}");
        let expected = format!("disjoint ranges inside 0..{}", buffer.0.len());
        buffer
            .0
            .get_disjoint_mut(ranges)
            .map_err(|_| Error::argument("disjoint_mut", "ranges", expected, found))
    }

    fn upload<T: Element>(&self, source: &[T], target: &mut [T]) -> Result<()> {
        self.copy(source, target)
    }

    fn download<T: Element>(&self, source: &[T], target: &mut [T]) -> Result<()> {
        self.copy(source, target)
    }

    fn zero<T: Element>(&self, target: &mut [T]) -> Result<()> {
        target.fill(T::zeroed());
        Ok(())
    }

    fn copy<T: Element>(&self, source: &[T], target: &mut [T]) -> Result<()> {
        let (expected, found) = (source.len(), target.len());
        if expected != found {
            return Err(Error::Length { op: "copy", arg: "target", expected, found });
        }
        target.copy_from_slice(source);
        Ok(())
    }

    fn add(&self, x: View<'_, Self>, y: ViewMut<'_, Self>) -> Result<()> {
        if x.len() != y.len() {
            return Err(Error::Length { op: "add", arg: "y", expected: x.len(), found: y.len() });
        }
        add_to(y, x);
        Ok(())
    }

    fn embedding_forward(&self, args: embedding::Forward<'_, Self>) -> Result<()> {
        args.check()?;
        below("embedding_forward", "ids", args.ids, args.shape.vocabulary)?;
        args.y.copy_from_slice(&reference::embedding::forward(args.ids, args.table, args.shape.width));
        Ok(())
    }

    fn embedding_backward(&self, args: embedding::Backward<'_, Self>) -> Result<()> {
        args.check()?;
        let embedding::Shape { vocabulary, width, .. } = args.shape;
        below("embedding_backward", "ids", args.ids, vocabulary)?;
        add_to(
            args.dtable,
            &reference::embedding::backward(args.ids, args.dy, vocabulary, width, args.padding),
        );
        Ok(())
    }

    fn rms_norm_forward(&self, args: norm::Forward<'_, Self>) -> Result<()> {
        args.check()?;
        let x = packed(args.x, args.shape);
        for (rstd, x) in args.rstd.iter_mut().zip(x.chunks_exact(args.shape.width.max(1))) {
            *rstd = reference::rms_norm::inverse_rms(x, args.eps);
        }
        unpacked(args.y, &reference::rms_norm::forward(&x, args.weight, args.eps), args.shape, false);
        Ok(())
    }

    fn rms_norm_backward(&self, args: norm::Backward<'_, Self>) -> Result<()> {
        args.check(0)?;
        let (x, dy) = (packed(args.x, args.shape), packed(args.dy, args.shape));
        let (dx, dweight) = reference::rms_norm::backward_with(&x, args.weight, args.rstd, &dy);
        unpacked(args.dx, &dx, args.shape, args.accumulate);
        add_to(args.dweight, &dweight);
        Ok(())
    }

    fn rms_norm_workspace(&self, _: norm::Shape) -> usize {
        0
    }

    fn rope(&self, args: rope::Apply<'_, Self>) -> Result<()> {
        args.check()?;
        let rope::Shape { rows, heads, head_dim, stride, positions } = args.shape;
        below("rope", "position", args.position, positions)?;
        let tables = reference::rope::Tables { cos: args.cos, sin: args.sin, head_dim };
        let rotate = if args.inverse { reference::rope::backward } else { reference::rope::forward };
        for row in 0..rows {
            let x = &mut args.x[row * stride..][..heads * head_dim];
            let y = rotate(x, &args.position[row..=row], x.len(), heads, tables);
            x.copy_from_slice(&y);
        }
        Ok(())
    }

    fn attention_forward(&self, args: attention::Forward<'_, Self>) -> Result<()> {
        args.check(0)?;
        segments("attention_forward", &args.segments, args.shape.tokens)?;
        let (out, lse) =
            reference::attention::forward(&attention_shape(args.shape), args.qkv, args.segments.offsets);
        args.out.copy_from_slice(&out);
        args.lse.copy_from_slice(&lse);
        Ok(())
    }

    fn attention_backward(&self, args: attention::Backward<'_, Self>) -> Result<()> {
        args.check(0)?;
        segments("attention_backward", &args.segments, args.shape.tokens)?;
        let shape = attention_shape(args.shape);
        args.dqkv.copy_from_slice(&reference::attention::backward(
            &shape,
            args.qkv,
            args.segments.offsets,
            args.dout,
        ));
        Ok(())
    }

    fn attention_workspace(&self, _: attention::Shape) -> usize {
        0
    }

    fn linear_forward(&self, args: linear::Forward<'_, Self>) -> Result<()> {
        args.check(0)?;
        let linear::Shape { inputs, outputs, .. } = args.shape;
        args.y.copy_from_slice(&reference::linear::forward(args.x, args.w, args.bias, inputs, outputs));
        Ok(())
    }

    fn linear_dgrad(&self, args: linear::Dgrad<'_, Self>) -> Result<()> {
        args.check(0)?;
        let linear::Shape { inputs, outputs, .. } = args.shape;
        store(args.dx, &reference::linear::dgrad(args.dy, args.w, inputs, outputs), args.accumulate);
        Ok(())
    }

    fn linear_wgrad(&self, args: linear::Wgrad<'_, Self>) -> Result<()> {
        args.check(0)?;
        let linear::Shape { inputs, outputs, .. } = args.shape;
        add_to(args.dw, &reference::linear::wgrad(args.x, args.dy, inputs, outputs));
        if let Some(dbias) = args.dbias {
            add_to(dbias, &reference::linear::bgrad(args.dy, outputs));
        }
        Ok(())
    }

    fn linear_workspace(&self, _: linear::Shape) -> usize {
        0
    }

    fn activation_forward(&self, args: activation::Forward<'_, Self>) -> Result<()> {
        args.check()?;
        let mlp = dense_mlp(args.shape, args.activation);
        args.out.copy_from_slice(&reference::experts::hidden(&mlp, args.pre));
        Ok(())
    }

    fn activation_backward(&self, args: activation::Backward<'_, Self>) -> Result<()> {
        args.check()?;
        let mlp = dense_mlp(args.shape, args.activation);
        args.dpre.copy_from_slice(&reference::experts::hidden_backward(&mlp, args.pre, args.dout));
        Ok(())
    }

    fn clamp_forward(&self, args: activation::Clamp<'_, Self>) -> Result<()> {
        args.check()?;
        for (y, x) in args.y.iter_mut().zip(args.x) {
            *y = reference::activation::clamp(*x, args.limit);
        }
        Ok(())
    }

    fn clamp_backward(&self, args: activation::ClampBackward<'_, Self>) -> Result<()> {
        args.check()?;
        for (dy, x) in args.dy.iter_mut().zip(args.x) {
            *dy *= reference::activation::clamp_derivative(*x, args.limit);
        }
        Ok(())
    }

    fn cross_entropy(&self, args: cross_entropy::ForwardBackward<'_, Self>) -> Result<()> {
        args.check()?;
        let v = args.vocabulary;
        for (row, target) in args.targets.iter().enumerate() {
            if *target != cross_entropy::IGNORE && usize::try_from(*target).map_or(true, |target| target >= v)
            {
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
                logits
                    .iter_mut()
                    .zip(&out.dlogits)
                    .for_each(|(logit, gradient)| *logit = args.scale * gradient);
            }
        }
        Ok(())
    }

    fn router_logits_forward(&self, args: router_logits::Forward<'_, Self>) -> Result<()> {
        args.check()?;
        let router_logits::Shape { width, experts, .. } = args.shape;
        args.logits.copy_from_slice(&reference::router_logits::forward(args.x, args.w, width, experts));
        Ok(())
    }

    fn router_logits_backward(&self, args: router_logits::Backward<'_, Self>) -> Result<()> {
        args.check()?;
        let router_logits::Shape { width, experts, .. } = args.shape;
        let (dx, dw) = reference::router_logits::backward(args.x, args.w, args.dlogits, width, experts);
        add_to(args.dx, &dx);
        add_to(args.dw, &dw);
        Ok(())
    }

    fn smoothing_forward(&self, args: smoothing::Forward<'_, Self>) -> Result<()> {
        args.check()?;
        segments("smoothing_forward", &args.segments, args.shape.tokens)?;
        let filter = filter(args.shape, args.taps);
        let y = reference::smoothing::forward(&filter, args.x, args.shape.channels, args.segments.offsets);
        args.y.copy_from_slice(&y);
        Ok(())
    }

    fn smoothing_backward(&self, args: smoothing::Backward<'_, Self>) -> Result<()> {
        args.check()?;
        segments("smoothing_backward", &args.segments, args.shape.tokens)?;
        let filter = filter(args.shape, args.taps);
        let (dx, dtaps) = reference::smoothing::backward(
            &filter,
            args.x,
            args.dy,
            args.shape.channels,
            args.segments.offsets,
        );
        args.dx.copy_from_slice(&dx);
        if let Some(target) = args.dtaps {
            add_to(target, &dtaps);
        }
        Ok(())
    }

    fn pool_keep(&self, args: pool::Keep<'_, Self>) -> Result<()> {
        args.check()?;
        segments("pool_keep", &args.segments, args.tokens)?;
        let scores = reference::pool::scores(args.logits, args.experts, args.routed, args.segments.offsets);
        let keep = reference::pool::select(&scores, args.routed, args.sizes, args.forced);
        args.scores.copy_from_slice(&scores);
        args.keep.iter_mut().zip(keep).for_each(|(target, keep)| *target = u8::from(keep));
        Ok(())
    }

    fn router_forward(&self, args: router::Forward<'_, Self>) -> Result<()> {
        args.check()?;
        let keep = keep("router_forward", args.keep, args.tokens, args.config.routed())?;
        let out = reference::router::forward(
            args.config,
            args.logits,
            args.bias,
            args.selection_bias,
            keep.as_deref(),
        );
        args.probs.copy_from_slice(&out.probs);
        args.weights.copy_from_slice(&out.weights);
        args.indices.copy_from_slice(&out.indices);
        args.counts.iter_mut().zip(&out.counts).for_each(|(target, count)| *target = *count as u32);
        args.lse.copy_from_slice(&out.lse);
        Ok(())
    }

    fn router_backward(&self, args: router::Backward<'_, Self>) -> Result<()> {
        args.check()?;
        let config = args.config;
        below("router_backward", "indices", args.indices, config.experts)?;
        let keep = keep("router_backward", args.keep, args.tokens, config.routed())?;
        let out = reference::router::Output {
            probs: args.probs.to_vec(),
            weights: args.weights.to_vec(),
            indices: args.indices.to_vec(),
            counts: Vec::new(),
            lse: args.lse.to_vec(),
        };
        let none = vec![0.0; args.probs.len()];
        let dlse: Vec<f64> = args.lse.iter().map(|lse| 2.0 * args.z_coefficient * lse).collect();
        let gradients = reference::router::backward(
            config,
            args.logits,
            args.bias,
            keep.as_deref(),
            &out,
            args.dweights,
            args.dprobs.unwrap_or(&none),
            &dlse,
        );
        args.dlogits.copy_from_slice(&gradients.dlogits);
        if let Some(dbias) = args.dbias {
            add_to(dbias, &gradients.dbias);
        }
        Ok(())
    }

    fn load_balance(&self, args: losses::LoadBalance<'_, Self>) -> Result<()> {
        args.check()?;
        let mask = valid(args.valid);
        let tokens = mask.as_ref().map_or(args.tokens, |mask| mask.iter().filter(|&&flag| flag).count());
        let counts: Vec<u64> = args.counts.iter().map(|&count| count as u64).collect();
        let scale = args.coefficient * tokens as f64;
        let loss = reference::losses::load_balance(&counts, args.probs, scale, 1.0, mask.as_deref());
        args.loss[0] += loss.loss;
        add_to(args.dprobs, &loss.grad);
        Ok(())
    }

    fn mutual_information(&self, args: losses::MutualInformation<'_, Self>) -> Result<()> {
        args.check()?;
        let (token, marginal) = (args.token_weight, args.marginal_weight);
        let mask = valid(args.valid);
        let loss =
            reference::losses::mutual_information(args.probs, args.routed, token, marginal, mask.as_deref());
        args.loss[0] += loss.loss;
        add_to(args.dprobs, &loss.grad);
        Ok(())
    }

    fn sequence_consistency(&self, args: losses::SequenceConsistency<'_, Self>) -> Result<()> {
        args.check()?;
        segments("sequence_consistency", &args.segments, args.tokens)?;
        let loss =
            reference::losses::sequence_consistency(args.probs, args.routed, args.segments.offsets, None);
        weighted(args.coefficient, loss, args.dprobs, args.loss);
        Ok(())
    }

    fn domain_consistency(&self, args: losses::DomainConsistency<'_, Self>) -> Result<()> {
        args.check()?;
        segments("domain_consistency", &args.segments, args.tokens)?;
        below("domain_consistency", "domain", args.domain, args.domains)?;
        let offsets = args.segments.offsets;
        let loss = reference::losses::domain_consistency(args.probs, args.routed, offsets, args.domain, None);
        weighted(args.coefficient, loss, args.dprobs, args.loss);
        Ok(())
    }

    fn redundancy(&self, args: losses::Redundancy<'_, Self>) -> Result<()> {
        args.check()?;
        let losses::Redundancy { tokens, top_k, routed_k, width, .. } = args;
        below("redundancy", "inverse", args.inverse, tokens * top_k)?;
        let routed_slots = || (0..tokens * top_k).filter(|slot| slot % top_k < routed_k);
        let row = |slot: usize| args.inverse[slot] as usize * width;
        let rows: Vec<f64> =
            routed_slots().flat_map(|slot| args.rows[row(slot)..][..width].iter().copied()).collect();
        args.drows.fill(0.0);
        if rows.is_empty() {
            return Ok(());
        }
        let loss = reference::losses::redundancy(&rows, routed_k, width, None);
        for (slot, gradient) in routed_slots().zip(loss.grad.chunks_exact(width)) {
            let target = &mut args.drows[row(slot)..][..width];
            target
                .iter_mut()
                .zip(gradient)
                .for_each(|(target, gradient)| *target = args.coefficient * gradient);
        }
        args.loss[0] += args.coefficient * loss.loss;
        Ok(())
    }

    fn plan(&self, args: permutation::Plan<'_, Self>) -> Result<()> {
        args.check()?;
        below("plan", "indices", args.indices, args.shape.experts)?;
        let plan = reference::permutation::plan(args.indices, args.shape.top_k, args.shape.experts);
        args.order.copy_from_slice(&plan.order);
        args.token.copy_from_slice(&plan.token);
        args.offsets.copy_from_slice(&plan.offsets);
        args.inverse.copy_from_slice(&plan.inverse);
        Ok(())
    }

    fn dispatch_forward(&self, args: permutation::Dispatch<'_, Self>) -> Result<()> {
        args.check()?;
        below("dispatch_forward", "token", args.token, args.shape.tokens)?;
        let plan = plan(&[], args.token, &[], &[]);
        args.rows.copy_from_slice(&reference::permutation::dispatch(&plan, args.x, args.width));
        Ok(())
    }

    fn dispatch_backward(&self, args: permutation::DispatchBackward<'_, Self>) -> Result<()> {
        args.check()?;
        let plan = plan_of_inverse("dispatch_backward", args.inverse, args.shape.top_k)?;
        let dx = reference::permutation::dispatch_backward(&plan, args.drows, args.width, args.shape.tokens);
        args.dx.copy_from_slice(&dx);
        Ok(())
    }

    fn combine_forward(&self, args: permutation::Combine<'_, Self>) -> Result<()> {
        args.check()?;
        let plan = plan_of_inverse("combine_forward", args.inverse, args.shape.top_k)?;
        let y =
            reference::permutation::combine(&plan, args.rows, args.weights, args.width, args.shape.tokens);
        store(args.y, &y, args.accumulate);
        Ok(())
    }

    fn combine_backward(&self, args: permutation::CombineBackward<'_, Self>) -> Result<()> {
        args.check()?;
        let plan = plan_of_inverse("combine_backward", args.inverse, args.shape.top_k)?;
        let (drows, dweights) =
            reference::permutation::combine_backward(&plan, args.rows, args.weights, args.dy, args.width);
        args.drows.copy_from_slice(&drows);
        args.dweights.copy_from_slice(&dweights);
        Ok(())
    }

    fn grouped_gemm_forward(&self, args: grouped_gemm::Forward<'_, Self>) -> Result<()> {
        args.check(0)?;
        let grouped_gemm::Shape { rows, inputs, outputs, .. } = args.shape;
        ascending("grouped_gemm_forward", args.offsets, rows)?;
        gather_fits("grouped_gemm_forward", args.gather, args.x, inputs)?;
        let y = reference::grouped_gemm::forward(args.x, args.gather, args.offsets, args.w, inputs, outputs);
        args.y.copy_from_slice(&y);
        Ok(())
    }

    fn grouped_gemm_dgrad(&self, args: grouped_gemm::Dgrad<'_, Self>) -> Result<()> {
        args.check(0)?;
        let grouped_gemm::Shape { rows, inputs, outputs, .. } = args.shape;
        ascending("grouped_gemm_dgrad", args.offsets, rows)?;
        gather_fits("grouped_gemm_dgrad", args.gather, args.dy, outputs)?;
        let dy = gathered(args.dy, args.gather, outputs);
        args.dx.copy_from_slice(&reference::grouped_gemm::dgrad(&dy, args.offsets, args.w, inputs, outputs));
        Ok(())
    }

    fn grouped_gemm_wgrad(&self, args: grouped_gemm::Wgrad<'_, Self>) -> Result<()> {
        args.check(0)?;
        let grouped_gemm::Shape { rows, inputs, outputs, .. } = args.shape;
        ascending("grouped_gemm_wgrad", args.offsets, rows)?;
        gather_fits("grouped_gemm_wgrad", args.x_gather, args.x, inputs)?;
        gather_fits("grouped_gemm_wgrad", args.dy_gather, args.dy, outputs)?;
        let dy = gathered(args.dy, args.dy_gather, outputs);
        let dw = reference::grouped_gemm::wgrad(args.x, args.x_gather, &dy, args.offsets, inputs, outputs);
        add_to(args.dw, &dw);
        Ok(())
    }

    fn grouped_gemm_workspace(&self, _: grouped_gemm::Shape) -> usize {
        0
    }

    fn experts_forward(&self, args: experts::Forward<'_, Self>) -> Result<()> {
        args.check(0)?;
        ascending("experts_forward", args.offsets, args.shape.rows())?;
        below("experts_forward", "token", args.token, args.shape.tokens)?;
        let plan = plan(&[], args.token, args.offsets, &[]);
        let out = reference::experts::forward(&mlp(args.shape), args.x, &plan, args.w_in, args.w_out);
        args.pre.copy_from_slice(&out.pre);
        args.rows.copy_from_slice(&out.rows);
        Ok(())
    }

    fn experts_backward(&self, args: experts::Backward<'_, Self>) -> Result<()> {
        args.check(0)?;
        ascending("experts_backward", args.offsets, args.shape.rows())?;
        below("experts_backward", "token", args.token, args.shape.tokens)?;
        below("experts_backward", "order", args.order, args.shape.rows())?;
        let plan = plan(args.order, args.token, args.offsets, &[]);
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

    fn experts_workspace(&self, _: experts::Shape) -> usize {
        0
    }

    fn adamw(&self, args: adamw::Step<'_, Self>) -> Result<()> {
        args.check()?;
        let adamw::Hyper { lr, beta1, beta2, eps, weight_decay, step, grad_scale } = args.hyper;
        let hyper = reference::adamw::Hyper { lr, beta1, beta2, eps, weight_decay };
        let grads: Vec<f64> = args.grads.iter().map(|grad| grad * grad_scale).collect();
        reference::adamw::step(&hyper, step, args.params, &grads, args.m, args.v);
        Ok(())
    }

    fn sum_of_squares(&self, args: adamw::SumOfSquares<'_, Self>) -> Result<()> {
        args.check()?;
        args.out[0] = reference::global_norm::sum_of_squares(args.x);
        Ok(())
    }
}

fn weighted(coefficient: f64, loss: reference::losses::Loss, gradient: &mut [f64], total: &mut [f64]) {
    total[0] += coefficient * loss.loss;
    gradient.iter_mut().zip(&loss.grad).for_each(|(target, gradient)| *target += coefficient * gradient);
}

//! The f64 reference as a backend: the same model code that trains on a fast backend runs here in plain f64, so that a
//! whole network, and not only an op, is compared with its specification and with finite differences.
//!
//! It is slow and single-threaded on purpose. Each method checks its arguments, calls the function of
//! [`crate::reference`] that defines the op, and stores what it returns.

mod dense;
mod experts;
mod routing;

use std::marker::PhantomData;
use std::ops::Range;

use crate::backend::{Backend, Element, Len, Real, Stored, StoredMut};
use crate::ops::{
    activation, adamw, all_to_all, attention, cross_entropy, embedding, experts as expert_ops, grouped_gemm,
    linear, losses, permutation, pool, rms_norm, rope, router, router_logits, smoothing,
};
use crate::{Error, Result, host};

/// The specification as a backend; see the module's documentation. Arithmetic is f64; activations and matrices are
/// rounded to `S` where they are stored, which is all that a backend with this storage should add to the exact result
/// beyond the rounding of its own arithmetic.
#[derive(Debug, Clone, Copy, Default)]
pub struct OracleIn<S>(PhantomData<S>);

/// The specification in f64 throughout.
pub type Oracle = OracleIn<f64>;

/// The value of the type, as of a struct without fields.
#[allow(non_upper_case_globals)]
pub const Oracle: Oracle = OracleIn(PhantomData);

/// Host memory of the [`OracleIn`].
#[derive(Debug, Clone)]
pub struct OracleBuffer<T>(Vec<T>);

impl<T> Len for OracleBuffer<T> {
    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The values in f64.
fn wide<S: Real>(source: &[S]) -> Vec<f64> {
    source.iter().map(|value| value.to_f64()).collect()
}

/// `target = source`, rounded.
fn put<S: Real>(target: &mut [S], source: &[f64]) {
    assert_eq!(target.len(), source.len(), "the checks of the arguments let a wrong length pass");
    target.iter_mut().zip(source).for_each(|(target, &source)| *target = S::from_f64(source));
}

/// `target += source`, rounded once.
fn add_to<S: Real>(target: &mut [S], source: &[f64]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target = S::from_f64(target.to_f64() + source);
    }
}

/// `target += source` or `target = source`.
fn store<S: Real>(target: &mut [S], source: &[f64], accumulate: bool) {
    if accumulate { add_to(target, source) } else { put(target, source) }
}

impl<S: Real> Backend for OracleIn<S> {
    type Real = f64;
    type Storage = S;
    type Buffer<T: Element> = OracleBuffer<T>;
    type View<'a, T: Element> = &'a [T];
    type ViewMut<'a, T: Element> = &'a mut [T];

    fn describe(&self) -> String {
        "oracle (f64 reference, 1 thread)".into()
    }

    fn alloc<T: Element>(&self, len: usize) -> Result<OracleBuffer<T>> {
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|_| Error::Backend {
            backend: "oracle",
            message: format!("no memory for {len} elements of {} bytes", size_of::<T>()),
        })?;
        data.resize(len, T::zeroed());
        Ok(OracleBuffer(data))
    }

    fn view<'a, T: Element>(&self, buffer: &'a OracleBuffer<T>, range: Range<usize>) -> Result<&'a [T]> {
        host::view(&buffer.0, range)
    }

    fn view_mut<'a, T: Element>(
        &self,
        buffer: &'a mut OracleBuffer<T>,
        range: Range<usize>,
    ) -> Result<&'a mut [T]> {
        host::view_mut(&mut buffer.0, range)
    }

    fn disjoint_mut<'a, T: Element, const N: usize>(
        &self,
        buffer: &'a mut OracleBuffer<T>,
        ranges: [Range<usize>; N],
    ) -> Result<[&'a mut [T]; N]> {
        host::disjoint_mut(&mut buffer.0, ranges)
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

    fn add(&self, x: Stored<'_, Self>, y: StoredMut<'_, Self>) -> Result<()> {
        if x.len() != y.len() {
            return Err(Error::Length { op: "add", arg: "y", expected: x.len(), found: y.len() });
        }
        add_to(y, &wide(x));
        Ok(())
    }

    fn embedding_forward(&self, args: embedding::Forward<'_, Self>) -> Result<()> {
        dense::embedding_forward(args)
    }

    fn embedding_backward(&self, args: embedding::Backward<'_, Self>) -> Result<()> {
        dense::embedding_backward(args)
    }

    fn rms_norm_forward(&self, args: rms_norm::Forward<'_, Self>) -> Result<()> {
        dense::rms_norm_forward(args)
    }

    fn rms_norm_backward(&self, args: rms_norm::Backward<'_, Self>) -> Result<()> {
        dense::rms_norm_backward(args)
    }

    fn rms_norm_workspace(&self, _: rms_norm::Shape) -> usize {
        0
    }

    fn rope(&self, args: rope::Apply<'_, Self>) -> Result<()> {
        dense::rope(args)
    }

    fn attention_forward(&self, args: attention::Forward<'_, Self>) -> Result<()> {
        dense::attention_forward(args)
    }

    const CACHED_ATTENTION: bool = true;

    fn attention_cached(&self, args: attention::Cached<'_, Self>) -> Result<()> {
        dense::attention_cached(args)
    }

    fn attention_backward(&self, args: attention::Backward<'_, Self>) -> Result<()> {
        dense::attention_backward(args)
    }

    fn attention_workspace(&self, _: attention::Shape) -> usize {
        0
    }

    fn linear_forward(&self, args: linear::Forward<'_, Self>) -> Result<()> {
        dense::linear_forward(args)
    }

    fn linear_dgrad(&self, args: linear::Dgrad<'_, Self>) -> Result<()> {
        dense::linear_dgrad(args)
    }

    fn linear_wgrad(&self, args: linear::Wgrad<'_, Self>) -> Result<()> {
        dense::linear_wgrad(args)
    }

    fn linear_workspace(&self, _: linear::Shape) -> usize {
        0
    }

    fn activation_forward(&self, args: activation::Forward<'_, Self>) -> Result<()> {
        dense::activation_forward(args)
    }

    fn activation_backward(&self, args: activation::Backward<'_, Self>) -> Result<()> {
        dense::activation_backward(args)
    }

    fn clamp_forward(&self, args: activation::Clamp<'_, Self>) -> Result<()> {
        dense::clamp_forward(args)
    }

    fn clamp_backward(&self, args: activation::ClampBackward<'_, Self>) -> Result<()> {
        dense::clamp_backward(args)
    }

    fn cross_entropy(&self, args: cross_entropy::ForwardBackward<'_, Self>) -> Result<()> {
        dense::cross_entropy(args)
    }

    fn router_logits_forward(&self, args: router_logits::Forward<'_, Self>) -> Result<()> {
        routing::router_logits_forward(args)
    }

    fn router_logits_backward(&self, args: router_logits::Backward<'_, Self>) -> Result<()> {
        routing::router_logits_backward(args)
    }

    fn smoothing_forward(&self, args: smoothing::Forward<'_, Self>) -> Result<()> {
        routing::smoothing_forward(args)
    }

    fn smoothing_backward(&self, args: smoothing::Backward<'_, Self>) -> Result<()> {
        routing::smoothing_backward(args)
    }

    fn pool_sizes(&self, args: pool::Sizes<'_, Self>) -> Result<()> {
        routing::pool_sizes(args)
    }
    fn pool_keep(&self, args: pool::Keep<'_, Self>) -> Result<()> {
        routing::pool_keep(args)
    }

    fn router_forward(&self, args: router::Forward<'_, Self>) -> Result<()> {
        routing::router_forward(args)
    }

    fn smoothed_router(&self, args: smoothing::Router<'_, Self>) -> Result<()> {
        routing::smoothed_router(args)
    }
    fn smoothed_pool(&self, args: smoothing::Pool<'_, Self>) -> Result<()> {
        routing::smoothed_pool(args)
    }
    fn router_backward(&self, args: router::Backward<'_, Self>) -> Result<()> {
        routing::router_backward(args)
    }

    fn load_balance(&self, args: losses::LoadBalance<'_, Self>) -> Result<()> {
        routing::load_balance(args)
    }

    fn mutual_information(&self, args: losses::MutualInformation<'_, Self>) -> Result<()> {
        routing::mutual_information(args)
    }

    fn sequence_consistency(&self, args: losses::SequenceConsistency<'_, Self>) -> Result<()> {
        routing::sequence_consistency(args)
    }

    fn domain_consistency(&self, args: losses::DomainConsistency<'_, Self>) -> Result<()> {
        routing::domain_consistency(args)
    }

    fn redundancy(&self, args: losses::Redundancy<'_, Self>) -> Result<()> {
        routing::redundancy(args)
    }

    fn plan(&self, args: permutation::Plan<'_, Self>) -> Result<()> {
        experts::plan(args)
    }

    fn dispatch_forward(&self, args: permutation::Dispatch<'_, Self>) -> Result<()> {
        experts::dispatch_forward(args)
    }

    fn dispatch_backward(&self, args: permutation::DispatchBackward<'_, Self>) -> Result<()> {
        experts::dispatch_backward(args)
    }

    fn combine_forward(&self, args: permutation::Combine<'_, Self>) -> Result<()> {
        experts::combine_forward(args)
    }

    fn combine_backward(&self, args: permutation::CombineBackward<'_, Self>) -> Result<()> {
        experts::combine_backward(args)
    }

    fn send_plan(&self, args: all_to_all::SendPlan<'_, Self>) -> Result<()> {
        experts::send_plan(args)
    }

    fn receive_plan(&self, args: all_to_all::ReceivePlan<'_, Self>) -> Result<()> {
        experts::receive_plan(args)
    }

    fn grouped_gemm_forward(&self, args: grouped_gemm::Forward<'_, Self>) -> Result<()> {
        experts::grouped_gemm_forward(args)
    }

    fn grouped_gemm_dgrad(&self, args: grouped_gemm::Dgrad<'_, Self>) -> Result<()> {
        experts::grouped_gemm_dgrad(args)
    }

    fn grouped_gemm_wgrad(&self, args: grouped_gemm::Wgrad<'_, Self>) -> Result<()> {
        experts::grouped_gemm_wgrad(args)
    }

    fn grouped_gemm_workspace(&self, _: grouped_gemm::Shape) -> usize {
        0
    }

    fn experts_forward(&self, args: expert_ops::Forward<'_, Self>) -> Result<()> {
        experts::experts_forward(args)
    }

    fn experts_backward(&self, args: expert_ops::Backward<'_, Self>) -> Result<()> {
        experts::experts_backward(args)
    }

    fn experts_workspace(&self, _: expert_ops::Shape) -> usize {
        0
    }

    fn adamw(&self, args: adamw::Step<'_, Self>) -> Result<()> {
        dense::adamw(args)
    }

    fn sum_of_squares(&self, args: adamw::SumOfSquares<'_, Self>) -> Result<()> {
        dense::sum_of_squares(args)
    }
}

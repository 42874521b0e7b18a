//! The table of ops: what each method of [`Backend`] is on this device.

use std::ops::Range;

use crate::backend::{Backend, Element};
use crate::{Result, ops};

use super::buffer::{CudaBuffer, CudaView, CudaViewMut};
use super::{Cuda, CudaStorage, GateLayout};
use super::{
    activation, adamw, all_to_all, attention, cross_entropy, embedding, experts, grouped_gemm, linear,
    losses, memory, permutation, pool, rms_norm, rope, router, router_logits, smoothing,
};

impl<S: CudaStorage> Backend for Cuda<S> {
    type Real = f32;
    type Storage = S;
    type Buffer<T: Element> = CudaBuffer<T>;
    type View<'a, T: Element> = CudaView<'a, T>;
    type ViewMut<'a, T: Element> = CudaViewMut<'a, T>;

    fn describe(&self) -> String {
        format!("cuda ({})", self.device_name())
    }

    fn alloc<T: Element>(&self, len: usize) -> Result<CudaBuffer<T>> {
        CudaBuffer::zeroed(self.stream(), len)
    }
    fn view<'a, T: Element>(
        &self,
        buffer: &'a CudaBuffer<T>,
        range: Range<usize>,
    ) -> Result<CudaView<'a, T>> {
        buffer.view(range)
    }
    fn view_mut<'a, T: Element>(
        &self,
        buffer: &'a mut CudaBuffer<T>,
        range: Range<usize>,
    ) -> Result<CudaViewMut<'a, T>> {
        buffer.view_mut(range)
    }
    fn disjoint_mut<'a, T: Element, const N: usize>(
        &self,
        buffer: &'a mut CudaBuffer<T>,
        ranges: [Range<usize>; N],
    ) -> Result<[CudaViewMut<'a, T>; N]> {
        buffer.disjoint_mut(ranges)
    }
    fn upload<T: Element>(&self, source: &[T], target: CudaViewMut<'_, T>) -> Result<()> {
        memory::upload(self, source, target)
    }
    fn download<T: Element>(&self, source: CudaView<'_, T>, target: &mut [T]) -> Result<()> {
        memory::download(self, source, target)
    }
    fn zero<T: Element>(&self, target: CudaViewMut<'_, T>) -> Result<()> {
        memory::zero(self, target)
    }
    fn copy<T: Element>(&self, source: CudaView<'_, T>, target: CudaViewMut<'_, T>) -> Result<()> {
        memory::copy(self, source, target)
    }
    fn add(&self, x: CudaView<'_, S>, y: CudaViewMut<'_, S>) -> Result<()> {
        memory::add(self, x, y)
    }

    fn embedding_forward(&self, args: ops::embedding::Forward<'_, Self>) -> Result<()> {
        embedding::forward(self, args)
    }
    fn embedding_backward(&self, args: ops::embedding::Backward<'_, Self>) -> Result<()> {
        embedding::backward(self, args)
    }
    fn rms_norm_forward(&self, args: ops::rms_norm::Forward<'_, Self>) -> Result<()> {
        rms_norm::forward(self, args)
    }
    fn rms_norm_backward(&self, args: ops::rms_norm::Backward<'_, Self>) -> Result<()> {
        rms_norm::backward(self, args)
    }
    fn rms_norm_workspace(&self, shape: ops::rms_norm::Shape) -> usize {
        rms_norm::workspace(self, shape)
    }
    fn rope(&self, args: ops::rope::Apply<'_, Self>) -> Result<()> {
        rope::apply(self, args)
    }
    fn attention_forward(&self, args: ops::attention::Forward<'_, Self>) -> Result<()> {
        attention::forward(self, args)
    }
    const CACHED_ATTENTION: bool = false;
    fn attention_cached(&self, _: ops::attention::Cached<'_, Self>) -> Result<()> {
        Err(attention::no_cached())
    }
    fn attention_backward(&self, args: ops::attention::Backward<'_, Self>) -> Result<()> {
        attention::backward(self, args)
    }
    fn attention_workspace(&self, shape: ops::attention::Shape) -> usize {
        attention::workspace(self, shape)
    }
    fn linear_forward(&self, args: ops::linear::Forward<'_, Self>) -> Result<()> {
        linear::forward(self, args)
    }
    fn linear_dgrad(&self, args: ops::linear::Dgrad<'_, Self>) -> Result<()> {
        linear::dgrad(self, args)
    }
    fn linear_wgrad(&self, args: ops::linear::Wgrad<'_, Self>) -> Result<()> {
        linear::wgrad(self, args)
    }
    fn linear_workspace(&self, shape: ops::linear::Shape) -> usize {
        linear::workspace(self, shape)
    }
    fn activation_forward(&self, args: ops::activation::Forward<'_, Self>) -> Result<()> {
        activation::forward(self, args)
    }
    fn activation_backward(&self, args: ops::activation::Backward<'_, Self>) -> Result<()> {
        activation::backward(self, args)
    }
    fn clamp_forward(&self, args: ops::activation::Clamp<'_, Self>) -> Result<()> {
        activation::clamp_forward(self, args)
    }
    fn clamp_backward(&self, args: ops::activation::ClampBackward<'_, Self>) -> Result<()> {
        activation::clamp_backward(self, args)
    }
    fn cross_entropy(&self, args: ops::cross_entropy::ForwardBackward<'_, Self>) -> Result<()> {
        cross_entropy::forward_backward(self, args)
    }

    fn router_logits_forward(&self, args: ops::router_logits::Forward<'_, Self>) -> Result<()> {
        router_logits::forward(self, args)
    }
    fn router_logits_backward(&self, args: ops::router_logits::Backward<'_, Self>) -> Result<()> {
        router_logits::backward(self, args)
    }
    fn smoothing_forward(&self, args: ops::smoothing::Forward<'_, Self>) -> Result<()> {
        smoothing::forward(self, args)
    }
    fn smoothing_backward(&self, args: ops::smoothing::Backward<'_, Self>) -> Result<()> {
        smoothing::backward(self, args)
    }
    fn pool_sizes(&self, args: ops::pool::Sizes<'_, Self>) -> Result<()> {
        pool::sizes(self, args)
    }
    fn pool_keep(&self, args: ops::pool::Keep<'_, Self>) -> Result<()> {
        pool::keep(self, args)
    }
    fn router_forward(&self, args: ops::router::Forward<'_, Self>) -> Result<()> {
        router::forward(self, args)
    }
    fn smoothed_router(&self, args: ops::smoothing::Router<'_, Self>) -> Result<()> {
        router::smoothed(self, args)
    }
    fn smoothed_pool(&self, args: ops::smoothing::Pool<'_, Self>) -> Result<()> {
        pool::smoothed(self, args)
    }
    fn router_backward(&self, args: ops::router::Backward<'_, Self>) -> Result<()> {
        router::backward(self, args)
    }

    fn load_balance(&self, args: ops::losses::LoadBalance<'_, Self>) -> Result<()> {
        losses::load_balance(self, args)
    }
    fn mutual_information(&self, args: ops::losses::MutualInformation<'_, Self>) -> Result<()> {
        losses::mutual_information(self, args)
    }
    fn sequence_consistency(&self, args: ops::losses::SequenceConsistency<'_, Self>) -> Result<()> {
        losses::sequence_consistency(self, args)
    }
    fn domain_consistency(&self, args: ops::losses::DomainConsistency<'_, Self>) -> Result<()> {
        losses::domain_consistency(self, args)
    }
    fn redundancy(&self, args: ops::losses::Redundancy<'_, Self>) -> Result<()> {
        losses::redundancy(self, args)
    }

    fn plan(&self, args: ops::permutation::Plan<'_, Self>) -> Result<()> {
        permutation::plan(self, args)
    }
    fn dispatch_forward(&self, args: ops::permutation::Dispatch<'_, Self>) -> Result<()> {
        permutation::dispatch(self, args)
    }
    fn dispatch_backward(&self, args: ops::permutation::DispatchBackward<'_, Self>) -> Result<()> {
        permutation::dispatch_backward(self, args)
    }
    fn combine_forward(&self, args: ops::permutation::Combine<'_, Self>) -> Result<()> {
        permutation::combine(self, args)
    }
    fn combine_backward(&self, args: ops::permutation::CombineBackward<'_, Self>) -> Result<()> {
        permutation::combine_backward(self, args)
    }
    fn send_plan(&self, args: ops::all_to_all::SendPlan<'_, Self>) -> Result<()> {
        all_to_all::send_plan(self, args)
    }
    fn receive_plan(&self, args: ops::all_to_all::ReceivePlan<'_, Self>) -> Result<()> {
        all_to_all::receive_plan(self, args)
    }
    fn grouped_gemm_forward(&self, args: ops::grouped_gemm::Forward<'_, Self>) -> Result<()> {
        grouped_gemm::forward(self, args)
    }
    fn grouped_gemm_dgrad(&self, args: ops::grouped_gemm::Dgrad<'_, Self>) -> Result<()> {
        grouped_gemm::dgrad(self, args)
    }
    fn grouped_gemm_wgrad(&self, args: ops::grouped_gemm::Wgrad<'_, Self>) -> Result<()> {
        grouped_gemm::wgrad(self, args)
    }
    fn grouped_gemm_workspace(&self, shape: ops::grouped_gemm::Shape) -> usize {
        grouped_gemm::workspace(self, shape)
    }
    fn experts_forward(&self, args: ops::experts::Forward<'_, Self>) -> Result<()> {
        self.experts_forward_in(GateLayout::Concatenated, args)
    }
    fn experts_backward(&self, args: ops::experts::Backward<'_, Self>) -> Result<()> {
        self.experts_backward_in(GateLayout::Concatenated, args)
    }
    fn experts_workspace(&self, shape: ops::experts::Shape) -> usize {
        experts::workspace(self, shape)
    }

    fn adamw(&self, args: ops::adamw::Step<'_, Self>) -> Result<()> {
        adamw::step(self, args)
    }
    fn sum_of_squares(&self, args: ops::adamw::SumOfSquares<'_, Self>) -> Result<()> {
        adamw::sum_of_squares(self, args)
    }
}

//! [`Cpu`]: the value that stands for a thread pool, an instruction set and a type of stored values, and its table of ops.

use std::marker::PhantomData;
use std::ops::Range;

use crate::backend::{Backend, Element};
use crate::{Error, Result};
use crate::{host, ops};

use super::buffer::Buffer;
use super::isa::Isa;
use super::simd::Storage;
use super::threads::Threads;
use super::{
    activation, adamw, all_to_all, attention, cross_entropy, embedding, losses, memory, permutation, pool,
    products, rms_norm, rope, router, router_logits, smoothing,
};

/// The CPU backend: f32 arithmetic, activations and matrices stored as `T` (f32, or bf16 through [`Cpu::storing`]), one
/// instruction set, a thread pool of its own.
///
/// Ops allocate nothing. With several threads, rayon's queue takes a block of memory of its own once in about sixty
/// loops that are handed to the pool.
#[derive(Debug)]
pub struct Cpu<T = f32> {
    pub(super) threads: Threads,
    pub(super) isa: Isa,
    storage: PhantomData<T>,
}

impl Cpu {
    /// `threads` threads and the widest instruction set of this processor.
    ///
    /// # Errors
    /// [`Error::Argument`] for no threads, [`Error::Backend`] when the system refuses them.
    pub fn new(threads: usize) -> Result<Self> {
        Self::with_isa(threads, Isa::detect())
    }

    /// A thread for every core that this process may use.
    ///
    /// # Errors
    /// [`Error::Backend`] when the system refuses the threads.
    pub fn all_cores() -> Result<Self> {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// `threads` threads and a chosen instruction set.
    ///
    /// # Errors
    /// [`Error::Argument`] for no threads, [`Error::Backend`] where the processor lacks `isa`.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Self> {
        if !isa.is_available() {
            return Err(Error::Backend { backend: "cpu", message: format!("this processor has no {isa:?}") });
        }
        Ok(Self { threads: Threads::new(threads)?, isa, storage: PhantomData })
    }

    /// The same threads and instruction set, with activations and matrices stored as `T`.
    pub fn storing<T: Storage>(self) -> Cpu<T> {
        Cpu { threads: self.threads, isa: self.isa, storage: PhantomData }
    }
}

impl<T: Storage> Cpu<T> {
    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

impl<S: Storage> Backend for Cpu<S> {
    type Real = f32;
    type Storage = S;
    type Buffer<T: Element> = Buffer<T>;
    type View<'a, T: Element> = &'a [T];
    type ViewMut<'a, T: Element> = &'a mut [T];

    fn describe(&self) -> String {
        let isa = match self.isa {
            Isa::Portable => "portable",
            Isa::Avx2 => "AVX2",
            Isa::Avx512 => "AVX-512",
            Isa::Avx512Bf16 => "AVX-512 with BF16",
        };
        let plural = if self.threads.len() == 1 { "" } else { "s" };
        let stored = if S::as_f32(&[]).is_some() { "" } else { ", bf16" };
        format!("cpu ({isa}{stored}, {} thread{plural})", self.threads.len())
    }

    fn alloc<T: Element>(&self, len: usize) -> Result<Buffer<T>> {
        Buffer::zeroed(len)
    }
    fn view<'a, T: Element>(&self, buffer: &'a Buffer<T>, range: Range<usize>) -> Result<&'a [T]> {
        host::view(buffer.as_slice(), range)
    }
    fn view_mut<'a, T: Element>(
        &self,
        buffer: &'a mut Buffer<T>,
        range: Range<usize>,
    ) -> Result<&'a mut [T]> {
        host::view_mut(buffer.as_mut_slice(), range)
    }
    fn disjoint_mut<'a, T: Element, const N: usize>(
        &self,
        buffer: &'a mut Buffer<T>,
        ranges: [Range<usize>; N],
    ) -> Result<[&'a mut [T]; N]> {
        host::disjoint_mut(buffer.as_mut_slice(), ranges)
    }
    fn upload<T: Element>(&self, source: &[T], target: &mut [T]) -> Result<()> {
        memory::copy(self, "upload", source, target)
    }
    fn download<T: Element>(&self, source: &[T], target: &mut [T]) -> Result<()> {
        memory::copy(self, "download", source, target)
    }
    fn zero<T: Element>(&self, target: &mut [T]) -> Result<()> {
        memory::zero(self, target);
        Ok(())
    }
    fn copy<T: Element>(&self, source: &[T], target: &mut [T]) -> Result<()> {
        memory::copy(self, "copy", source, target)
    }
    fn add(&self, x: &[S], y: &mut [S]) -> Result<()> {
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
        rms_norm::workspace(shape)
    }
    fn rope(&self, args: ops::rope::Apply<'_, Self>) -> Result<()> {
        rope::apply(self, args)
    }
    fn attention_forward(&self, args: ops::attention::Forward<'_, Self>) -> Result<()> {
        attention::forward(self, args)
    }
    const CACHED_ATTENTION: bool = true;
    fn attention_cached(&self, args: ops::attention::Cached<'_, Self>) -> Result<()> {
        attention::cached(self, args)
    }
    fn attention_backward(&self, args: ops::attention::Backward<'_, Self>) -> Result<()> {
        attention::backward(self, args)
    }
    fn attention_workspace(&self, shape: ops::attention::Shape) -> usize {
        attention::workspace(self, shape)
    }
    fn linear_forward(&self, args: ops::linear::Forward<'_, Self>) -> Result<()> {
        products::linear_forward(self, args)
    }
    fn linear_dgrad(&self, args: ops::linear::Dgrad<'_, Self>) -> Result<()> {
        products::linear_dgrad(self, args)
    }
    fn linear_wgrad(&self, args: ops::linear::Wgrad<'_, Self>) -> Result<()> {
        products::linear_wgrad(self, args)
    }
    fn linear_workspace(&self, shape: ops::linear::Shape) -> usize {
        products::linear_workspace(self, shape)
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
        pool::sizes(args)
    }
    fn pool_keep(&self, args: ops::pool::Keep<'_, Self>) -> Result<()> {
        pool::keep(self, args)
    }
    fn router_forward(&self, args: ops::router::Forward<'_, Self>) -> Result<()> {
        router::forward(self, args)
    }
    fn smoothed_router(&self, args: ops::smoothing::Router<'_, Self>) -> Result<()> {
        smoothing::before_router(self, args)
    }
    fn smoothed_pool(&self, args: ops::smoothing::Pool<'_, Self>) -> Result<()> {
        smoothing::before_pool(self, args)
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
        all_to_all::send_plan(args)
    }
    fn receive_plan(&self, args: ops::all_to_all::ReceivePlan<'_, Self>) -> Result<()> {
        all_to_all::receive_plan(args)
    }
    fn grouped_gemm_forward(&self, args: ops::grouped_gemm::Forward<'_, Self>) -> Result<()> {
        products::grouped_forward(self, args)
    }
    fn grouped_gemm_dgrad(&self, args: ops::grouped_gemm::Dgrad<'_, Self>) -> Result<()> {
        products::grouped_dgrad(self, args)
    }
    fn grouped_gemm_wgrad(&self, args: ops::grouped_gemm::Wgrad<'_, Self>) -> Result<()> {
        products::grouped_wgrad(self, args)
    }
    fn grouped_gemm_workspace(&self, shape: ops::grouped_gemm::Shape) -> usize {
        products::grouped_workspace(self, shape)
    }
    fn experts_forward(&self, args: ops::experts::Forward<'_, Self>) -> Result<()> {
        products::experts_forward(self, args)
    }
    fn experts_backward(&self, args: ops::experts::Backward<'_, Self>) -> Result<()> {
        products::experts_backward(self, args)
    }
    fn experts_workspace(&self, shape: ops::experts::Shape) -> usize {
        products::experts_workspace(self, shape)
    }

    fn adamw(&self, args: ops::adamw::Step<'_, Self>) -> Result<()> {
        adamw::step(self, args)
    }
    fn sum_of_squares(&self, args: ops::adamw::SumOfSquares<'_, Self>) -> Result<()> {
        adamw::sum_of_squares(self, args)
    }
}

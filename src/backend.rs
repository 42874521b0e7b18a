//! The one abstraction over compute devices: buffers that the caller owns, views into them, and every op.
//!
//! Contracts that each backend keeps:
//! * ops never allocate and never synchronise: the caller gives inputs, outputs and a workspace whose size a
//!   `*_workspace` method states (the [oracle](crate::oracle) allocates: it is there to be read);
//! * **activation gradients overwrite (`=`), parameter gradients accumulate (`+=`)**;
//! * what is large is held in [`Backend::Storage`], what must be exact in [`Backend::Real`];
//! * results are bit-identical from run to run and for any number of threads;
//! * wrong lengths or indices are an [`Error`](crate::Error) that names the argument, never a panic.
//!
//! A backend value stands for a device *and* the order of its work: a thread pool of a chosen size on the CPU, a
//! caller's stream on a GPU.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

use crate::Result;
use crate::ops::{
    activation, adamw, all_to_all, attention, cross_entropy, embedding, experts, grouped_gemm, linear,
    losses, permutation, pool, rms_norm, rope, router, router_logits, smoothing,
};

/// A plain value that can live in a device buffer.
pub trait Element: bytemuck::Pod + Send + Sync + Debug + PartialEq {}
impl Element for f32 {}
impl Element for f64 {}
impl Element for half::bf16 {}
impl Element for u8 {}
impl Element for u32 {}
impl Element for i32 {}
impl Element for u64 {}

/// A floating-point type that a backend computes in or stores in.
pub trait Real: Element + PartialOrd {
    /// Rounds to the nearest value of the type, halves to even.
    fn from_f64(value: f64) -> Self;
    /// Exact for every supported type.
    fn to_f64(self) -> f64;
}
impl Real for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}
impl Real for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}
impl Real for half::bf16 {
    fn from_f64(value: f64) -> Self {
        // Rounded to odd on the way through f32, so that the digits it drops still tell a half from more than a half. The
        // crate's own conversion looks at no more than twenty bits of the mantissa.
        let near = value as f32;
        let error = value - f64::from(near);
        let mut bits = near.to_bits();
        if near.is_finite() && error != 0.0 && bits & 1 == 0 {
            let away_from_zero = (error > 0.0) == near.is_sign_positive();
            bits = if away_from_zero { bits + 1 } else { bits - 1 };
        }
        Self::from_f32(f32::from_bits(bits))
    }
    fn to_f64(self) -> f64 {
        Self::to_f64(self)
    }
}

/// Anything with a number of elements: views and buffers.
pub trait Len {
    /// How many elements.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
impl<T> Len for &[T] {
    fn len(&self) -> usize {
        <[T]>::len(self)
    }
}
impl<T> Len for &mut [T] {
    fn len(&self) -> usize {
        <[T]>::len(self)
    }
}

/// A read-only view of values in the type a backend computes in.
pub type View<'a, B> = <B as Backend>::View<'a, <B as Backend>::Real>;
/// A writable view of values in the type a backend computes in.
pub type ViewMut<'a, B> = <B as Backend>::ViewMut<'a, <B as Backend>::Real>;
/// A read-only view of activations, of their gradients or of matrices, in the type a backend stores them in.
pub type Stored<'a, B> = <B as Backend>::View<'a, <B as Backend>::Storage>;
/// A writable view of activations, of their gradients or of matrices, in the type a backend stores them in.
pub type StoredMut<'a, B> = <B as Backend>::ViewMut<'a, <B as Backend>::Storage>;
/// A read-only view of 32-bit indices.
pub type Indices<'a, B> = <B as Backend>::View<'a, u32>;
/// A writable view of 32-bit indices.
pub type IndicesMut<'a, B> = <B as Backend>::ViewMut<'a, u32>;

/// A compute device and every op on it.
pub trait Backend: Send + Sync + Sized + 'static {
    /// The type of arithmetic, and of all that must keep its precision: sums, statistics, router and losses, parameter
    /// masters, their gradients and moments, workspaces.
    type Real: Real;
    /// The type of activations, of activation gradients, and of the matrices and the embedding table that ops read.
    /// Values are widened to [`Backend::Real`] exactly when read, and rounded to nearest, halves to even, when written.
    type Storage: Real;
    /// Owned device memory.
    type Buffer<T: Element>: Len + Send + Sync + 'static;
    /// A borrowed range of a buffer.
    type View<'a, T: Element>: Copy + Len + Send + Sync;
    /// A mutably borrowed range of a buffer.
    type ViewMut<'a, T: Element>: Len + Send;

    /// Whether there is [`Backend::attention_cached`]; elsewhere a sequence that grows is computed again as a whole.
    const CACHED_ATTENTION: bool;

    /// Name and size for people, for example `cpu (AVX-512, 2 threads)`.
    fn describe(&self) -> String;

    // Memory ----------------------------------------------------------------------------------------------------

    /// Runs `work` where the calls in it cost least, and returns what it returns: on the CPU, on a thread of the pool, which then
    /// hands loops to the others without a queue and a wake-up in between. Worth it around many calls, such as a step.
    fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    /// A zeroed buffer.
    fn alloc<T: Element>(&self, len: usize) -> Result<Self::Buffer<T>>;
    /// Elements `range` of `buffer`.
    fn view<'a, T: Element>(
        &self,
        buffer: &'a Self::Buffer<T>,
        range: Range<usize>,
    ) -> Result<Self::View<'a, T>>;
    /// Elements `range` of `buffer`, writable.
    fn view_mut<'a, T: Element>(
        &self,
        buffer: &'a mut Self::Buffer<T>,
        range: Range<usize>,
    ) -> Result<Self::ViewMut<'a, T>>;
    /// Several writable ranges of one buffer; an error if two of them overlap.
    fn disjoint_mut<'a, T: Element, const N: usize>(
        &self,
        buffer: &'a mut Self::Buffer<T>,
        ranges: [Range<usize>; N],
    ) -> Result<[Self::ViewMut<'a, T>; N]>;
    /// Copies host memory to the device.
    fn upload<T: Element>(&self, source: &[T], target: Self::ViewMut<'_, T>) -> Result<()>;
    /// Copies device memory to the host; waits for the work before it.
    fn download<T: Element>(&self, source: Self::View<'_, T>, target: &mut [T]) -> Result<()>;
    /// Sets every element to zero.
    fn zero<T: Element>(&self, target: Self::ViewMut<'_, T>) -> Result<()>;
    /// Copies between device buffers.
    fn copy<T: Element>(&self, source: Self::View<'_, T>, target: Self::ViewMut<'_, T>) -> Result<()>;
    /// `y += x`.
    fn add(&self, x: Stored<'_, Self>, y: StoredMut<'_, Self>) -> Result<()>;
    /// The masters themselves as ops read them, where the two types are one; else nothing, and the caller keeps a stored
    /// copy of the masters, which [`Backend::adamw`] refreshes.
    fn masters_as_stored(masters: &Self::Buffer<Self::Real>) -> Option<&Self::Buffer<Self::Storage>> {
        (masters as &dyn Any).downcast_ref()
    }

    // Dense transformer -----------------------------------------------------------------------------------------

    /// See [`embedding::Forward`].
    fn embedding_forward(&self, args: embedding::Forward<'_, Self>) -> Result<()>;
    /// See [`embedding::Backward`].
    fn embedding_backward(&self, args: embedding::Backward<'_, Self>) -> Result<()>;
    /// See [`rms_norm::Forward`].
    fn rms_norm_forward(&self, args: rms_norm::Forward<'_, Self>) -> Result<()>;
    /// See [`rms_norm::Backward`].
    fn rms_norm_backward(&self, args: rms_norm::Backward<'_, Self>) -> Result<()>;
    /// Workspace of [`Backend::rms_norm_backward`], in elements.
    fn rms_norm_workspace(&self, shape: rms_norm::Shape) -> usize;
    /// See [`rope::Apply`].
    fn rope(&self, args: rope::Apply<'_, Self>) -> Result<()>;
    /// See [`attention::Forward`].
    fn attention_forward(&self, args: attention::Forward<'_, Self>) -> Result<()>;
    /// See [`attention::Cached`].
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) where [`Backend::CACHED_ATTENTION`] is false.
    fn attention_cached(&self, args: attention::Cached<'_, Self>) -> Result<()>;
    /// See [`attention::Backward`].
    fn attention_backward(&self, args: attention::Backward<'_, Self>) -> Result<()>;
    /// Workspace of the attention ops, in elements.
    fn attention_workspace(&self, shape: attention::Shape) -> usize;
    /// See [`linear::Forward`].
    fn linear_forward(&self, args: linear::Forward<'_, Self>) -> Result<()>;
    /// See [`linear::Dgrad`].
    fn linear_dgrad(&self, args: linear::Dgrad<'_, Self>) -> Result<()>;
    /// See [`linear::Wgrad`].
    fn linear_wgrad(&self, args: linear::Wgrad<'_, Self>) -> Result<()>;
    /// Workspace of the three linear ops, in elements.
    fn linear_workspace(&self, shape: linear::Shape) -> usize;
    /// See [`activation::Forward`].
    fn activation_forward(&self, args: activation::Forward<'_, Self>) -> Result<()>;
    /// See [`activation::Backward`].
    fn activation_backward(&self, args: activation::Backward<'_, Self>) -> Result<()>;
    /// See [`activation::Clamp`].
    fn clamp_forward(&self, args: activation::Clamp<'_, Self>) -> Result<()>;
    /// See [`activation::ClampBackward`].
    fn clamp_backward(&self, args: activation::ClampBackward<'_, Self>) -> Result<()>;
    /// See [`cross_entropy::ForwardBackward`].
    fn cross_entropy(&self, args: cross_entropy::ForwardBackward<'_, Self>) -> Result<()>;

    // Router ----------------------------------------------------------------------------------------------------

    /// See [`router_logits::Forward`].
    fn router_logits_forward(&self, args: router_logits::Forward<'_, Self>) -> Result<()>;
    /// See [`router_logits::Backward`].
    fn router_logits_backward(&self, args: router_logits::Backward<'_, Self>) -> Result<()>;
    /// See [`smoothing::Forward`].
    fn smoothing_forward(&self, args: smoothing::Forward<'_, Self>) -> Result<()>;
    /// See [`smoothing::Backward`].
    fn smoothing_backward(&self, args: smoothing::Backward<'_, Self>) -> Result<()>;
    /// See [`pool::Sizes`].
    fn pool_sizes(&self, args: pool::Sizes<'_, Self>) -> Result<()>;
    /// See [`pool::Keep`].
    fn pool_keep(&self, args: pool::Keep<'_, Self>) -> Result<()>;
    /// See [`router::Forward`].
    fn router_forward(&self, args: router::Forward<'_, Self>) -> Result<()>;
    /// See [`smoothing::Router`].
    fn smoothed_router(&self, args: smoothing::Router<'_, Self>) -> Result<()>;
    /// See [`smoothing::Pool`].
    fn smoothed_pool(&self, args: smoothing::Pool<'_, Self>) -> Result<()>;
    /// See [`router::Backward`].
    fn router_backward(&self, args: router::Backward<'_, Self>) -> Result<()>;

    // Losses on routing -----------------------------------------------------------------------------------------

    /// See [`losses::LoadBalance`].
    fn load_balance(&self, args: losses::LoadBalance<'_, Self>) -> Result<()>;
    /// See [`losses::MutualInformation`].
    fn mutual_information(&self, args: losses::MutualInformation<'_, Self>) -> Result<()>;
    /// See [`losses::SequenceConsistency`].
    fn sequence_consistency(&self, args: losses::SequenceConsistency<'_, Self>) -> Result<()>;
    /// See [`losses::DomainConsistency`].
    fn domain_consistency(&self, args: losses::DomainConsistency<'_, Self>) -> Result<()>;
    /// See [`losses::Redundancy`].
    fn redundancy(&self, args: losses::Redundancy<'_, Self>) -> Result<()>;

    // Experts ---------------------------------------------------------------------------------------------------

    /// See [`permutation::Plan`].
    fn plan(&self, args: permutation::Plan<'_, Self>) -> Result<()>;
    /// See [`permutation::Dispatch`].
    fn dispatch_forward(&self, args: permutation::Dispatch<'_, Self>) -> Result<()>;
    /// See [`permutation::DispatchBackward`].
    fn dispatch_backward(&self, args: permutation::DispatchBackward<'_, Self>) -> Result<()>;
    /// See [`permutation::Combine`].
    fn combine_forward(&self, args: permutation::Combine<'_, Self>) -> Result<()>;
    /// See [`permutation::CombineBackward`].
    fn combine_backward(&self, args: permutation::CombineBackward<'_, Self>) -> Result<()>;
    /// See [`all_to_all::SendPlan`].
    fn send_plan(&self, args: all_to_all::SendPlan<'_, Self>) -> Result<()>;
    /// See [`all_to_all::ReceivePlan`].
    fn receive_plan(&self, args: all_to_all::ReceivePlan<'_, Self>) -> Result<()>;
    /// See [`grouped_gemm::Forward`].
    fn grouped_gemm_forward(&self, args: grouped_gemm::Forward<'_, Self>) -> Result<()>;
    /// See [`grouped_gemm::Dgrad`].
    fn grouped_gemm_dgrad(&self, args: grouped_gemm::Dgrad<'_, Self>) -> Result<()>;
    /// See [`grouped_gemm::Wgrad`].
    fn grouped_gemm_wgrad(&self, args: grouped_gemm::Wgrad<'_, Self>) -> Result<()>;
    /// Workspace of the three grouped GEMM ops, in elements.
    fn grouped_gemm_workspace(&self, shape: grouped_gemm::Shape) -> usize;
    /// See [`experts::Forward`].
    fn experts_forward(&self, args: experts::Forward<'_, Self>) -> Result<()>;
    /// See [`experts::Backward`].
    fn experts_backward(&self, args: experts::Backward<'_, Self>) -> Result<()>;
    /// Workspace of both expert ops, in elements.
    fn experts_workspace(&self, shape: experts::Shape) -> usize;

    // Optimiser -------------------------------------------------------------------------------------------------

    /// See [`adamw::Step`].
    fn adamw(&self, args: adamw::Step<'_, Self>) -> Result<()>;
    /// See [`adamw::SumOfSquares`].
    fn sum_of_squares(&self, args: adamw::SumOfSquares<'_, Self>) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::Real;
    use half::bf16;

    #[test]
    fn bf16_is_the_nearest_to_an_f64_halves_to_even() {
        let half = 1.0 + 2f64.powi(-8);
        for tiny in [2f64.powi(-52), 2f64.powi(-30), 2f64.powi(-22)] {
            for sign in [1.0, -1.0] {
                let round = |x: f64| <bf16 as Real>::from_f64(sign * x).to_f64() * sign;
                assert_eq!(
                    [round(half - tiny), round(half), round(half + tiny)],
                    [1.0, 1.0, 1.0 + 2f64.powi(-7)]
                );
                assert_eq!(round(half + 2f64.powi(-7) - tiny), 1.0 + 2f64.powi(-7));
                assert_eq!(round(half + 2f64.powi(-7)), 1.0 + 2f64.powi(-6));
            }
        }
        let round = <bf16 as Real>::from_f64;
        assert!(round(f64::NAN).is_nan());
        assert_eq!(
            [round(1e300), round(-1e-300), round(f64::from(f32::MAX))],
            [bf16::INFINITY, bf16::NEG_ZERO, bf16::INFINITY]
        );
        for bits in 0..u16::MAX {
            let value = bf16::from_bits(bits);
            assert!(value.is_nan() || round(value.to_f64()) == value, "{value:?}");
        }
    }
}

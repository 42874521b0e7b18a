//! f32 vectors: an op is written once, generic over [`Simd`], and compiled for every [`Isa`]. Vectors are read from and
//! written to slices of f32 or of bf16, see [`Storage`].
//!
//! ```
//! use emo::cpu::isa::Isa;
//! use emo::cpu::simd::{Kernel, Simd};
//!
//! struct Exp<'a>(&'a mut [f32]);
//! impl Kernel for Exp<'_> {
//!     type Output = f32;
//!     #[inline(always)]
//!     fn run<S: Simd>(self, s: S) -> f32 {
//!         let mut sum = s.splat(0.0);
//!         for x in self.0.chunks_mut(S::LANES) {
//!             let y = s.exp(s.load_partial(x, f32::NEG_INFINITY));
//!             sum = sum + y;
//!             s.store_partial(x, y);
//!         }
//!         s.reduce_add(sum)
//!     }
//! }
//! let mut x = [0.0; 5];
//! assert_eq!(Isa::detect().dispatch(Exp(&mut x)), 5.0);
//! ```
//!
//! A value of a type that implements [`Simd`] proves that the processor has the instructions, so its methods are safe.
//! Everything a kernel calls with vectors must be `#[inline(always)]` (closures that hold vectors are best avoided):
//! a function that is not inlined into the dispatched one is compiled without the instructions, which is correct but slow.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
mod portable;
mod storage;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;
pub use storage::Storage;

use super::isa::Isa;
use half::bf16;
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A computation written for any vector width.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Runs it. Mark the implementation `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

impl Isa {
    /// Runs `kernel` compiled for this instruction set, or [`Isa::Portable`] where the processor lacks it.
    #[inline]
    pub fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        match self.or_portable() {
            // SAFETY: `or_portable` returned this set, so the processor has its features.
            Isa::Avx512 | Isa::Avx512Bf16 => return unsafe { avx512::run(kernel) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2::run(kernel) },
            Isa::Portable => {}
        }
        kernel.run(Portable)
    }
}

/// A vector of `LANES` f32 and what can be done with it. Arithmetic is IEEE f32 lane by lane, also through the operators
/// `+ - * /` and unary `-` of [`Simd::F`].
pub trait Simd: Copy + Debug + Send + Sync {
    /// The vector.
    type F: Copy
        + Debug
        + Add<Output = Self::F>
        + Sub<Output = Self::F>
        + Mul<Output = Self::F>
        + Div<Output = Self::F>
        + Neg<Output = Self::F>;

    /// Eight f64, on every instruction set, so that sums in f64 have the same bits everywhere.
    type Wide: Copy;

    /// Lanes of a vector: a power of two.
    const LANES: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F;

    /// `LANES` elements from `p`, which need no alignment.
    ///
    /// # Safety
    /// `p..p + LANES` must be readable.
    unsafe fn load_ptr(self, p: *const f32) -> Self::F;

    /// The first `n` (at most `LANES`) elements from `p`; the other lanes are 0.
    ///
    /// # Safety
    /// `p..p + n` must be readable.
    unsafe fn load_ptr_partial(self, p: *const f32, n: usize) -> Self::F;

    /// Writes `LANES` elements to `p`, which needs no alignment.
    ///
    /// # Safety
    /// `p..p + LANES` must be writable.
    unsafe fn store_ptr(self, p: *mut f32, v: Self::F);

    /// Writes the first `n` (at most `LANES`) lanes to `p`.
    ///
    /// # Safety
    /// `p..p + n` must be writable.
    unsafe fn store_ptr_partial(self, p: *mut f32, v: Self::F, n: usize);

    /// `LANES` bf16 from `p`, which need no alignment, widened.
    ///
    /// # Safety
    /// `p..p + LANES` must be readable.
    unsafe fn load_bf16_ptr(self, p: *const bf16) -> Self::F;

    /// Writes `LANES` elements, rounded to the nearest bf16 (halves to even, NaN to a quiet NaN), to `p`, which needs no
    /// alignment. The same bits on every instruction set.
    ///
    /// # Safety
    /// `p..p + LANES` must be writable.
    unsafe fn store_bf16_ptr(self, p: *mut bf16, v: Self::F);

    /// `LANES` words of two bf16: `dst[i]` holds the bits of `first[i]` below those of `second[i]`. No pointer needs alignment.
    ///
    /// # Safety
    /// `LANES` elements must be readable from `first` and `second` and writable at `dst`, and nothing may overlap `dst`.
    #[inline(always)]
    unsafe fn interleave_bf16_ptr(self, first: *const bf16, second: *const bf16, dst: *mut f32) {
        for i in 0..Self::LANES {
            // SAFETY: the caller's extents.
            unsafe {
                let (low, high) = (*first.add(i), *second.add(i));
                let word = u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16;
                dst.add(i).write_unaligned(f32::from_bits(word));
            }
        }
    }

    /// `a` in the first `n` lanes, `b` in the others.
    fn first(self, n: usize, a: Self::F, b: Self::F) -> Self::F;

    /// `a * b + c`, rounded once where the processor has FMA, twice on [`Isa::Portable`].
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;

    /// `if a > b { a } else { b }` in each lane: `b` when either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;

    /// `if a < b { a } else { b }` in each lane: `b` when either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;

    /// `if a < b { x } else { y }` in each lane: `y` when either of `a`, `b` is NaN.
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;

    /// Square root, correctly rounded.
    fn sqrt(self, a: Self::F) -> Self::F;

    /// Absolute value.
    fn abs(self, a: Self::F) -> Self::F;

    /// The magnitude of `a` with the sign of `sign`.
    fn copysign(self, a: Self::F, sign: Self::F) -> Self::F;

    /// The nearest integer, ties to even; exact for `|a| < 2^22`.
    fn round(self, a: Self::F) -> Self::F;

    /// `a * 2^n` for integral `n` in [-252, 254], with gradual underflow and overflow to infinity.
    fn scale(self, a: Self::F, n: Self::F) -> Self::F;

    /// The sum of the lanes as a balanced tree: lane i with i + LANES/2, then LANES/4, and so on.
    fn reduce_add(self, a: Self::F) -> f32;

    /// The greatest lane. With a NaN lane the result is unspecified.
    fn reduce_max(self, a: Self::F) -> f32;

    /// Bit i: whether `a < b` in lane i; clear when either is NaN.
    fn mask_lt(self, a: Self::F, b: Self::F) -> u64;

    /// Bit i: whether `a <= b` in lane i; clear when either is NaN.
    fn mask_le(self, a: Self::F, b: Self::F) -> u64;

    /// Writes the lanes of `v` whose bit is set in `mask` one after the other to the front of `dst`. What stands in the rest of
    /// its first `LANES` elements is lost. Panics when there are fewer.
    #[inline(always)]
    fn compress(self, dst: &mut [f32], mask: u64, v: Self::F) {
        let (mut lanes, mut rest) = ([0.0; 16], mask);
        self.store(&mut lanes, v);
        let dst = &mut dst[..Self::LANES];
        for slot in dst.iter_mut().take(mask.count_ones() as usize) {
            *slot = lanes[rest.trailing_zeros() as usize % 16];
            rest &= rest - 1;
        }
    }

    /// Eight zeros.
    fn wide_zero(self) -> Self::Wide;

    /// Eight f32 from `p`, widened.
    ///
    /// # Safety
    /// `p..p + 8` must be readable.
    unsafe fn load_wide_ptr(self, p: *const f32) -> Self::Wide;

    /// Eight bf16 from `p`, widened.
    ///
    /// # Safety
    /// `p..p + 8` must be readable.
    #[inline(always)]
    unsafe fn load_wide_bf16_ptr(self, p: *const bf16) -> Self::Wide {
        let mut wide = [0.0; 8];
        for (i, wide) in wide.iter_mut().enumerate() {
            // SAFETY: the caller's extent.
            *wide = Storage::to_f32(unsafe { *p.add(i) });
        }
        // SAFETY: eight elements are there.
        unsafe { self.load_wide_ptr(wide.as_ptr()) }
    }

    /// `a * b + c` where the lanes of `a` and `b` were f32: their products are exact in f64, so that it is rounded once with
    /// and without fused instructions.
    fn wide_fma(self, a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide;

    /// The sum of the eight lanes as a balanced tree: lane i with i + 4, then 2, then 1.
    fn wide_reduce_add(self, a: Self::Wide) -> f64;

    /// The first `min(x.len(), 8)` elements of `x`, widened, zeros after them.
    #[inline(always)]
    fn load_wide<T: Storage>(self, x: &[T]) -> Self::Wide {
        if x.len() >= 8 {
            // SAFETY: eight elements are there.
            return unsafe { T::load_wide_ptr(self, x.as_ptr()) };
        }
        let mut padded = [0.0; 8];
        padded.iter_mut().zip(x).for_each(|(padded, &x)| *padded = x.to_f32());
        // SAFETY: eight elements are there.
        unsafe { self.load_wide_ptr(padded.as_ptr()) }
    }

    /// Transposes an 8 x 8 block: `dst[j * dst_ld + i] = src[i][j]`. The rows need no alignment.
    ///
    /// # Safety
    /// Eight elements must be readable from each pointer and the block writable at `dst`, and the two must not overlap.
    #[inline(always)]
    unsafe fn transpose8(self, src: [*const f32; 8], dst: *mut f32, dst_ld: usize) {
        for (i, row) in src.into_iter().enumerate() {
            for j in 0..8 {
                // SAFETY: the caller gives readable rows and a writable 8 x 8 block.
                unsafe { *dst.add(j * dst_ld + i) = row.add(j).read_unaligned() };
            }
        }
    }

    /// Hints that the cache line at `p` is needed soon; any address is allowed.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch never faults, and SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }

    /// The first `LANES` elements of `x`. Panics when there are fewer.
    #[inline(always)]
    fn load<T: Storage>(self, x: &[T]) -> Self::F {
        assert!(x.len() >= Self::LANES);
        // SAFETY: LANES elements are there (checked).
        unsafe { T::load_ptr(self, x.as_ptr()) }
    }

    /// The first `min(x.len(), LANES)` elements of `x`; the other lanes are `fill`.
    #[inline(always)]
    fn load_partial<T: Storage>(self, x: &[T], fill: f32) -> Self::F {
        if x.len() >= Self::LANES {
            self.load(x)
        } else {
            // SAFETY: x.len() elements are there.
            let v = unsafe { T::load_ptr_partial(self, x.as_ptr(), x.len()) };
            if fill.to_bits() == 0 { v } else { self.first(x.len(), v, self.splat(fill)) }
        }
    }

    /// Writes `v` to the first `LANES` elements of `x`. Panics when there are fewer.
    #[inline(always)]
    fn store<T: Storage>(self, x: &mut [T], v: Self::F) {
        assert!(x.len() >= Self::LANES);
        // SAFETY: LANES elements are there (checked).
        unsafe { T::store_ptr(self, x.as_mut_ptr(), v) }
    }

    /// Writes the first `min(x.len(), LANES)` lanes of `v` to `x`.
    #[inline(always)]
    fn store_partial<T: Storage>(self, x: &mut [T], v: Self::F) {
        if x.len() >= Self::LANES {
            self.store(x, v);
        } else {
            // SAFETY: x.len() elements are there.
            unsafe { T::store_ptr_partial(self, x.as_mut_ptr(), v, x.len()) }
        }
    }

    /// `e^x`, within 2 ulp: 0 at -inf, inf above 88.73, NaN at NaN.
    #[inline(always)]
    fn exp(self, x: Self::F) -> Self::F {
        math::exp(self, x)
    }

    /// `1 / (1 + e^-x)`, within 4 ulp where `x > -87`, and absolutely within 1e-38 below.
    #[inline(always)]
    fn sigmoid(self, x: Self::F) -> Self::F {
        let one = self.splat(1.0);
        one / (one + self.exp(-x))
    }

    /// Hyperbolic tangent, within 4 ulp.
    #[inline(always)]
    fn tanh(self, x: Self::F) -> Self::F {
        math::tanh(self, x)
    }

    /// The error function, within 4 ulp.
    #[inline(always)]
    fn erf(self, x: Self::F) -> Self::F {
        math::erf(self, x)
    }

    /// Sum of `x[i] * y[i]` in a fixed order. The shorter slice counts.
    #[inline(always)]
    fn dot<T: Storage, U: Storage>(self, x: &[T], y: &[U]) -> f32 {
        let n = x.len().min(y.len());
        let (x, y) = (&x[..n], &y[..n]);
        let mut sums = [self.splat(0.0); 4];
        let mut pairs = x.chunks_exact(4 * Self::LANES).zip(y.chunks_exact(4 * Self::LANES));
        for (x, y) in &mut pairs {
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = i * Self::LANES;
                *sum = self.fma(self.load(&x[at..]), self.load(&y[at..]), *sum);
            }
        }
        let done = n - n % (4 * Self::LANES);
        for (x, y) in x[done..].chunks(Self::LANES).zip(y[done..].chunks(Self::LANES)) {
            sums[0] = self.fma(self.load_partial(x, 0.0), self.load_partial(y, 0.0), sums[0]);
        }
        self.reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]))
    }
}

#[cfg(test)]
mod tests;

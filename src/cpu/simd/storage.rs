//! What vectors of f32 are read from and written to: f32 as it is, or bf16, widened and rounded on the way.

use half::bf16;

use super::Simd;
use crate::backend::Real;
use crate::cpu::isa::Isa;
use crate::cpu::table::Table;

/// A type that the CPU backend stores activations and matrices in: f32 or bf16, no others. Arithmetic is f32 in either case.
pub trait Storage: Real + Table {
    /// The same value.
    fn to_f32(self) -> f32;

    /// The nearest value, halves to even.
    fn from_f32(x: f32) -> Self;

    /// Whether matrix products on `isa` multiply these as they are, two terms of a sum at a time, instead of as f32.
    fn in_pairs(isa: Isa) -> bool;

    /// The elements themselves where they are f32.
    fn as_f32(x: &[Self]) -> Option<&[f32]>;

    /// The elements themselves where they are f32, writable.
    fn as_f32_mut(x: &mut [Self]) -> Option<&mut [f32]>;

    /// `LANES` elements from `p`, which need no alignment.
    ///
    /// # Safety
    /// `p..p + LANES` must be readable.
    unsafe fn load_ptr<S: Simd>(s: S, p: *const Self) -> S::F;

    /// The first `n` (at most `LANES`) elements from `p`; the other lanes are 0.
    ///
    /// # Safety
    /// `p..p + n` must be readable.
    unsafe fn load_ptr_partial<S: Simd>(s: S, p: *const Self, n: usize) -> S::F;

    /// Eight elements from `p`, which need no alignment, widened to f64.
    ///
    /// # Safety
    /// `p..p + 8` must be readable.
    unsafe fn load_wide_ptr<S: Simd>(s: S, p: *const Self) -> S::Wide;

    /// Writes `LANES` elements to `p`, which needs no alignment.
    ///
    /// # Safety
    /// `p..p + LANES` must be writable.
    unsafe fn store_ptr<S: Simd>(s: S, p: *mut Self, v: S::F);

    /// Writes the first `n` (at most `LANES`) lanes to `p`.
    ///
    /// # Safety
    /// `p..p + n` must be writable.
    unsafe fn store_ptr_partial<S: Simd>(s: S, p: *mut Self, v: S::F, n: usize);
}

// SAFETY (every block of both implementations): the caller's promise, passed on.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Storage for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }
    fn in_pairs(_: Isa) -> bool {
        false
    }
    fn as_f32(x: &[f32]) -> Option<&[f32]> {
        Some(x)
    }
    fn as_f32_mut(x: &mut [f32]) -> Option<&mut [f32]> {
        Some(x)
    }
    #[inline(always)]
    unsafe fn load_ptr<S: Simd>(s: S, p: *const f32) -> S::F {
        unsafe { s.load_ptr(p) }
    }
    #[inline(always)]
    unsafe fn load_ptr_partial<S: Simd>(s: S, p: *const f32, n: usize) -> S::F {
        unsafe { s.load_ptr_partial(p, n) }
    }
    #[inline(always)]
    unsafe fn load_wide_ptr<S: Simd>(s: S, p: *const f32) -> S::Wide {
        unsafe { s.load_wide_ptr(p) }
    }
    #[inline(always)]
    unsafe fn store_ptr<S: Simd>(s: S, p: *mut f32, v: S::F) {
        unsafe { s.store_ptr(p, v) }
    }
    #[inline(always)]
    unsafe fn store_ptr_partial<S: Simd>(s: S, p: *mut f32, v: S::F, n: usize) {
        unsafe { s.store_ptr_partial(p, v, n) }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
impl Storage for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        // Not the crate's conversion, which makes a NaN quiet: the vectors do not.
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn from_f32(x: f32) -> bf16 {
        bf16::from_f32(x)
    }
    fn in_pairs(isa: Isa) -> bool {
        isa.or_portable() == Isa::Avx512Bf16
    }
    fn as_f32(_: &[bf16]) -> Option<&[f32]> {
        None
    }
    fn as_f32_mut(_: &mut [bf16]) -> Option<&mut [f32]> {
        None
    }
    #[inline(always)]
    unsafe fn load_ptr<S: Simd>(s: S, p: *const bf16) -> S::F {
        unsafe { s.load_bf16_ptr(p) }
    }
    #[inline(always)]
    unsafe fn load_ptr_partial<S: Simd>(s: S, p: *const bf16, n: usize) -> S::F {
        let mut padded = [bf16::ZERO; 16];
        unsafe {
            padded.as_mut_ptr().copy_from_nonoverlapping(p, n.min(S::LANES));
            s.load_bf16_ptr(padded.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn load_wide_ptr<S: Simd>(s: S, p: *const bf16) -> S::Wide {
        unsafe { s.load_wide_bf16_ptr(p) }
    }
    #[inline(always)]
    unsafe fn store_ptr<S: Simd>(s: S, p: *mut bf16, v: S::F) {
        unsafe { s.store_bf16_ptr(p, v) }
    }
    #[inline(always)]
    unsafe fn store_ptr_partial<S: Simd>(s: S, p: *mut bf16, v: S::F, n: usize) {
        let mut padded = [bf16::ZERO; 16];
        unsafe {
            s.store_bf16_ptr(padded.as_mut_ptr(), v);
            p.copy_from_nonoverlapping(padded.as_ptr(), n.min(S::LANES));
        }
    }
}

//! Eight lanes in an array; the compiler may or may not find vector instructions for them.

use super::{Simd, Storage};
use half::bf16;
use std::array::from_fn;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// [`super::Isa::Portable`].
#[derive(Debug, Clone, Copy)]
pub struct Portable;

const LANES: usize = 8;

/// Eight f32.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub struct F([f32; LANES]);

macro_rules! lane_wise {
    ($($op:ident $method:ident $sign:tt),*) => {$(
        impl $op for F {
            type Output = F;
            #[inline(always)]
            fn $method(self, other: F) -> F {
                F(from_fn(|i| self.0[i] $sign other.0[i]))
            }
        }
    )*};
}
lane_wise!(Add add +, Sub sub -, Mul mul *, Div div /);

impl Neg for F {
    type Output = F;
    #[inline(always)]
    fn neg(self) -> F {
        F(self.0.map(|x| -x))
    }
}

impl Simd for Portable {
    type F = F;
    type Wide = [f64; 8];
    const LANES: usize = LANES;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        F([x; LANES])
    }
    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> F {
        // SAFETY: the caller makes LANES elements readable; an unaligned read needs no alignment.
        F(unsafe { p.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_ptr_partial(self, p: *const f32, n: usize) -> F {
        // SAFETY: only elements below n are read, which the caller makes readable.
        F(from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn store_ptr(self, p: *mut f32, v: F) {
        // SAFETY: the caller makes LANES elements writable; an unaligned write needs no alignment.
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(v.0) }
    }
    #[inline(always)]
    unsafe fn store_ptr_partial(self, p: *mut f32, v: F, n: usize) {
        for i in 0..n.min(LANES) {
            // SAFETY: only elements below n are written, which the caller makes writable.
            unsafe { *p.add(i) = v.0[i] };
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_ptr(self, p: *const bf16) -> F {
        // SAFETY: the caller makes LANES elements readable; an unaligned read needs no alignment.
        F(unsafe { p.cast::<[bf16; LANES]>().read_unaligned() }.map(Storage::to_f32))
    }
    #[inline(always)]
    unsafe fn store_bf16_ptr(self, p: *mut bf16, v: F) {
        // SAFETY: the caller makes LANES elements writable; an unaligned write needs no alignment.
        unsafe { p.cast::<[bf16; LANES]>().write_unaligned(v.0.map(bf16::from_f32)) }
    }
    #[inline(always)]
    fn first(self, n: usize, a: F, b: F) -> F {
        F(from_fn(|i| if i < n { a.0[i] } else { b.0[i] }))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        // Not `mul_add`: without FMA instructions that is a slow library call.
        F(from_fn(|i| a.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        F(from_fn(|i| if a.0[i] > b.0[i] { a.0[i] } else { b.0[i] }))
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        F(from_fn(|i| if a.0[i] < b.0[i] { a.0[i] } else { b.0[i] }))
    }
    #[inline(always)]
    fn select_lt(self, a: F, b: F, x: F, y: F) -> F {
        F(from_fn(|i| if a.0[i] < b.0[i] { x.0[i] } else { y.0[i] }))
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        F(a.0.map(f32::sqrt))
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        F(a.0.map(f32::abs))
    }
    #[inline(always)]
    fn copysign(self, a: F, sign: F) -> F {
        F(from_fn(|i| a.0[i].copysign(sign.0[i])))
    }
    #[inline(always)]
    fn round(self, a: F) -> F {
        // 1.5 * 2^23 moves the fraction out of the mantissa; the addition rounds it away, ties to even.
        const MAGIC: f32 = 12_582_912.0;
        F(a.0.map(|x| (x + MAGIC) - MAGIC))
    }
    #[inline(always)]
    fn scale(self, a: F, n: F) -> F {
        // Two factors, so that results near the ends of the range need no exponent beyond it.
        F(from_fn(|i| {
            let n = n.0[i] as i32;
            let half = n >> 1;
            let power = |e: i32| f32::from_bits(((e + 127) << 23) as u32);
            a.0[i] * power(half) * power(n - half)
        }))
    }
    #[inline(always)]
    fn reduce_add(self, a: F) -> f32 {
        let a = a.0;
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn reduce_max(self, a: F) -> f32 {
        a.0.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
    #[inline(always)]
    fn mask_lt(self, a: F, b: F) -> u64 {
        (0..LANES).fold(0, |mask, i| mask | u64::from(a.0[i] < b.0[i]) << i)
    }
    #[inline(always)]
    fn mask_le(self, a: F, b: F) -> u64 {
        (0..LANES).fold(0, |mask, i| mask | u64::from(a.0[i] <= b.0[i]) << i)
    }
    #[inline(always)]
    fn wide_zero(self) -> [f64; 8] {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn load_wide_ptr(self, p: *const f32) -> [f64; 8] {
        // SAFETY: the caller makes eight elements readable; an unaligned read needs no alignment.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }.map(f64::from)
    }
    #[inline(always)]
    fn wide_fma(self, a: [f64; 8], b: [f64; 8], c: [f64; 8]) -> [f64; 8] {
        from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn wide_reduce_add(self, l: [f64; 8]) -> f64 {
        ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
    }
}

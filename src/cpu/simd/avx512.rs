//! Sixteen lanes of AVX-512.

use super::{Kernel, Simd, avx2};
use half::bf16;
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Proof that the processor has AVX-512 F, BW, VL and DQ, and AVX2 with FMA and POPCNT.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The processor must have AVX-512 F, BW, VL and DQ, and AVX2 with FMA and POPCNT.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Avx512 {
    /// `sum + a0 * b0 + a1 * b1` where each lane of `a` and `b` holds two bf16.
    ///
    /// # Safety
    /// The processor must have AVX-512 BF16 too.
    #[inline(always)]
    pub(crate) unsafe fn dot_pairs(self, a: F, b: F, sum: F) -> F {
        // SAFETY: the caller promises the instruction; both vector types are 64 bytes without invalid values.
        unsafe {
            let pairs = |v: F| std::mem::transmute::<__m512, __m512bh>(v.0);
            F(_mm512_dpbf16_ps(sum.0, pairs(a), pairs(b)))
        }
    }
}

/// Runs a kernel with the features enabled.
///
/// # Safety
/// The processor must have AVX-512 F, BW, VL and DQ, and AVX2 with FMA and POPCNT.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,popcnt")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller promises the features.
    kernel.run(unsafe { Avx512::new() })
}

/// Sixteen f32. Only code that holds an [`Avx512`] can make one.
#[derive(Debug, Clone, Copy)]
pub struct F(__m512);

macro_rules! lane_wise {
    ($($op:ident $method:ident $intrinsic:ident),*) => {$(
        impl $op for F {
            type Output = F;
            #[inline(always)]
            fn $method(self, other: F) -> F {
                // SAFETY: a value of type F exists only where the features do.
                F(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )*};
}
lane_wise!(Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);

impl Neg for F {
    type Output = F;
    #[inline(always)]
    fn neg(self) -> F {
        // SAFETY: a value of type F exists only where the features do.
        F(unsafe { _mm512_xor_ps(self.0, _mm512_set1_ps(-0.0)) })
    }
}

/// The first `n` lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

// SAFETY (every block below): `self` or an F exists only where the features do; for the pointer methods the callers
// make the touched elements readable or writable, and masked-out lanes are not touched.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type F = F;
    type Wide = __m512d;
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        F(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> F {
        F(unsafe { _mm512_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_ptr_partial(self, p: *const f32, n: usize) -> F {
        F(unsafe { _mm512_maskz_loadu_ps(mask(n), p) })
    }
    #[inline(always)]
    unsafe fn store_ptr(self, p: *mut f32, v: F) {
        unsafe { _mm512_storeu_ps(p, v.0) }
    }
    #[inline(always)]
    unsafe fn store_ptr_partial(self, p: *mut f32, v: F, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, mask(n), v.0) }
    }
    #[inline(always)]
    unsafe fn load_bf16_ptr(self, p: *const bf16) -> F {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            F(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_ptr(self, p: *mut bf16, v: F) {
        // Not `vcvtneps2bf16`, which takes subnormal numbers for 0.
        unsafe {
            let x = _mm512_castps_si512(v.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(x), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(x, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v.0, v.0);
            let bits = _mm512_mask_or_epi32(rounded, nan, x, _mm512_set1_epi32(0x40_0000));
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits)));
        }
    }
    #[inline(always)]
    unsafe fn interleave_bf16_ptr(self, first: *const bf16, second: *const bf16, dst: *mut f32) {
        unsafe {
            let low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(first.cast()));
            let high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(second.cast()));
            _mm512_storeu_si512(dst.cast(), _mm512_or_si512(low, _mm512_slli_epi32::<16>(high)));
        }
    }
    #[inline(always)]
    fn first(self, n: usize, a: F, b: F) -> F {
        F(unsafe { _mm512_mask_blend_ps(mask(n), b.0, a.0) })
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        F(unsafe { _mm512_fmadd_ps(a.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        F(unsafe { _mm512_max_ps(a.0, b.0) })
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        F(unsafe { _mm512_min_ps(a.0, b.0) })
    }
    #[inline(always)]
    fn select_lt(self, a: F, b: F, x: F, y: F) -> F {
        F(unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a.0, b.0), y.0, x.0) })
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        F(unsafe { _mm512_sqrt_ps(a.0) })
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        F(unsafe { _mm512_andnot_ps(_mm512_set1_ps(-0.0), a.0) })
    }
    #[inline(always)]
    fn copysign(self, a: F, sign: F) -> F {
        unsafe {
            let bit = _mm512_set1_ps(-0.0);
            F(_mm512_or_ps(_mm512_andnot_ps(bit, a.0), _mm512_and_ps(bit, sign.0)))
        }
    }
    #[inline(always)]
    fn round(self, a: F) -> F {
        F(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a.0) })
    }
    #[inline(always)]
    fn scale(self, a: F, n: F) -> F {
        F(unsafe { _mm512_scalef_ps(a.0, n.0) })
    }
    #[inline(always)]
    fn reduce_add(self, a: F) -> f32 {
        unsafe {
            let x = _mm256_add_ps(_mm512_castps512_ps256(a.0), _mm512_extractf32x8_ps::<1>(a.0));
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn reduce_max(self, a: F) -> f32 {
        unsafe {
            let x = _mm256_max_ps(_mm512_castps512_ps256(a.0), _mm512_extractf32x8_ps::<1>(a.0));
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn mask_lt(self, a: F, b: F) -> u64 {
        u64::from(unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a.0, b.0) })
    }
    #[inline(always)]
    fn mask_le(self, a: F, b: F) -> u64 {
        u64::from(unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a.0, b.0) })
    }
    #[inline(always)]
    fn compress(self, dst: &mut [f32], mask: u64, v: F) {
        assert!(dst.len() >= Self::LANES);
        // In a register: writing compressed lanes to memory is slow.
        unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), _mm512_maskz_compress_ps(mask as __mmask16, v.0)) }
    }
    #[inline(always)]
    fn wide_zero(self) -> __m512d {
        unsafe { _mm512_setzero_pd() }
    }
    #[inline(always)]
    unsafe fn load_wide_ptr(self, p: *const f32) -> __m512d {
        unsafe { _mm512_cvtps_pd(_mm256_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn load_wide_bf16_ptr(self, p: *const bf16) -> __m512d {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    fn wide_fma(self, a: __m512d, b: __m512d, c: __m512d) -> __m512d {
        unsafe { _mm512_fmadd_pd(a, b, c) }
    }
    #[inline(always)]
    fn wide_reduce_add(self, a: __m512d) -> f64 {
        unsafe {
            let halves = [_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd::<1>(a)];
            avx2::wide_reduce_add(halves)
        }
    }
    #[inline(always)]
    unsafe fn transpose8(self, src: [*const f32; 8], dst: *mut f32, dst_ld: usize) {
        unsafe { avx2::transpose8(src, dst, dst_ld) }
    }
}

//! Eight lanes of AVX2 with FMA and POPCNT.

use super::{Kernel, Simd};
use half::bf16;
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Proof that the processor has AVX2, FMA and POPCNT.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The processor must have AVX2, FMA and POPCNT.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// Runs a kernel with the features enabled.
///
/// # Safety
/// The processor must have AVX2, FMA and POPCNT.
#[target_feature(enable = "avx2,fma,popcnt")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller promises the features.
    kernel.run(unsafe { Avx2::new() })
}

/// Eight f32. Only code that holds an [`Avx2`] can make one.
#[derive(Debug, Clone, Copy)]
pub struct F(__m256);

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
lane_wise!(Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);

impl Neg for F {
    type Output = F;
    #[inline(always)]
    fn neg(self) -> F {
        // SAFETY: a value of type F exists only where the features do.
        F(unsafe { _mm256_xor_ps(self.0, _mm256_set1_ps(-0.0)) })
    }
}

/// All ones in the first `n` lanes.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), lanes)
    }
}

// SAFETY (every block below): `self` or an F exists only where the features do; for the pointer methods the callers
// make the touched elements readable or writable, and masked-out lanes are not touched.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    type F = F;
    type Wide = [__m256d; 2];
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        F(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> F {
        F(unsafe { _mm256_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_ptr_partial(self, p: *const f32, n: usize) -> F {
        F(unsafe { _mm256_maskload_ps(p, mask(n)) })
    }
    #[inline(always)]
    unsafe fn store_ptr(self, p: *mut f32, v: F) {
        unsafe { _mm256_storeu_ps(p, v.0) }
    }
    #[inline(always)]
    unsafe fn store_ptr_partial(self, p: *mut f32, v: F, n: usize) {
        unsafe { _mm256_maskstore_ps(p, mask(n), v.0) }
    }
    #[inline(always)]
    unsafe fn load_bf16_ptr(self, p: *const bf16) -> F {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            F(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_ptr(self, p: *mut bf16, v: F) {
        unsafe {
            let x = _mm256_castps_si256(v.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(x), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(x, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let quiet = _mm256_or_si256(x, _mm256_set1_epi32(0x40_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v.0, v.0));
            let high = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let packed = _mm256_permute4x64_epi64::<0x08>(_mm256_packus_epi32(high, high));
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(packed));
        }
    }
    #[inline(always)]
    fn first(self, n: usize, a: F, b: F) -> F {
        F(unsafe { _mm256_blendv_ps(b.0, a.0, _mm256_castsi256_ps(mask(n))) })
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        F(unsafe { _mm256_fmadd_ps(a.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        F(unsafe { _mm256_max_ps(a.0, b.0) })
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        F(unsafe { _mm256_min_ps(a.0, b.0) })
    }
    #[inline(always)]
    fn select_lt(self, a: F, b: F, x: F, y: F) -> F {
        F(unsafe { _mm256_blendv_ps(y.0, x.0, _mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0)) })
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        F(unsafe { _mm256_sqrt_ps(a.0) })
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        F(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a.0) })
    }
    #[inline(always)]
    fn copysign(self, a: F, sign: F) -> F {
        unsafe {
            let bit = _mm256_set1_ps(-0.0);
            F(_mm256_or_ps(_mm256_andnot_ps(bit, a.0), _mm256_and_ps(bit, sign.0)))
        }
    }
    #[inline(always)]
    fn round(self, a: F) -> F {
        F(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a.0) })
    }
    #[inline(always)]
    fn scale(self, a: F, n: F) -> F {
        // Two factors, so that results near the ends of the range need no exponent beyond it.
        unsafe {
            let n = _mm256_cvtps_epi32(n.0);
            let half = _mm256_srai_epi32::<1>(n);
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
            let high = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias));
            F(_mm256_mul_ps(_mm256_mul_ps(a.0, _mm256_castsi256_ps(low)), _mm256_castsi256_ps(high)))
        }
    }
    #[inline(always)]
    fn reduce_add(self, a: F) -> f32 {
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(a.0), _mm256_extractf128_ps::<1>(a.0));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn reduce_max(self, a: F) -> f32 {
        unsafe {
            let x = _mm_max_ps(_mm256_castps256_ps128(a.0), _mm256_extractf128_ps::<1>(a.0));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }
    #[inline(always)]
    fn mask_lt(self, a: F, b: F) -> u64 {
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0)) as u64 }
    }
    #[inline(always)]
    fn mask_le(self, a: F, b: F) -> u64 {
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(a.0, b.0)) as u64 }
    }
    #[inline(always)]
    fn wide_zero(self) -> [__m256d; 2] {
        unsafe { [_mm256_setzero_pd(); 2] }
    }
    #[inline(always)]
    unsafe fn load_wide_ptr(self, p: *const f32) -> [__m256d; 2] {
        unsafe { [_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p.add(4)))] }
    }
    #[inline(always)]
    unsafe fn load_wide_bf16_ptr(self, p: *const bf16) -> [__m256d; 2] {
        unsafe {
            let F(x) = self.load_bf16_ptr(p);
            [_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(x))]
        }
    }
    #[inline(always)]
    fn wide_fma(self, a: [__m256d; 2], b: [__m256d; 2], c: [__m256d; 2]) -> [__m256d; 2] {
        unsafe { [_mm256_fmadd_pd(a[0], b[0], c[0]), _mm256_fmadd_pd(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    fn wide_reduce_add(self, a: [__m256d; 2]) -> f64 {
        unsafe { wide_reduce_add(a) }
    }
    #[inline(always)]
    unsafe fn transpose8(self, src: [*const f32; 8], dst: *mut f32, dst_ld: usize) {
        unsafe { transpose8(src, dst, dst_ld) }
    }
}

/// The body of [`Simd::wide_reduce_add`] from the lower and the upper four lanes.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
pub(super) unsafe fn wide_reduce_add([low, high]: [__m256d; 2]) -> f64 {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let x = _mm256_add_pd(low, high);
        let x = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
        _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)))
    }
}

/// The body of [`Simd::transpose8`]: pairs, then quads, then the halves of the registers change places.
///
/// # Safety
/// As [`Simd::transpose8`], and the processor must have AVX2.
#[inline(always)]
pub(super) unsafe fn transpose8(src: [*const f32; 8], dst: *mut f32, dst_ld: usize) {
    // SAFETY: the caller promises AVX2, the rows and the block.
    unsafe {
        // Plain loops: closures are not always compiled for the instruction set.
        let mut rows = [_mm256_setzero_ps(); 8];
        for i in 0..8 {
            rows[i] = _mm256_loadu_ps(src[i]);
        }
        let top = quad(rows[0], rows[1], rows[2], rows[3]);
        let bottom = quad(rows[4], rows[5], rows[6], rows[7]);
        for j in 0..4 {
            _mm256_storeu_ps(dst.add(j * dst_ld), _mm256_permute2f128_ps::<0x20>(top[j], bottom[j]));
            _mm256_storeu_ps(dst.add((j + 4) * dst_ld), _mm256_permute2f128_ps::<0x31>(top[j], bottom[j]));
        }
    }
}

/// Column `i` of four rows, in each half of the registers. One half of a block after the other needs 8 registers, not 16.
///
/// # Safety
/// The processor must have AVX2.
// No closure: without optimisation for speed it would be a function without the features, which calls every intrinsic.
#[inline(always)]
unsafe fn quad(a: __m256, b: __m256, c: __m256, d: __m256) -> [__m256; 4] {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let (p, q) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (r, s) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0x44>(p, r),
            _mm256_shuffle_ps::<0xee>(p, r),
            _mm256_shuffle_ps::<0x44>(q, s),
            _mm256_shuffle_ps::<0xee>(q, s),
        ]
    }
}

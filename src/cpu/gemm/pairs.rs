//! Copies into words of two bf16, the terms 2w and 2w + 1 of a sum. Where the sum ends in the middle of a word, the rest of
//! the word is 0.

use half::bf16;

use super::NR_MAX;
use super::pack::{Transpose, Words, clear_columns};
use crate::cpu::isa::Isa;
use crate::cpu::simd::{Kernel, Simd};

/// Two neighbours of a row as a word.
struct Pair;

impl Words for Pair {
    type Element = bf16;
    const TERMS: usize = 2;

    #[inline(always)]
    unsafe fn word(p: *const bf16) -> f32 {
        // SAFETY: the caller's promise; an unaligned read needs no alignment. Moving an f32 keeps its bits.
        unsafe { p.cast::<f32>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn transpose8<S: Simd>(s: S, src: *const bf16, src_ld: usize, dst: *mut f32, dst_ld: usize) {
        // SAFETY: the caller's extents, passed on.
        unsafe { s.transpose8(std::array::from_fn(|i| src.add(i * src_ld).cast()), dst, dst_ld) }
    }
}

/// The word of two terms.
#[inline(always)]
fn word(first: bf16, second: bf16) -> f32 {
    f32::from_bits(u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16)
}

/// One panel of B from its transpose: word w of column j is made of `src[j * src_ld + 2 w..]`, `k` terms in all.
///
/// # Safety
/// The elements named must be readable in `src`, `k.div_ceil(2) * nr` words writable in `dst`, and the two must not overlap.
pub(super) unsafe fn panel_from_columns(
    isa: Isa,
    (src, src_ld): (*const bf16, usize),
    k: usize,
    cols: usize,
    dst: *mut f32,
    nr: usize,
) {
    // SAFETY: the caller's extents, passed on; the last term of an odd sum has a word of its own.
    unsafe {
        Transpose::<Pair> { src, src_ld, rows: cols, cols: k / 2, dst, dst_ld: nr, ahead: true }.run(isa);
        if k % 2 == 1 {
            for j in 0..cols {
                *dst.add(k / 2 * nr + j) = word(*src.add(j * src_ld + k - 1), bf16::ZERO);
            }
        }
        clear_columns(k.div_ceil(2), cols, dst, nr);
    }
}

/// One panel of B from row-major rows: word w of column j is made of rows 2 w and 2 w + 1, `k` rows in all.
///
/// # Safety
/// The elements named must be readable in `src`, `k.div_ceil(2) * nr` words writable in `dst`, and the two must not overlap.
pub(super) unsafe fn panel_from_rows(
    isa: Isa,
    (src, src_ld): (*const bf16, usize),
    k: usize,
    cols: usize,
    dst: *mut f32,
    nr: usize,
) {
    // SAFETY: the caller's extents, passed on.
    unsafe {
        isa.dispatch(Interleave { src, src_ld, rows: k, cols, dst, dst_ld: nr });
        clear_columns(k.div_ceil(2), cols, dst, nr);
    }
}

/// Rows 2 w and 2 w + 1 of `src` become row w of `dst`.
///
/// # Safety
/// `rows` rows of `cols` elements must be readable in `src`, `rows.div_ceil(2)` rows of `cols` words writable in `dst`, and the
/// two must not overlap.
pub(super) unsafe fn interleave(
    isa: Isa,
    (src, src_ld): (*const bf16, usize),
    (rows, cols): (usize, usize),
    (dst, dst_ld): (*mut f32, usize),
) {
    isa.dispatch(Interleave { src, src_ld, rows, cols, dst, dst_ld });
}

struct Interleave {
    src: *const bf16,
    src_ld: usize,
    rows: usize,
    cols: usize,
    dst: *mut f32,
    dst_ld: usize,
}

impl Kernel for Interleave {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { src, src_ld, rows, cols, dst, dst_ld } = self;
        let whole = cols - cols % S::LANES;
        for w in 0..rows.div_ceil(2) {
            let first = src.wrapping_add(2 * w * src_ld);
            let second = first.wrapping_add(src_ld);
            let dst = dst.wrapping_add(w * dst_ld);
            let paired = 2 * w + 1 < rows;
            // SAFETY: the caller's extents; a row without a partner is read alone.
            unsafe {
                if paired {
                    for j in (0..whole).step_by(S::LANES) {
                        // The next panel's part of the rows.
                        s.prefetch(first.wrapping_add(j + NR_MAX).cast());
                        s.prefetch(second.wrapping_add(j + NR_MAX).cast());
                        s.interleave_bf16_ptr(first.add(j), second.add(j), dst.add(j));
                    }
                }
                for j in if paired { whole } else { 0 }..cols {
                    *dst.add(j) = word(*first.add(j), if paired { *second.add(j) } else { bf16::ZERO });
                }
            }
        }
    }
}

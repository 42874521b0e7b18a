//! Copies into words of two bf16, the terms 2w and 2w + 1 of a sum. Where the sum ends in the middle of a word, the rest of
//! the word is 0.

use half::bf16;

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
        isa.dispatch(PanelFromRows { src, src_ld, k, cols, dst, nr });
        clear_columns(k.div_ceil(2), cols, dst, nr);
    }
}

struct PanelFromRows {
    src: *const bf16,
    src_ld: usize,
    k: usize,
    cols: usize,
    dst: *mut f32,
    nr: usize,
}

impl Kernel for PanelFromRows {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { src, src_ld, k, cols, dst, nr } = self;
        for w in 0..k.div_ceil(2) {
            // SAFETY: rows below k and a row of the panel, inside what the caller made readable and writable.
            let (first, second, dst) = unsafe {
                let row = |r: usize| std::slice::from_raw_parts(src.add(r * src_ld), cols);
                let second = if 2 * w + 1 < k { row(2 * w + 1) } else { &[] };
                (row(2 * w), second, std::slice::from_raw_parts_mut(dst.add(w * nr), cols))
            };
            // The next panel's part of the rows.
            s.prefetch(first.as_ptr().wrapping_add(nr).cast());
            s.prefetch(second.as_ptr().wrapping_add(nr).cast());
            interleave(s, first, second, dst);
        }
    }
}

/// `dst[j]` = the word of `first[j]` and `second[j]`, which is 0 where there is no `second`. `dst` may be longer than they are.
#[inline(always)]
pub(super) fn interleave<S: Simd>(s: S, first: &[bf16], second: &[bf16], dst: &mut [f32]) {
    let dst = &mut dst[..first.len()];
    if second.is_empty() {
        dst.iter_mut().zip(first).for_each(|(dst, &first)| *dst = word(first, bf16::ZERO));
        return;
    }
    assert_eq!(first.len(), second.len());
    let whole = first.len() - first.len() % S::LANES;
    for j in (0..whole).step_by(S::LANES) {
        // SAFETY: LANES elements from j on are inside all three slices.
        unsafe {
            s.interleave_bf16_ptr(first.as_ptr().add(j), second.as_ptr().add(j), dst.as_mut_ptr().add(j))
        };
    }
    for j in whole..first.len() {
        dst[j] = word(first[j], second[j]);
    }
}

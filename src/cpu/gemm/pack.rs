//! Copies into the layouts that the micro-kernels read.

use super::{A_LD, NR_MAX};
use crate::cpu::isa::Isa;
use crate::cpu::simd::{Kernel, Simd};

/// `dst[j * dst_ld + i] = src[i * src_ld + j]` for `i < rows`, `j < cols`.
///
/// # Safety
/// The elements named must be readable in `src` and writable in `dst`, and the two must not overlap.
pub(crate) unsafe fn transpose(
    isa: Isa,
    (src, src_ld): (*const f32, usize),
    rows: usize,
    cols: usize,
    (dst, dst_ld): (*mut f32, usize),
) {
    isa.dispatch(Transpose { src, src_ld, rows, cols, dst, dst_ld, ahead: false });
}

struct Transpose {
    src: *const f32,
    src_ld: usize,
    rows: usize,
    cols: usize,
    dst: *mut f32,
    dst_ld: usize,
    /// Prefetch the `rows` rows that follow: the next call will read them.
    ahead: bool,
}

impl Kernel for Transpose {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { src, src_ld, rows, cols, dst, dst_ld, ahead } = self;
        // Rows innermost: the writes of a block row of `dst` then follow each other.
        for j in (0..cols).step_by(8) {
            for i in (0..rows).step_by(8) {
                // Two blocks share a cache line.
                if ahead && j % 16 == 0 {
                    (i..i + 8).for_each(|i| s.prefetch(src.wrapping_add((rows + i) * src_ld + j)));
                }
                // SAFETY: i < rows and j < cols, and both blocks end inside the matrices `transpose` was given.
                unsafe {
                    let (from, to) = (src.add(i * src_ld + j), dst.add(j * dst_ld + i));
                    if i + 8 <= rows && j + 8 <= cols {
                        s.transpose8(from, src_ld, to, dst_ld);
                    } else {
                        for jj in 0..8.min(cols - j) {
                            for ii in 0..8.min(rows - i) {
                                *to.add(jj * dst_ld + ii) = *from.add(ii * src_ld + jj);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One panel of B from row-major rows: `dst[r * nr + j] = src[r * src_ld + j]` for `r < rows`, `j < cols`, zeros for
/// `cols <= j < nr`.
///
/// # Safety
/// The elements named must be readable in `src`, `rows * nr` writable in `dst`, and the two must not overlap.
pub(crate) unsafe fn panel_from_rows(
    isa: Isa,
    (src, src_ld): (*const f32, usize),
    rows: usize,
    cols: usize,
    dst: *mut f32,
    nr: usize,
) {
    isa.dispatch(PanelFromRows { src, src_ld, rows, cols, dst, nr });
}

struct PanelFromRows {
    src: *const f32,
    src_ld: usize,
    rows: usize,
    cols: usize,
    dst: *mut f32,
    nr: usize,
}

impl Kernel for PanelFromRows {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { src, src_ld, rows, cols, dst, nr } = self;
        for r in 0..rows {
            for j in (0..nr).step_by(S::LANES) {
                let n = cols.saturating_sub(j);
                let from = src.wrapping_add(r * src_ld + j);
                // The next panel's part of the row.
                s.prefetch(from.wrapping_add(nr));
                // SAFETY: `n` elements are readable from column j on (none is read when n is 0), and nr is a multiple of
                // LANES, so the store stays inside row r of the panel.
                unsafe {
                    let v = if n >= S::LANES { s.load_ptr(from) } else { s.load_ptr_partial(from, n) };
                    s.store_ptr(dst.add(r * nr + j), v);
                }
            }
        }
    }
}

/// One panel of B from its transpose: `dst[c * nr + j] = src[j * src_ld + c]` for `c < k`, `j < cols`, zeros for
/// `cols <= j < nr`.
///
/// # Safety
/// The elements named must be readable in `src`, `k * nr` writable in `dst`, and the two must not overlap.
pub(crate) unsafe fn panel_from_columns(
    isa: Isa,
    (src, src_ld): (*const f32, usize),
    k: usize,
    cols: usize,
    dst: *mut f32,
    nr: usize,
) {
    debug_assert!(nr <= NR_MAX);
    // SAFETY: the caller's extents, passed on; the zeros fill the rest of each row of the panel.
    unsafe {
        isa.dispatch(Transpose { src, src_ld, rows: cols, cols: k, dst, dst_ld: nr, ahead: true });
        if cols < nr {
            (0..k).for_each(|c| dst.add(c * nr + cols).write_bytes(0, nr - cols));
        }
    }
}

/// A block of A from its transpose: `dst[i * A_LD + r] = src[r * src_ld + i]` for `r < k`, `i < rows`.
///
/// # Safety
/// The elements named must be readable in `src` and writable in `dst`, and the two must not overlap.
pub(crate) unsafe fn a_from_columns(
    isa: Isa,
    (src, src_ld): (*const f32, usize),
    k: usize,
    rows: usize,
    dst: *mut f32,
) {
    // SAFETY: the caller's extents, passed on.
    unsafe { transpose(isa, (src, src_ld), k, rows, (dst, A_LD)) }
}

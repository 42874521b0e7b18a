//! Copies into the layouts that the micro-kernels read, words of one f32; bf16 is widened on the way.

use super::{A_LD, NR_MAX};
use crate::cpu::isa::Isa;
use crate::cpu::simd::{Kernel, Simd, Storage};

/// How a transposed copy makes words of the elements of a row.
pub(super) trait Words {
    /// What the source holds.
    type Element;
    /// Elements of a word.
    const TERMS: usize;

    /// The word at `p`, which needs no alignment.
    ///
    /// # Safety
    /// The elements of the word must be readable.
    unsafe fn word(p: *const Self::Element) -> f32;

    /// Eight words from each of eight rows that are `src_ld` elements apart, transposed: word j of row i to
    /// `dst[j * dst_ld + i]`.
    ///
    /// # Safety
    /// The words must be readable and the block writable, and the two must not overlap.
    unsafe fn transpose8<S: Simd>(
        s: S,
        src: *const Self::Element,
        src_ld: usize,
        dst: *mut f32,
        dst_ld: usize,
    );
}

/// Words of one element.
pub(super) struct Single<T>(std::marker::PhantomData<T>);

impl<T: Storage> Words for Single<T> {
    type Element = T;
    const TERMS: usize = 1;

    #[inline(always)]
    unsafe fn word(p: *const T) -> f32 {
        // SAFETY: the caller's promise; an unaligned read needs no alignment.
        unsafe { p.read_unaligned() }.to_f32()
    }

    #[inline(always)]
    unsafe fn transpose8<S: Simd>(s: S, src: *const T, src_ld: usize, dst: *mut f32, dst_ld: usize) {
        // f32 is moved where it lies, bf16 through a widened copy of the block.
        // SAFETY: the caller's extents, passed on.
        unsafe {
            if size_of::<T>() == size_of::<f32>() {
                s.transpose8(std::array::from_fn(|i| src.add(i * src_ld).cast()), dst, dst_ld);
            } else {
                let mut block = [[0.0f32; 8]; 8];
                for (i, row) in block.iter_mut().enumerate() {
                    for (j, word) in row.iter_mut().enumerate() {
                        *word = (*src.add(i * src_ld + j)).to_f32();
                    }
                }
                s.transpose8(std::array::from_fn(|i| block[i].as_ptr()), dst, dst_ld);
            }
        }
    }
}

/// `dst[j * dst_ld + i]` = word j of `src[i * src_ld..]` for `i < rows`, `j < cols`.
pub(super) struct Transpose<W: Words> {
    pub src: *const W::Element,
    pub src_ld: usize,
    pub rows: usize,
    /// In words.
    pub cols: usize,
    pub dst: *mut f32,
    pub dst_ld: usize,
    /// Prefetch the `rows` rows that follow: the next call will read them.
    pub ahead: bool,
}

impl<W: Words> Transpose<W> {
    /// Does it.
    ///
    /// # Safety
    /// The words named must be readable in `src` and writable in `dst`, and the two must not overlap.
    pub unsafe fn run(self, isa: Isa) {
        isa.dispatch(self);
    }
}

impl<W: Words> Kernel for Transpose<W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { src, src_ld, rows, cols, dst, dst_ld, ahead } = self;
        // Rows innermost: the writes of a block row of `dst` then follow each other.
        for j in (0..cols).step_by(8) {
            for i in (0..rows).step_by(8) {
                // Two blocks share a cache line.
                if ahead && j % 16 == 0 {
                    let next = |i: usize| src.wrapping_add((rows + i) * src_ld + j * W::TERMS);
                    (i..i + 8).for_each(|i| s.prefetch(next(i).cast()));
                }
                // SAFETY: i < rows and j < cols, and both blocks end inside the matrices that `run` was given.
                unsafe {
                    let (from, to) = (src.add(i * src_ld + j * W::TERMS), dst.add(j * dst_ld + i));
                    if i + 8 <= rows && j + 8 <= cols {
                        W::transpose8(s, from, src_ld, to, dst_ld);
                    } else {
                        for jj in 0..8.min(cols - j) {
                            for ii in 0..8.min(rows - i) {
                                *to.add(jj * dst_ld + ii) = W::word(from.add(ii * src_ld + jj * W::TERMS));
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
pub(crate) unsafe fn panel_from_rows<T: Storage>(
    isa: Isa,
    (src, src_ld): (*const T, usize),
    rows: usize,
    cols: usize,
    dst: *mut f32,
    nr: usize,
) {
    isa.dispatch(PanelFromRows { src, src_ld, rows, cols, dst, nr });
}

struct PanelFromRows<T> {
    src: *const T,
    src_ld: usize,
    rows: usize,
    cols: usize,
    dst: *mut f32,
    nr: usize,
}

impl<T: Storage> Kernel for PanelFromRows<T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { src, src_ld, rows, cols, dst, nr } = self;
        for r in 0..rows {
            for j in (0..nr).step_by(S::LANES) {
                let n = cols.saturating_sub(j);
                let from = src.wrapping_add(r * src_ld + j);
                // The next panel's part of the row.
                s.prefetch(from.wrapping_add(nr).cast());
                // SAFETY: `n` elements are readable from column j on (none is read when n is 0), and nr is a multiple of
                // LANES, so the store stays inside row r of the panel.
                unsafe {
                    let v =
                        if n >= S::LANES { T::load_ptr(s, from) } else { T::load_ptr_partial(s, from, n) };
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
pub(crate) unsafe fn panel_from_columns<T: Storage>(
    isa: Isa,
    (src, src_ld): (*const T, usize),
    k: usize,
    cols: usize,
    dst: *mut f32,
    nr: usize,
) {
    debug_assert!(nr <= NR_MAX);
    // SAFETY: the caller's extents, passed on.
    unsafe {
        Transpose::<Single<T>> { src, src_ld, rows: cols, cols: k, dst, dst_ld: nr, ahead: true }.run(isa);
        clear_columns(k, cols, dst, nr);
    }
}

/// Zeros in the columns from `cols` on of a panel of `k` rows.
///
/// # Safety
/// `k * nr` elements must be writable in `dst`.
pub(super) unsafe fn clear_columns(k: usize, cols: usize, dst: *mut f32, nr: usize) {
    if cols < nr {
        // SAFETY: the columns lie inside the panel.
        (0..k).for_each(|c| unsafe { dst.add(c * nr + cols).write_bytes(0, nr - cols) });
    }
}

/// A block of A from its transpose: `dst[i * A_LD + r] = src[r * src_ld + i]` for `r < k`, `i < rows`.
///
/// # Safety
/// The elements named must be readable in `src` and writable in `dst`, and the two must not overlap.
pub(crate) unsafe fn a_from_columns<T: Storage>(
    isa: Isa,
    (src, src_ld): (*const T, usize),
    k: usize,
    rows: usize,
    dst: *mut f32,
) {
    // SAFETY: the caller's extents, passed on.
    unsafe {
        Transpose::<Single<T>> { src, src_ld, rows: k, cols: rows, dst, dst_ld: A_LD, ahead: false }.run(isa);
    }
}

//! Where the rows of an operand come from, and what happens to finished rows of C.

use super::pairs;
use crate::cpu::activation;
use crate::cpu::isa::Isa;
use crate::cpu::simd::{Kernel, Simd, Storage};
use crate::cpu::vector::Convert;
use crate::ops::activation::Activation;
use half::bf16;
use std::ops::Range;

/// A matrix whose rows are produced on demand while an operand is packed.
pub(crate) trait Rows: Sync {
    /// Writes columns `cols` of each row in `rows` to `out`, one row every `ld` elements.
    fn fill<O: Storage>(&self, isa: Isa, rows: Range<usize>, cols: Range<usize>, out: &mut [O], ld: usize);

    /// Writes columns `cols` of each two rows in `rows` to one row of `out` as words of two bf16, one row every `ld` words. A row
    /// without a partner gets zeros.
    fn fill_pairs(&self, isa: Isa, rows: Range<usize>, cols: Range<usize>, out: &mut [f32], ld: usize) {
        /// Elements that are filled at a time, so that they are read again from L1.
        const FILLED: usize = 4096;
        let mut filled = [bf16::ZERO; FILLED];
        let width = cols.len();
        let step = 2 * (FILLED / 2 / width.max(1));
        assert!(step > 0, "tiles are narrower");
        for (start, out) in rows.clone().step_by(step).zip(out.chunks_mut(step / 2 * ld)) {
            let part = start..rows.end.min(start + step);
            let count = part.len();
            self.fill(isa, part, cols.clone(), &mut filled, width);
            isa.dispatch(Interleave { row: |r| &filled[r * width..][..width], rows: 0..count, out, ld });
        }
    }

    /// The matrix from its first element on and the distance of its rows, where row r is simply row r of a matrix of f32.
    fn in_place(&self) -> Option<(&[f32], usize)> {
        None
    }

    /// Hints that columns `cols` of `row` are filled soon.
    fn prefetch(&self, row: usize, cols: Range<usize>);
}

/// Prefetches every cache line of `x` into L2.
#[inline]
pub(super) fn prefetch_lines<T>(x: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in x.chunks(64 / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch never faults, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// Each two rows of bf16 as one row of words.
struct Interleave<'a, R> {
    row: R,
    rows: Range<usize>,
    out: &'a mut [f32],
    ld: usize,
}

impl<'s, R: Fn(usize) -> &'s [bf16]> Kernel for Interleave<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { row, rows, out, ld } = self;
        for (start, out) in rows.clone().step_by(2).zip(out.chunks_mut(ld)) {
            let first = row(start);
            if start + 1 < rows.end {
                pairs::interleave(s, first, row(start + 1), out);
            } else {
                pairs::interleave(s, first, &[], out);
            }
        }
    }
}

/// Copies elements, rounding or widening them where the types differ.
#[inline]
pub(crate) fn convert<T: Storage, O: Storage>(isa: Isa, from: &[T], to: &mut [O]) {
    if size_of::<T>() == size_of::<O>() {
        // There is one type of each size.
        to.copy_from_slice(bytemuck::cast_slice(from));
    } else {
        isa.dispatch(Convert { from, to });
    }
}

/// Rows of a row-major matrix, taken in order or through an index (already checked against the matrix).
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub data: &'a [T],
    /// Columns, which is also the distance of two rows.
    pub width: usize,
    /// Row r is row `index[r]` of the data.
    pub index: Option<&'a [u32]>,
}

impl<T: Storage> Rows for Matrix<'_, T> {
    #[inline]
    fn fill<O: Storage>(&self, isa: Isa, rows: Range<usize>, cols: Range<usize>, out: &mut [O], ld: usize) {
        for (row, out) in rows.zip(out.chunks_mut(ld)) {
            let row = self.index.map_or(row, |index| index[row] as usize);
            let at = row * self.width;
            convert(isa, &self.data[at + cols.start..at + cols.end], &mut out[..cols.len()]);
        }
    }

    fn fill_pairs(&self, isa: Isa, rows: Range<usize>, cols: Range<usize>, out: &mut [f32], ld: usize) {
        debug_assert_eq!(size_of::<T>(), size_of::<bf16>());
        let data: &[bf16] = bytemuck::cast_slice(self.data);
        let row = |r: usize| {
            let at = self.index.map_or(r, |index| index[r] as usize) * self.width;
            &data[at + cols.start..at + cols.end]
        };
        isa.dispatch(Interleave { row, rows, out, ld });
    }

    fn in_place(&self) -> Option<(&[f32], usize)> {
        T::as_f32(self.data).filter(|_| self.index.is_none()).map(|data| (data, self.width))
    }

    #[inline]
    fn prefetch(&self, row: usize, cols: Range<usize>) {
        let at = self.index.map_or(row, |index| index[row] as usize) * self.width;
        prefetch_lines(&self.data[at + cols.start..at + cols.end]);
    }
}

/// Pre-activations and how they become the hidden row of an MLP: `act(gate) * up` when gated, `act(pre)` otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Hidden<'a, T> {
    /// `[rows, 2 width]` (gate, then up) when gated, `[rows, width]` otherwise.
    pub pre: &'a [T],
    /// Hidden width.
    pub width: usize,
    pub activation: Activation,
    pub gated: bool,
}

impl<'a, T> Hidden<'a, T> {
    /// Elements of a row of `pre`.
    pub fn pre_width(&self) -> usize {
        if self.gated { 2 * self.width } else { self.width }
    }

    /// Gate and up (empty when not gated) of one row.
    pub fn parts(&self, row: usize) -> (&'a [T], &'a [T]) {
        self.pre[row * self.pre_width()..][..self.pre_width()].split_at(self.width)
    }
}

/// Hidden rows, computed while packing, each times `scale` of its row.
pub(crate) struct Activated<'a, T, W> {
    pub hidden: Hidden<'a, T>,
    /// Factor of a row; `None` multiplies nothing.
    pub scale: Option<W>,
}

impl<T: Storage, W: Fn(usize) -> f32 + Sync> Rows for Activated<'_, T, W> {
    fn fill<O: Storage>(&self, isa: Isa, rows: Range<usize>, cols: Range<usize>, out: &mut [O], ld: usize) {
        isa.dispatch(FillActivated { source: self, rows, cols, out, ld });
    }

    #[inline]
    fn prefetch(&self, row: usize, cols: Range<usize>) {
        let (gate, up) = self.hidden.parts(row);
        prefetch_lines(&gate[cols.clone()]);
        prefetch_lines(if up.is_empty() { up } else { &up[cols] });
    }
}

struct FillActivated<'a, 'b, T, W, O> {
    source: &'a Activated<'b, T, W>,
    rows: Range<usize>,
    cols: Range<usize>,
    out: &'a mut [O],
    ld: usize,
}

impl<T: Storage, W: Fn(usize) -> f32, O: Storage> Kernel for FillActivated<'_, '_, T, W, O> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Hidden { activation, gated, .. } = self.source.hidden;
        for (row, out) in self.rows.zip(self.out.chunks_mut(self.ld)) {
            let (gate, up) = self.source.hidden.parts(row);
            let gate = &gate[self.cols.clone()];
            let scale = s.splat(self.source.scale.as_ref().map_or(1.0, |scale| scale(row)));
            for (at, out) in (0..).step_by(S::LANES).zip(out[..gate.len()].chunks_mut(S::LANES)) {
                let end = at + out.len();
                let mut y = activation::value(s, activation, s.load_partial(&gate[at..end], 0.0)) * scale;
                if gated {
                    y = y * s.load_partial(&up[self.cols.start + at..self.cols.start + end], 0.0);
                }
                s.store_partial(out, y);
            }
        }
    }
}

/// What happens to a row of C once its sums are complete and still in the cache.
pub(crate) trait Finish: Sync {
    /// Whether [`Finish::row`] does anything.
    const ACTIVE: bool = true;
    /// Whether it must see all columns of a row at once.
    const WHOLE_ROWS: bool = false;
    /// `values` are the columns from `column` on of row `row`.
    fn row(&self, isa: Isa, row: usize, column: usize, values: &mut [f32]);
}

/// Leaves C as it is.
pub(crate) struct Keep;

impl Finish for Keep {
    const ACTIVE: bool = false;
    fn row(&self, _: Isa, _: usize, _: usize, _: &mut [f32]) {}
}

/// Adds a bias to every row.
pub(crate) struct AddBias<'a>(pub &'a [f32]);

impl Finish for AddBias<'_> {
    fn row(&self, _: Isa, _: usize, column: usize, values: &mut [f32]) {
        values.iter_mut().zip(&self.0[column..]).for_each(|(y, b)| *y += b);
    }
}

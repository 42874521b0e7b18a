//! Where the rows of an operand come from, and what happens to finished rows of C.

use crate::cpu::activation;
use crate::cpu::isa::Isa;
use crate::cpu::simd::{Kernel, Simd};
use crate::ops::activation::Activation;
use std::ops::Range;

/// A matrix whose rows are produced on demand while an operand is packed.
pub(crate) trait Rows: Sync {
    /// Writes columns `cols` of each row in `rows` to `out`, one row every `ld` elements.
    fn fill(&self, isa: Isa, rows: Range<usize>, cols: Range<usize>, out: &mut [f32], ld: usize);

    /// The matrix from its first element on and the distance of its rows, where row r is simply row r of a matrix.
    fn in_place(&self) -> Option<(&[f32], usize)> {
        None
    }

    /// Hints that columns `cols` of `row` are filled soon.
    fn prefetch(&self, row: usize, cols: Range<usize>);
}

/// Prefetches every cache line of `x` into L2.
#[inline]
fn prefetch_lines(x: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in x.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch never faults, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// Rows of a row-major matrix, taken in order or through an index (already checked against the matrix).
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub data: &'a [f32],
    /// Columns, which is also the distance of two rows.
    pub width: usize,
    /// Row r is row `index[r]` of the data.
    pub index: Option<&'a [u32]>,
}

impl Rows for Matrix<'_> {
    #[inline]
    fn fill(&self, _: Isa, rows: Range<usize>, cols: Range<usize>, out: &mut [f32], ld: usize) {
        for (row, out) in rows.zip(out.chunks_mut(ld)) {
            let row = self.index.map_or(row, |index| index[row] as usize);
            let at = row * self.width;
            out[..cols.len()].copy_from_slice(&self.data[at + cols.start..at + cols.end]);
        }
    }

    fn in_place(&self) -> Option<(&[f32], usize)> {
        self.index.is_none().then_some((self.data, self.width))
    }

    #[inline]
    fn prefetch(&self, row: usize, cols: Range<usize>) {
        let at = self.index.map_or(row, |index| index[row] as usize) * self.width;
        prefetch_lines(&self.data[at + cols.start..at + cols.end]);
    }
}

/// Pre-activations and how they become the hidden row of an MLP: `act(gate) * up` when gated, `act(pre)` otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Hidden<'a> {
    /// `[rows, 2 width]` (gate, then up) when gated, `[rows, width]` otherwise.
    pub pre: &'a [f32],
    /// Hidden width.
    pub width: usize,
    pub activation: Activation,
    pub gated: bool,
}

impl<'a> Hidden<'a> {
    /// Elements of a row of `pre`.
    pub fn pre_width(&self) -> usize {
        if self.gated { 2 * self.width } else { self.width }
    }

    /// Gate and up (empty when not gated) of one row.
    pub fn parts(&self, row: usize) -> (&'a [f32], &'a [f32]) {
        self.pre[row * self.pre_width()..][..self.pre_width()].split_at(self.width)
    }
}

/// Hidden rows, computed while packing, each times `scale` of its row.
pub(crate) struct Activated<'a, W> {
    pub hidden: Hidden<'a>,
    /// Factor of a row; `None` multiplies nothing.
    pub scale: Option<W>,
}

impl<W: Fn(usize) -> f32 + Sync> Rows for Activated<'_, W> {
    fn fill(&self, isa: Isa, rows: Range<usize>, cols: Range<usize>, out: &mut [f32], ld: usize) {
        isa.dispatch(FillActivated { source: self, rows, cols, out, ld });
    }

    #[inline]
    fn prefetch(&self, row: usize, cols: Range<usize>) {
        let (gate, up) = self.hidden.parts(row);
        prefetch_lines(&gate[cols.clone()]);
        prefetch_lines(if up.is_empty() { up } else { &up[cols] });
    }
}

struct FillActivated<'a, 'b, W> {
    source: &'a Activated<'b, W>,
    rows: Range<usize>,
    cols: Range<usize>,
    out: &'a mut [f32],
    ld: usize,
}

impl<W: Fn(usize) -> f32> Kernel for FillActivated<'_, '_, W> {
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

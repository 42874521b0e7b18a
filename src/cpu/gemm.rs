//! Dense blocks of a matrix product: micro-kernels, packing, and the loop over one packed block.
//!
//! The engine follows the classic decomposition (Goto & van de Geijn 2008, BLIS): K is cut into blocks of `KC`, a
//! block of A rows is copied into scratch, B is repacked into *panels* of `nr` columns that a micro-kernel reads front
//! to back, and the micro-kernel keeps an `mr x nr` tile of C in registers while it walks one K block:
//!
//! ```text
//! for each K block                     a block of A rows (L2) and all B panels of this K block
//!   for each B panel  (nr columns)     kc x nr, in L1 when kc is small
//!     for each A panel (<= mr rows)    streams from L2
//!       for each k                     mr broadcasts of A times nr / LANES vectors of B
//! ```
//!
//! Two choices differ from the textbook. A stays row-major (rows `A_LD` apart, a compile-time constant, so that every
//! address is one base plus an immediate): copying a gathered or freshly activated row is then a plain write, no
//! transpose. And there is a micro-kernel for every height up to `mr`, with rows shared out evenly over A panels:
//! ragged expert groups cost no padding.
//!
//! Every element of C is summed in the same order however the tiles are cut: k ascending inside a K block, then the
//! blocks in order. This is what makes results independent of thread count and tile sizes.
//!
//! Packed operands are made of 32-bit *words*. A word holds one term of the sum as f32, to which bf16 operands are widened
//! on their way; or two terms as bf16, where the processor multiplies and adds pairs. Everything but the innermost
//! instruction and the packing is the same for both.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
pub(crate) mod by_groups;
pub(crate) mod by_rows;
mod few_rows;
mod micro;
pub(crate) mod pack;
mod pairs;
mod portable;
pub(crate) mod rows;
pub mod serial;

use few_rows::{Turned, Unpacked};

use super::isa::Isa;
use super::simd::Storage;
use super::threads::Threads;
use std::ops::Range;

/// Who computes: a pool of threads and the instruction set of its kernels.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// The worker threads.
    pub threads: &'a Threads,
    /// The instruction set; [`Isa::detect`] unless a test forces one.
    pub isa: Isa,
}

/// Largest depth of a K block in words. Longer blocks update C less often; at this depth a 32-wide panel of B (64 KiB) comes from
/// L2 at 18 bytes a cycle at most, which hardware prefetch hides (256 and 512 measured alike within a few percent).
pub(crate) const KC: usize = 512;

/// Distance of two rows of a packed A block in words: 33 cache lines, so that equal columns fall into different cache sets.
pub(crate) const A_LD: usize = KC + 16;

/// Most rows of A in one block: eight panels of 14 rows, at most 224 KiB, a small part of L2.
pub(crate) const MC: usize = 112;

/// Panel widths divide this; packed sizes are rounded up to it so that they do not depend on the instruction set.
pub(crate) const NR_MAX: usize = 32;

/// How a micro-kernel finds its operands.
pub(crate) trait Operands {
    /// Words from one row of A to the next: a constant, so that every address is one base plus an immediate, or none, and the
    /// operand's step says.
    const A_ROW: Option<usize>;
    /// Whether A's terms are neighbours. Otherwise they are whole rows, the operand's step apart.
    const A_NEIGHBOURS: bool;
    /// Whether B is cut into panels `[k][nr]`. Otherwise its terms are whole rows, the operand's step apart.
    const B_PANELS: bool;
}

/// For products along rows: A row by row ([`A_LD`] apart), B in panels, which many rows of A share.
pub(crate) struct Blocked;

impl Operands for Blocked {
    const A_ROW: Option<usize> = Some(A_LD);
    const A_NEIGHBOURS: bool = true;
    const B_PANELS: bool = true;
}

/// For products summed along rows: both operands are plain rows, one row a term, any distance apart. Packing is copying, and
/// what already lies in plain rows is read in place.
pub(crate) struct Along;

impl Operands for Along {
    const A_ROW: Option<usize> = Some(1);
    const A_NEIGHBOURS: bool = false;
    const B_PANELS: bool = false;
}

/// An operand of [`block`].
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    pub ptr: *const f32,
    /// Words from one term to the next, or from one row to the next, where [`Operands`] leaves it open.
    pub step: usize,
}

impl Operand {
    /// One in the layout [`Blocked`].
    pub fn blocked(ptr: *const f32) -> Self {
        Self { ptr, step: 0 }
    }
}

/// One call of a micro-kernel: `C (+)= alpha * A B` for a tile of C, operands laid out as [`Operands`] says.
#[derive(Clone, Copy)]
pub(crate) struct Tile<C> {
    /// Depth in words, at most [`KC`].
    k: usize,
    a: *const f32,
    b: *const f32,
    a_step: usize,
    b_step: usize,
    /// C's first element; rows are `ldc` apart.
    c: *mut C,
    ldc: usize,
    /// Columns of C to write, at most `nr`.
    n: usize,
    alpha: f32,
    /// Add to C instead of overwriting it.
    accumulate: bool,
}

/// A micro-kernel for a fixed number of rows, writing a C of this type.
type MicroFn<C> = unsafe fn(&Tile<C>);

/// Micro-kernels of one instruction set for operands in one layout: the i-th computes `i + 1` rows.
type Heights<C> = &'static [MicroFn<C>];

/// The micro-kernels of one instruction set for operands of one type.
#[derive(Clone, Copy)]
pub(crate) struct MicroKernels<T: 'static> {
    /// Columns of a panel of B.
    pub nr: usize,
    /// Terms of the sum in a word: 2 for pairs of bf16, else 1.
    pub terms: usize,
    /// For operands laid out as [`Blocked`], into f32.
    pub blocked: Heights<f32>,
    /// The same, into the operands' own type.
    pub stored: Heights<T>,
    /// For operands laid out as [`Along`], into f32.
    pub along: Heights<f32>,
    /// For operands laid out as [`Turned`], into f32.
    pub turned: Heights<f32>,
    /// The same with panels of half the width.
    pub narrow: Heights<f32>,
    /// For operands of f32 laid out as [`Unpacked`], into f32.
    pub unpacked: Heights<f32>,
}

/// The micro-kernels for `isa`, or the portable ones where the processor lacks it.
pub(crate) fn micro_kernels<T: Storage>(isa: Isa) -> MicroKernels<T> {
    match isa.or_portable() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 if T::in_pairs(isa) => avx512bf16::kernels(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => avx512::kernels(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::kernels(),
        _ => portable::kernels(),
    }
}

/// Part `i` of `len` items shared out evenly over `parts`.
pub(crate) fn part(len: usize, parts: usize, i: usize) -> Range<usize> {
    i * len / parts..(i + 1) * len / parts
}

/// Where a block of C lies and how it is updated.
#[derive(Clone, Copy)]
pub(crate) struct BlockC<C> {
    pub ptr: *mut C,
    pub ld: usize,
    pub alpha: f32,
    pub accumulate: bool,
}

impl<C> BlockC<C> {
    /// The same block of elements that are known to be of another type.
    fn cast<D>(self) -> BlockC<D> {
        let Self { ptr, ld, alpha, accumulate } = self;
        BlockC { ptr: ptr.cast(), ld, alpha, accumulate }
    }
}

/// `C[rows, n] (+)= alpha * A[rows, kc] B[kc, n]` for packed operands, `kc` in words. Calls `between(i, calls)` after the i-th
/// of `calls` micro-kernel calls, which is when memory has time for prefetches.
///
/// # Safety
/// `kernels` and `nr` came from one [`micro_kernels`], for the layout `L`; `a` and `b` hold the operands in the layout `L`, with `n` rounded up to a multiple of
/// `nr` columns of B readable; and C's elements are writable and touched by no one else.
pub(crate) unsafe fn block<L: Operands, C>(
    kernels: Heights<C>,
    nr: usize,
    rows: usize,
    n: usize,
    kc: usize,
    a: Operand,
    b: Operand,
    c: BlockC<C>,
    mut between: impl FnMut(usize, usize),
) {
    let panels = rows.div_ceil(kernels.len());
    let calls = panels * n.div_ceil(nr);
    for (j, column) in (0..n).step_by(nr).enumerate() {
        for i in 0..panels {
            let rows = part(rows, panels, i);
            // SAFETY: rows and columns stay inside the blocks the caller describes, and the table's processor features
            // were checked when it was chosen.
            unsafe {
                let tile = Tile {
                    k: kc,
                    a: a.ptr.add(rows.start * L::A_ROW.unwrap_or(a.step)),
                    b: b.ptr.add(if L::B_PANELS { j * kc * nr } else { column }),
                    a_step: a.step,
                    b_step: b.step,
                    c: c.ptr.add(rows.start * c.ld + column),
                    ldc: c.ld,
                    n: nr.min(n - column),
                    alpha: c.alpha,
                    accumulate: c.accumulate,
                };
                kernels[rows.len() - 1](&tile);
            }
            between(j * panels + i, calls);
        }
    }
}

/// f32 elements of a workspace that may be skipped so that packed panels start on a cache line.
pub(crate) const ALIGN: usize = 16;

/// `workspace` from its first cache line on. At most `ALIGN - 1` elements are lost.
pub(crate) fn aligned(workspace: &mut [f32]) -> &mut [f32] {
    let skip = workspace.as_ptr().align_offset(ALIGN * size_of::<f32>()).min(workspace.len());
    &mut workspace[skip..]
}

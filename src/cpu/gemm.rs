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

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod by_groups;
pub(crate) mod by_rows;
mod micro;
pub(crate) mod pack;
mod portable;
pub(crate) mod rows;
pub mod serial;

use super::isa::Isa;
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

/// Largest depth of a K block. Longer blocks update C less often; at this depth a 32-wide panel of B (64 KiB) comes from
/// L2 at 18 bytes a cycle at most, which hardware prefetch hides (256 and 512 measured alike within a few percent).
pub(crate) const KC: usize = 512;

/// Distance of two rows of a packed A block: 33 cache lines, so that equal columns fall into different cache sets.
pub(crate) const A_LD: usize = KC + 16;

/// Most rows of A in one block: eight panels of 14 rows, at most 224 KiB, a small part of L2.
pub(crate) const MC: usize = 112;

/// Panel widths divide this; packed sizes are rounded up to it so that they do not depend on the instruction set.
pub(crate) const NR_MAX: usize = 32;

/// One call of a micro-kernel: `C (+)= alpha * A B` for a tile of C.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Depth, at most [`KC`].
    k: usize,
    /// First row of A; rows are [`A_LD`] apart.
    a: *const f32,
    /// B's panel, `[k][nr]`.
    b: *const f32,
    /// C's first element; rows are `ldc` apart.
    c: *mut f32,
    ldc: usize,
    /// Columns of C to write, at most `nr`.
    n: usize,
    alpha: f32,
    /// Add to C instead of overwriting it.
    accumulate: bool,
}

/// A micro-kernel for a fixed number of rows.
type MicroFn = unsafe fn(&Tile);

/// The micro-kernels of one instruction set.
pub(crate) struct MicroKernels {
    /// Columns of a panel of B.
    pub nr: usize,
    /// `by_rows[i]` computes `i + 1` rows.
    by_rows: &'static [MicroFn],
}

/// The micro-kernels for `isa`, or the portable ones where the processor lacks it.
pub(crate) fn micro_kernels(isa: Isa) -> &'static MicroKernels {
    match isa.or_portable() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &avx512::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &avx2::KERNELS,
        _ => &portable::KERNELS,
    }
}

/// Part `i` of `len` items shared out evenly over `parts`.
pub(crate) fn part(len: usize, parts: usize, i: usize) -> Range<usize> {
    i * len / parts..(i + 1) * len / parts
}

/// Where a block of C lies and how it is updated.
#[derive(Clone, Copy)]
pub(crate) struct BlockC {
    pub ptr: *mut f32,
    pub ld: usize,
    pub alpha: f32,
    pub accumulate: bool,
}

/// `C[rows, n] (+)= alpha * A[rows, kc] B[kc, n]` for a packed block of A (`a`, rows [`A_LD`] apart) and the packed panels
/// of B (`b`, `[panel][kc][nr]`). Calls `between(i, calls)` after the i-th of `calls` micro-kernel calls, which is when
/// memory has time for prefetches.
///
/// # Safety
/// `micro` came from [`micro_kernels`]; `a` holds `rows` rows of `kc <= KC`; `b` holds `ceil(n / nr)` panels; and C's
/// elements are writable and touched by no one else.
pub(crate) unsafe fn block(
    micro: &MicroKernels,
    rows: usize,
    n: usize,
    kc: usize,
    a: *const f32,
    b: *const f32,
    c: BlockC,
    mut between: impl FnMut(usize, usize),
) {
    let panels = rows.div_ceil(micro.by_rows.len());
    let calls = panels * n.div_ceil(micro.nr);
    for (j, column) in (0..n).step_by(micro.nr).enumerate() {
        for i in 0..panels {
            let rows = part(rows, panels, i);
            // SAFETY: rows and columns stay inside the blocks the caller describes, and the table's processor features
            // were checked when it was chosen.
            unsafe {
                let tile = Tile {
                    k: kc,
                    a: a.add(rows.start * A_LD),
                    b: b.add(j * kc * micro.nr),
                    c: c.ptr.add(rows.start * c.ld + column),
                    ldc: c.ld,
                    n: micro.nr.min(n - column),
                    alpha: c.alpha,
                    accumulate: c.accumulate,
                };
                micro.by_rows[rows.len() - 1](&tile);
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

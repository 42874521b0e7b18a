//! 4 x 8: with four-lane registers, as on every 64-bit target, 8 accumulators.

use super::{Along, Blocked, MicroFn, MicroKernels, Operands, Tile, micro};
use crate::cpu::simd::Portable;

unsafe fn rows<const M: usize, L: Operands>(tile: &Tile) {
    // SAFETY: the caller promises the tile's extents.
    unsafe { micro::tile::<_, L, M, 1>(Portable, tile) }
}

const fn heights<L: Operands>() -> [MicroFn; 4] {
    [rows::<1, L>, rows::<2, L>, rows::<3, L>, rows::<4, L>]
}

pub(super) static KERNELS: MicroKernels =
    MicroKernels { nr: 8, blocked: &heights::<Blocked>(), along: &heights::<Along>() };

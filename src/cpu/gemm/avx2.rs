//! 6 x 16: 12 accumulators, 2 vectors of B and one broadcast in 16 registers.

use super::{Along, Blocked, MicroFn, MicroKernels, Operands, Tile, micro};
use crate::cpu::simd::Avx2;

#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const M: usize, L: Operands>(tile: &Tile) {
    // SAFETY: the caller promises the features and the tile's extents.
    unsafe { micro::tile::<_, L, M, 2>(Avx2::new(), tile) }
}

const fn heights<L: Operands>() -> [MicroFn; 6] {
    [rows::<1, L>, rows::<2, L>, rows::<3, L>, rows::<4, L>, rows::<5, L>, rows::<6, L>]
}

pub(super) static KERNELS: MicroKernels =
    MicroKernels { nr: 16, blocked: &heights::<Blocked>(), along: &heights::<Along>() };

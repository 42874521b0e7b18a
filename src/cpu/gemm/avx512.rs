//! 14 x 32: 28 accumulators, 2 vectors of B and one broadcast in 32 registers.

use super::{Along, Blocked, MicroFn, MicroKernels, Operands, Tile, micro};
use crate::cpu::simd::Avx512;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
unsafe fn rows<const M: usize, L: Operands>(tile: &Tile) {
    // SAFETY: the caller promises the features and the tile's extents.
    unsafe { micro::tile::<_, L, M, 2>(Avx512::new(), tile) }
}

const fn heights<L: Operands>() -> [MicroFn; 14] {
    [
        rows::<1, L>,
        rows::<2, L>,
        rows::<3, L>,
        rows::<4, L>,
        rows::<5, L>,
        rows::<6, L>,
        rows::<7, L>,
        rows::<8, L>,
        rows::<9, L>,
        rows::<10, L>,
        rows::<11, L>,
        rows::<12, L>,
        rows::<13, L>,
        rows::<14, L>,
    ]
}

pub(super) static KERNELS: MicroKernels =
    MicroKernels { nr: 32, blocked: &heights::<Blocked>(), along: &heights::<Along>() };

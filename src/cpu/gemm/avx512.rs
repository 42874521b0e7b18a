//! 14 x 32: 28 accumulators, 2 vectors of B and one broadcast in 32 registers.

use super::{MicroFn, MicroKernels, Tile, micro};
use crate::cpu::simd::Avx512;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
unsafe fn rows<const M: usize>(tile: &Tile) {
    // SAFETY: the caller promises the features and the tile's extents.
    unsafe { micro::tile::<_, M, 2>(Avx512::new(), tile) }
}

const BY_ROWS: [MicroFn; 14] = [
    rows::<1>, rows::<2>, rows::<3>, rows::<4>, rows::<5>, rows::<6>, rows::<7>, rows::<8>, rows::<9>,
    rows::<10>, rows::<11>, rows::<12>, rows::<13>, rows::<14>,
];

pub(super) static KERNELS: MicroKernels = MicroKernels { nr: 32, by_rows: &BY_ROWS };

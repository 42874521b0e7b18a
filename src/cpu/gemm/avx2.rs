//! 6 x 16: 12 accumulators, 2 vectors of B and one broadcast in 16 registers.

use super::{MicroFn, MicroKernels, Tile, micro};
use crate::cpu::simd::Avx2;

#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const M: usize>(tile: &Tile) {
    // SAFETY: the caller promises the features and the tile's extents.
    unsafe { micro::tile::<_, M, 2>(Avx2::new(), tile) }
}

const BY_ROWS: [MicroFn; 6] = [rows::<1>, rows::<2>, rows::<3>, rows::<4>, rows::<5>, rows::<6>];

pub(super) static KERNELS: MicroKernels = MicroKernels { nr: 16, by_rows: &BY_ROWS };

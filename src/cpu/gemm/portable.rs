//! 4 x 8: with four-lane registers, as on every 64-bit target, 8 accumulators.

use super::{MicroFn, MicroKernels, Tile, micro};
use crate::cpu::simd::Portable;

unsafe fn rows<const M: usize>(tile: &Tile) {
    // SAFETY: the caller promises the tile's extents.
    unsafe { micro::tile::<_, M, 1>(Portable, tile) }
}

const BY_ROWS: [MicroFn; 4] = [rows::<1>, rows::<2>, rows::<3>, rows::<4>];

pub(super) static KERNELS: MicroKernels = MicroKernels { nr: 8, by_rows: &BY_ROWS };

//! 14 x 32: 28 accumulators, 2 vectors of B and one broadcast in 32 registers.

use super::micro::{self, Single};
use super::{Along, Blocked, MicroFn, MicroKernels, Operands, Tile, Turned, Unpacked};
use crate::cpu::simd::{Avx512, Storage};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,popcnt")]
unsafe fn rows<const M: usize, const V: usize, L: Operands, C: Storage>(tile: &Tile<C>) {
    // SAFETY: the caller promises the features and the tile's extents.
    unsafe { micro::tile::<_, Single, L, C, M, V>(Avx512::new(), tile) }
}

struct Table<L, C, const V: usize = 2>(std::marker::PhantomData<(L, C)>);

impl<L: Operands, C: Storage, const V: usize> Table<L, C, V> {
    const HEIGHTS: [MicroFn<C>; 14] = [
        rows::<1, V, L, C>,
        rows::<2, V, L, C>,
        rows::<3, V, L, C>,
        rows::<4, V, L, C>,
        rows::<5, V, L, C>,
        rows::<6, V, L, C>,
        rows::<7, V, L, C>,
        rows::<8, V, L, C>,
        rows::<9, V, L, C>,
        rows::<10, V, L, C>,
        rows::<11, V, L, C>,
        rows::<12, V, L, C>,
        rows::<13, V, L, C>,
        rows::<14, V, L, C>,
    ];
}

pub(super) fn kernels<T: Storage>() -> MicroKernels<T> {
    MicroKernels {
        nr: 32,
        terms: 1,
        blocked: &Table::<Blocked, f32>::HEIGHTS,
        stored: &Table::<Blocked, T>::HEIGHTS,
        along: &Table::<Along, f32>::HEIGHTS,
        turned: &Table::<Turned, f32>::HEIGHTS,
        narrow: &Table::<Turned, f32, 1>::HEIGHTS,
        unpacked: &Table::<Unpacked, f32>::HEIGHTS,
    }
}

//! 4 x 8: with four-lane registers, as on every 64-bit target, 8 accumulators.

use super::micro::{self, Single};
use super::{Along, Blocked, MicroFn, MicroKernels, Operands, Tile, Turned, Unpacked};
use crate::cpu::simd::{Portable, Storage};

unsafe fn rows<const M: usize, L: Operands, C: Storage>(tile: &Tile<C>) {
    // SAFETY: the caller promises the tile's extents.
    unsafe { micro::tile::<_, Single, L, C, M, 1>(Portable, tile) }
}

struct Table<L, C>(std::marker::PhantomData<(L, C)>);

impl<L: Operands, C: Storage> Table<L, C> {
    const HEIGHTS: [MicroFn<C>; 4] = [rows::<1, L, C>, rows::<2, L, C>, rows::<3, L, C>, rows::<4, L, C>];
}

pub(super) fn kernels<T: Storage>() -> MicroKernels<T> {
    MicroKernels {
        nr: 8,
        terms: 1,
        blocked: &Table::<Blocked, f32>::HEIGHTS,
        stored: &Table::<Blocked, T>::HEIGHTS,
        along: &Table::<Along, f32>::HEIGHTS,
        turned: &Table::<Turned, f32>::HEIGHTS,
        narrow: &[],
        unpacked: &Table::<Unpacked, f32>::HEIGHTS,
    }
}

//! The micro-kernel, written once for every instruction set, height and word.

use super::{Operands, Tile};
use crate::cpu::simd::{Simd, Storage};
use std::array::from_fn;

/// What is done with a word of A and a word of B.
pub(super) trait Multiply<S: Simd> {
    /// `a * b + sum` for words of one f32, `a0 * b0 + a1 * b1 + sum` for words of two bf16.
    ///
    /// # Safety
    /// The processor must have the instructions.
    unsafe fn multiply_add(s: S, a: S::F, b: S::F, sum: S::F) -> S::F;
}

/// Words of one f32.
pub(super) struct Single;

impl<S: Simd> Multiply<S> for Single {
    #[inline(always)]
    unsafe fn multiply_add(s: S, a: S::F, b: S::F, sum: S::F) -> S::F {
        s.fma(a, b, sum)
    }
}

/// Computes `M` rows of `V` vectors of C in registers. `M * V + V + 1` vectors must fit the register file.
///
/// # Safety
/// The pointers of `tile` must be valid for the extents its fields give, and the processor must have the instructions of `P`.
#[inline(always)]
pub(super) unsafe fn tile<
    S: Simd,
    P: Multiply<S>,
    L: Operands,
    C: Storage,
    const M: usize,
    const V: usize,
>(
    s: S,
    tile: &Tile<C>,
) {
    let mut sums = [[s.splat(0.0); V]; M];
    let (mut a, mut b) = (tile.a, tile.b);
    // C is needed only at the end; by then it has arrived.
    for i in 0..M {
        for v in 0..V {
            s.prefetch(tile.c.wrapping_add(i * tile.ldc + v * S::LANES).cast());
        }
    }
    for _ in 0..tile.k {
        // SAFETY: step k reads word k of M rows of A and V vectors of B, which the caller makes readable.
        unsafe {
            let row: [S::F; V] = from_fn(|v| s.load_ptr(b.add(v * S::LANES)));
            for i in 0..M {
                // In place, a word of two bf16 may lie at any even address.
                let x = s.splat(a.add(i * L::A_ROW.unwrap_or(tile.a_step)).read_unaligned());
                for v in 0..V {
                    sums[i][v] = P::multiply_add(s, x, row[v], sums[i][v]);
                }
            }
            // Wrapping: in place, the row after the last may lie outside the matrix.
            a = a.wrapping_add(if L::A_NEIGHBOURS { 1 } else { tile.a_step });
            b = b.wrapping_add(if L::B_PANELS { V * S::LANES } else { tile.b_step });
        }
    }
    let alpha = s.splat(tile.alpha);
    for i in 0..M {
        for v in 0..V {
            let n = tile.n.saturating_sub(v * S::LANES);
            // SAFETY: `n` elements of row i of C from column v * LANES on are writable, by the caller's promise; a pointer
            // past them is only computed (wrapping) and not used when there are none.
            unsafe {
                let c = tile.c.wrapping_add(i * tile.ldc + v * S::LANES);
                let sum = sums[i][v] * alpha;
                if n >= S::LANES {
                    C::store_ptr(s, c, if tile.accumulate { C::load_ptr(s, c) + sum } else { sum });
                } else if n > 0 {
                    let sum = if tile.accumulate { C::load_ptr_partial(s, c, n) + sum } else { sum };
                    C::store_ptr_partial(s, c, sum, n);
                }
            }
        }
    }
}

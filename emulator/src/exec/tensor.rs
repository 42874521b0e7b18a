//! Matrix instructions (PTX ISA 9.7.14.5): fragments of a warp to small matrices and back.
//!
//! Products are exact in f32 and summed in f32 in ascending order of k, starting from the accumulator. A tensor core sums in another order
//! and with its own rounding, so results agree to tolerances, not to bits.

use super::block::Env;
use super::code::{Address, Half, Mma, Slot};
use super::lanes::{ALL, Registers};
use super::rounding::widen;
use super::shared::Touch;
use super::warp::Warp;
use crate::fault::{Fault, Space};

impl Mma {
    /// Extent of the summed dimension.
    pub(crate) fn k(self) -> usize {
        match self {
            Self::Tf32K4 => 4,
            Self::Bf16K8 | Self::F16K8 | Self::Tf32K8 => 8,
            Self::Bf16K16 | Self::F16K16 => 16,
        }
    }

    pub(crate) fn flops(self) -> u64 {
        2 * 16 * 8 * self.k() as u64
    }

    fn half(self) -> Option<Half> {
        match self {
            Self::Bf16K8 | Self::Bf16K16 => Some(Half::Bf16),
            Self::F16K8 | Self::F16K16 => Some(Half::F16),
            Self::Tf32K4 | Self::Tf32K8 => None,
        }
    }
}

/// tf32 has 10 fraction bits; the others of the register are not read (PTX ISA: undefined, devices drop them).
const TF32_BITS: u32 = 0xFFFF_E000;

impl Registers {
    /// `d = a b + c` of 16 x k, k x 8 and 16 x 8. Every lane takes part.
    pub(super) fn mma(&mut self, shape: Mma, d: [Slot; 4], a: [Slot; 4], b: [Slot; 2], c: [Slot; 4]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { self.mma_avx2(shape, d, a, b, c) };
        }
        self.mma_any(shape, d, a, b, c);
    }

    /// The same sums in the same order, eight columns an instruction.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn mma_avx2(&mut self, shape: Mma, d: [Slot; 4], a: [Slot; 4], b: [Slot; 2], c: [Slot; 4]) {
        self.mma_any(shape, d, a, b, c);
    }

    /// Lane `4 r + q` holds columns `2 q` and `2 q + 1` of row `r` (of a, c and d) or rows `2 q` and `2 q + 1` of column `r` (of b).
    #[inline(always)]
    fn mma_any(&mut self, shape: Mma, d: [Slot; 4], a: [Slot; 4], b: [Slot; 2], c: [Slot; 4]) {
        let k = shape.k();
        let mut left = [[0f32; 16]; 16];
        let mut right = [[0f32; 8]; 16];
        match shape.half() {
            Some(kind) => {
                for (part, &slot) in a.iter().enumerate().take(k / 4) {
                    let (down, along) = ((part & 1) * 8, (part >> 1) * 8);
                    for (row, lanes) in self.word(slot).as_chunks::<4>().0.iter().enumerate() {
                        for (q, &word) in lanes.iter().enumerate() {
                            left[down + row][along + 2 * q] = widen(word as u16, kind);
                            left[down + row][along + 2 * q + 1] = widen((word >> 16) as u16, kind);
                        }
                    }
                }
                for (part, &slot) in b.iter().enumerate().take(k / 8) {
                    for (column, lanes) in self.word(slot).as_chunks::<4>().0.iter().enumerate() {
                        for (q, &word) in lanes.iter().enumerate() {
                            right[part * 8 + 2 * q][column] = widen(word as u16, kind);
                            right[part * 8 + 2 * q + 1][column] = widen((word >> 16) as u16, kind);
                        }
                    }
                }
            }
            None => {
                for (part, &slot) in a.iter().enumerate().take(k / 2) {
                    let (down, along) = ((part & 1) * 8, (part >> 1) * 4);
                    for (row, lanes) in self.word(slot).as_chunks::<4>().0.iter().enumerate() {
                        for (q, &word) in lanes.iter().enumerate() {
                            left[down + row][along + q] = f32::from_bits(word & TF32_BITS);
                        }
                    }
                }
                for (part, &slot) in b.iter().enumerate().take(k / 4) {
                    for (column, lanes) in self.word(slot).as_chunks::<4>().0.iter().enumerate() {
                        for (q, &word) in lanes.iter().enumerate() {
                            right[part * 4 + q][column] = f32::from_bits(word & TF32_BITS);
                        }
                    }
                }
            }
        }
        // Rows 0 to 7, then 8 to 15; the columns of two registers alternate.
        let mut sums = [[0f32; 64]; 2];
        for (sums, slots) in sums.iter_mut().zip(c.as_chunks::<2>().0) {
            let [even, odd] = slots.map(|slot| self.word(slot));
            for lane in 0..32 {
                sums[2 * lane] = f32::from_bits(even[lane]);
                sums[2 * lane + 1] = f32::from_bits(odd[lane]);
            }
        }
        multiply(&left, &right[..k], sums.as_flattened_mut().as_chunks_mut().0);
        for (sums, slots) in sums.iter().zip(d.as_chunks::<2>().0) {
            for (odd, &slot) in slots.iter().enumerate() {
                self.set_word(slot, ALL, |lane| sums[2 * lane + odd].to_bits());
            }
        }
    }

    /// `movmatrix.trans`: an 8 x 8 matrix of 16-bit elements, transposed between lanes.
    pub(super) fn move_matrix(&mut self, d: Slot, a: Slot) {
        let word = *self.word(a);
        let element = |row: usize, column: usize| word[row * 4 + column / 2] >> (16 * (column % 2)) & 0xFFFF;
        self.set_word(d, ALL, |lane| {
            let (row, column) = (lane / 4, lane % 4 * 2);
            element(column, row) | element(column + 1, row) << 16
        });
    }
}

/// Adds the product of 16 rows and as many columns of `left` as `right` has rows, four rows at a time, so that their sums stay in
/// registers.
#[inline(always)]
fn multiply(left: &[[f32; 16]; 16], right: &[[f32; 8]], sums: &mut [[f32; 8]]) {
    for (left, sums) in left.as_chunks::<4>().0.iter().zip(sums.as_chunks_mut::<4>().0) {
        let mut held = *sums;
        for (k, right) in right.iter().enumerate() {
            for (left, held) in left.iter().zip(&mut held) {
                for (sum, value) in held.iter_mut().zip(right) {
                    *sum += left[k] * value;
                }
            }
        }
        *sums = held;
    }
}

impl Env<'_> {
    /// `ldmatrix`: lane `8 m + r` has the address of row `r` of matrix `m`; a row is 16 bytes.
    pub(super) fn load_matrix(
        &mut self,
        warp: &mut Warp,
        (count, transposed): (u8, bool),
        d: [Slot; 4],
        from: Address,
    ) -> Result<(), Box<Fault>> {
        let addresses = warp.registers.addresses(from);
        let rows = ((1u64 << (8 * count)) - 1) as u32;
        self.check(Space::Shared, &addresses, rows, 16, warp, Touch::Matrix)?;
        for (matrix, &d) in d.iter().enumerate().take(usize::from(count)) {
            let rows: [[u8; 16]; 8] =
                std::array::from_fn(|row| self.shared.load(addresses[matrix * 8 + row] as usize));
            let mut words = [0u32; 32];
            for (row, bytes) in rows.iter().enumerate() {
                if transposed {
                    // Lane 4 c + q gets rows 2 q and 2 q + 1 of column c.
                    for (column, half) in bytes.as_chunks::<2>().0.iter().enumerate() {
                        let half = u32::from(u16::from_le_bytes(*half));
                        words[column * 4 + row / 2] |= half << (16 * (row % 2));
                    }
                } else {
                    for (q, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
                        words[row * 4 + q] = u32::from_le_bytes(*word);
                    }
                }
            }
            warp.registers.set_word(d, ALL, |lane| words[lane]);
        }
        Ok(())
    }

    /// `stmatrix`: the reverse of `ldmatrix`.
    pub(super) fn store_matrix(
        &mut self,
        warp: &mut Warp,
        (count, transposed): (u8, bool),
        a: [Slot; 4],
        to: Address,
    ) -> Result<(), Box<Fault>> {
        let addresses = warp.registers.addresses(to);
        let rows = ((1u64 << (8 * count)) - 1) as u32;
        self.check(Space::Shared, &addresses, rows, 16, warp, Touch::Write)?;
        for (matrix, &a) in a.iter().enumerate().take(usize::from(count)) {
            let word = *warp.registers.word(a);
            for lane in 0..32 {
                for part in 0..2 {
                    let (row, column) = (lane / 4, lane % 4 * 2 + part);
                    let (row, column) = if transposed { (column, row) } else { (row, column) };
                    let at = addresses[matrix * 8 + row] as usize + column * 2;
                    self.shared.store(at, ((word[lane] >> (16 * part)) as u16).to_le_bytes());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_gives_the_same_bits() {
        let mut bits = 5_u32;
        let mut registers = Registers { words: vec![[0; 32]; 18], ..Registers::default() };
        for shape in [Mma::Bf16K8, Mma::Bf16K16, Mma::F16K8, Mma::F16K16, Mma::Tf32K4, Mma::Tf32K8] {
            for word in registers.words[..10].iter_mut().flatten() {
                bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Finite in every format, as words and as halves.
                *word = bits & 0xBFFF_BFFF;
            }
            registers.mma_any(shape, [10, 11, 12, 13], [0, 1, 2, 3], [4, 5], [6, 7, 8, 9]);
            registers.mma(shape, [14, 15, 16, 17], [0, 1, 2, 3], [4, 5], [6, 7, 8, 9]);
            assert_eq!(registers.words[10..14], registers.words[14..18], "{shape:?}");
        }
    }
}

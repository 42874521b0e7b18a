//! Draws that depend on nothing but a seed.

use rand_chacha::rand_core::Rng;

/// A uniform integer below `bound` (at least 1): the upper half of a 128-bit product, whose bias of `bound / 2^64` is far
/// below anything that is measured here.
pub(super) fn below(random: &mut impl Rng, bound: usize) -> usize {
    ((u128::from(random.next_u64()) * bound as u128) >> 64) as usize
}

/// A uniform number in `[0, 1)` with 53 bits.
pub(super) fn unit(random: &mut impl Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Puts `items` into a random order (Fisher-Yates).
pub(super) fn shuffle<T>(items: &mut [T], random: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(random, last + 1));
    }
}

//! The shuffled order of an epoch: a permutation keyed by (seed, epoch, purpose), independent of everything else.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a permutation is for; each purpose draws from a generator of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The order in which an epoch's documents are laid end to end.
    Documents,
    /// The order in which an epoch's rows enter batches.
    Rows,
    /// Which source of a mixture gives which row; a cycle of the mixture takes the place of an epoch.
    Sources,
}

/// Fills `order` with a permutation of `0..order.len()`, a pure function of the arguments.
///
/// Fisher-Yates with unbiased bounded draws (Lemire 2019) from ChaCha8 whose 256-bit key is
/// `seed ‖ epoch ‖ purpose ‖ "emo/data"`, 8 little-endian bytes each.
pub fn permutation(seed: u64, epoch: u64, purpose: Purpose, order: &mut [u32]) {
    let tag: u64 = match purpose {
        Purpose::Documents => 1,
        Purpose::Rows => 2,
        Purpose::Sources => 3,
    };
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..24].copy_from_slice(&tag.to_le_bytes());
    key[24..].copy_from_slice(b"emo/data");
    let mut random = ChaCha8Rng::from_seed(key);
    for (value, slot) in order.iter_mut().enumerate() {
        *slot = value as u32;
    }
    for last in (1..order.len()).rev() {
        order.swap(last, below(&mut random, last as u64 + 1) as usize);
    }
}

/// A uniform integer in `0..bound`: multiply-and-shift, rejecting the few draws that would bias it.
fn below(random: &mut impl Rng, bound: u64) -> u64 {
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(random.next_u64()) * u128::from(bound);
        if product as u64 >= threshold {
            return (product >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Purpose, permutation};

    #[test]
    fn is_a_permutation_and_every_part_of_the_key_counts() {
        let make = |seed, epoch, purpose| {
            let mut order = vec![0; 257];
            permutation(seed, epoch, purpose, &mut order);
            order
        };
        let base = make(1, 2, Purpose::Rows);
        let mut sorted = base.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &v)| i == v as usize));
        assert_eq!(base, make(1, 2, Purpose::Rows));
        for other in [make(2, 2, Purpose::Rows), make(1, 3, Purpose::Rows), make(1, 2, Purpose::Documents)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn empty_and_single_orders_are_fine() {
        permutation(0, 0, Purpose::Rows, &mut []);
        let mut one = [9];
        permutation(0, 0, Purpose::Rows, &mut one);
        assert_eq!(one, [0]);
    }
}

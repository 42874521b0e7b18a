//! A stable 64-bit hash: the same on every machine, in every release, for ever.
//!
//! The standard library's hasher promises none of this, and a split or a document's identity must not move.

/// 64-bit FNV-1a over the parts (each preceded by its length, so that `["ab","c"]` differs from `["a","bc"]`), then the
/// finaliser of splitmix64, because plain FNV leaves the high bits of short inputs poorly mixed and we sort by them.
#[must_use]
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |bytes: &[u8]| {
        for &byte in bytes {
            state = (state ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    };
    for part in parts {
        eat(&(part.len() as u64).to_le_bytes());
        eat(part);
    }
    mix(state)
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64 bits with full avalanche.
fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::{mix, stable_hash};

    /// The split of every published run depends on these values.
    #[test]
    fn values_never_move() {
        assert_eq!(
            mix(0x9e37_79b9_7f4a_7c15),
            0xe220_a839_7b1d_cdaf,
            "first output of splitmix64 with seed 0"
        );
        // FNV-1a of nothing is its offset basis.
        assert_eq!(stable_hash(&[]), mix(0xcbf2_9ce4_8422_2325));
    }

    #[test]
    fn parts_are_delimited() {
        assert_ne!(stable_hash(&[b"ab", b"c"]), stable_hash(&[b"a", b"bc"]));
        assert_ne!(stable_hash(&[b"ab"]), stable_hash(&[b"ab", b""]));
    }
}

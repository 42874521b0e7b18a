//! How far two checkpoints send the same tokens to the same experts.

/// Share of the chosen experts that two checkpoints have in common, over tokens with `top_k` slots each: router saturation
/// where the second is the end of training (Muennighoff et al. 2024, arXiv 2409.02060, section 5.1). By chance it would be
/// `top_k / experts`. `None` for no tokens or different lengths.
#[must_use]
pub fn overlap(a: &[u32], b: &[u32], top_k: usize) -> Option<f64> {
    if top_k == 0 || a.is_empty() || a.len() != b.len() {
        return None;
    }
    let shared: usize = a
        .chunks_exact(top_k)
        .zip(b.chunks_exact(top_k))
        .map(|(a, b)| a.iter().filter(|expert| b.contains(expert)).count())
        .sum();
    Some(shared as f64 / a.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn overlap_by_hand() {
        assert_eq!(overlap(&[1, 2, 3, 4], &[2, 1, 4, 3], 2), Some(1.0), "order does not matter");
        assert_eq!(overlap(&[1, 2, 3, 4], &[2, 5, 6, 7], 2), Some(0.25));
        assert_eq!(overlap(&[1, 2], &[2, 1], 1), Some(0.0));
        assert_eq!((overlap(&[], &[], 2), overlap(&[1], &[1, 2], 1)), (None, None));
    }
}

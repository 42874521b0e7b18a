//! How a document uses experts: how many, and how often a token's experts differ from those of the token before.

/// Share of `next` that is not among `previous`: 0 where both hold the same experts. Both have the same length.
#[must_use]
pub fn changed(previous: &[u32], next: &[u32]) -> f64 {
    let stayed = next.iter().filter(|expert| previous.contains(expert)).count();
    if next.is_empty() { 0.0 } else { 1.0 - stayed as f64 / next.len() as f64 }
}

/// Routing jitter of one document: the mean of [`changed`] over neighbouring tokens, and how many pairs there are.
/// `slots` holds `top_k` routed experts for each token.
#[must_use]
pub fn jitter(slots: &[u32], top_k: usize) -> (f64, usize) {
    if top_k == 0 {
        return (0.0, 0);
    }
    let tokens: Vec<&[u32]> = slots.chunks_exact(top_k).collect();
    let pairs = tokens.len().saturating_sub(1);
    let sum: f64 = tokens.windows(2).map(|pair| changed(pair[0], pair[1])).sum();
    (sum / pairs.max(1) as f64, pairs)
}

/// The jitter to expect if the same tokens of a document stood in random order: with `c_e` of the document's `n` tokens on
/// expert `e`, two different tokens share `sum_e c_e (c_e - 1) / (n (n - 1))` experts on average. The measured jitter falls
/// below this as far as neighbours are alike beyond what the document has in common. `None` for fewer than two tokens.
#[must_use]
pub fn shuffled_jitter(counts: &[u32], top_k: usize) -> Option<f64> {
    let slots: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let tokens = if top_k == 0 { 0 } else { slots / top_k as u64 };
    if tokens < 2 {
        return None;
    }
    let shared: u64 = counts.iter().map(|&count| u64::from(count) * u64::from(count.saturating_sub(1))).sum();
    Some(1.0 - shared as f64 / (tokens * (tokens - 1)) as f64 / top_k as f64)
}

/// Effective number of experts: `exp(H)` of the shares of slots, 1 where all go to one expert, `n` where `n` share evenly;
/// 0 without slots. Falls short for documents of few tokens, which cannot use more experts than they have slots.
#[must_use]
pub fn effective_experts(counts: &[u32]) -> f64 {
    let weights: Vec<f64> = counts.iter().map(|&count| f64::from(count)).collect();
    if weights.iter().sum::<f64>() == 0.0 { 0.0 } else { super::information::entropy_bits(&weights).exp2() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_routing_does_not_jitter_and_new_experts_every_time_do_wholly() {
        assert_eq!(jitter(&[3, 5, 5, 3, 3, 5], 2), (0.0, 2));
        assert_eq!(jitter(&[0, 1, 2, 3, 4, 5], 2), (1.0, 2));
        assert_eq!(jitter(&[0, 1, 1, 2], 2), (0.5, 1));
        assert_eq!((jitter(&[4, 7], 2), jitter(&[], 3)), ((0.0, 0), (0.0, 0)));
    }

    #[test]
    fn shuffling_is_the_mean_over_all_orders() {
        // Tokens on experts 0, 0, 1: of the three pairs one agrees.
        let expected = shuffled_jitter(&[2, 1], 1).unwrap();
        assert!((expected - 2.0 / 3.0).abs() < 1e-15);
        let orders = [[0, 0, 1], [0, 1, 0], [1, 0, 0]];
        let mean = orders.iter().map(|order| jitter(order, 1).0).sum::<f64>() / 3.0;
        assert!((expected - mean).abs() < 1e-15);
        assert_eq!(shuffled_jitter(&[4, 4], 2), Some(0.0));
        assert_eq!(shuffled_jitter(&[1, 1], 2), None);
    }

    #[test]
    fn effective_experts_by_hand() {
        assert_eq!(effective_experts(&[9, 0, 0]), 1.0);
        assert!((effective_experts(&[2, 2, 2, 2, 0]) - 4.0).abs() < 1e-12);
        assert_eq!(effective_experts(&[0, 0]), 0.0);
    }
}

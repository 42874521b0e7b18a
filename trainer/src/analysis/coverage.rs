//! Which experts the documents of each domain use (emo.md 7.2).

use serde::{Deserialize, Serialize};

use super::information::entropy_bits;

/// Use of one layer's routed experts by every domain.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// Slots, `[domain][expert]`.
    pub slots: Vec<Vec<u64>>,
    /// Slots over the domain's tokens: how often a token of the domain chooses the expert. A row adds up to the routed
    /// experts of a token.
    pub selection: Vec<Vec<f64>>,
    /// Mean router probability of the expert over the domain's tokens. A row adds up to 1.
    pub probability: Vec<Vec<f64>>,
    /// The rows of `selection` in few numbers.
    pub breadth: Vec<Breadth>,
}

/// How many experts a domain uses.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Breadth {
    /// Experts with more than an even share.
    pub above_uniform: usize,
    /// Experts that are used at all.
    pub used: usize,
    /// Entropy of the shares, in bits; `log2(experts)` is an even spread.
    pub entropy_bits: f64,
}

impl Breadth {
    /// Of the weights of the experts.
    #[must_use]
    pub fn of(weights: &[f64]) -> Self {
        let even = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
        Self {
            above_uniform: weights.iter().filter(|&&weight| weight > even).count(),
            used: weights.iter().filter(|&&weight| weight > 0.0).count(),
            entropy_bits: entropy_bits(weights),
        }
    }
}

impl Coverage {
    /// Of slots and summed probabilities `[domain][expert]` and the domains' numbers of tokens.
    #[must_use]
    pub fn of_sums(slots: Vec<Vec<u64>>, probability: &[Vec<f64>], tokens: &[u64]) -> Self {
        let per_token = |value: f64, tokens: u64| value / tokens.max(1) as f64;
        let selection: Vec<Vec<f64>> = slots
            .iter()
            .zip(tokens)
            .map(|(row, &tokens)| row.iter().map(|&count| per_token(count as f64, tokens)).collect())
            .collect();
        let probability = probability
            .iter()
            .zip(tokens)
            .map(|(row, &tokens)| row.iter().map(|&sum| per_token(sum, tokens)).collect())
            .collect();
        let breadth = selection.iter().map(|row| Breadth::of(row)).collect();
        Self { slots, selection, probability, breadth }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_by_hand() {
        // Two domains of 2 and 4 tokens, two slots a token.
        let slots = vec![vec![2, 2, 0, 0], vec![4, 2, 1, 1]];
        let sums = [vec![1.0, 1.0, 0.0, 0.0], vec![2.0, 1.0, 0.5, 0.5]];
        let found = Coverage::of_sums(slots, &sums, &[2, 4]);
        assert_eq!(found.selection, [vec![1.0, 1.0, 0.0, 0.0], vec![1.0, 0.5, 0.25, 0.25]]);
        assert_eq!(found.probability, [vec![0.5, 0.5, 0.0, 0.0], vec![0.5, 0.25, 0.125, 0.125]]);
        assert_eq!(found.breadth[0], Breadth { above_uniform: 2, used: 2, entropy_bits: 1.0 });
        assert_eq!(found.breadth[1], Breadth { above_uniform: 1, used: 4, entropy_bits: 1.75 });
    }

    #[test]
    fn a_domain_without_tokens_uses_nothing() {
        let found = Coverage::of_sums(vec![vec![0, 0]], &[vec![0.0, 0.0]], &[0]);
        assert_eq!(found.selection, [[0.0, 0.0]]);
        assert_eq!(found.breadth, [Breadth::default()]);
    }
}

//! Entropy and mutual information of counts, in bits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::random::shuffle;

/// Entropy of the shares that `weights` make up, in bits: `H = -sum p log2 p`; 0 where there is nothing.
#[must_use]
pub fn entropy_bits(weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let bits: f64 = weights
        .iter()
        .filter(|&&weight| weight > 0.0)
        .map(|&weight| weight / total)
        .map(|share| -share * share.log2())
        .sum();
    // A single share of 1 gives -0.
    bits.max(0.0)
}

/// How much the domain of a token tells about the expert that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Information {
    /// `I(domain; expert) = sum p(d, e) log2(p(d, e) / (p(d) p(e)))` of the observed slots, in bits. Too high by what
    /// chance gives.
    pub bits: f64,
    /// The same less the bias of counting that many independent slots (Miller 1955, Madow):
    /// `(cells - domains - experts + 1) / (2 N ln 2)` with the numbers of those that occur. The slots of one document are
    /// not independent, so this takes away too little.
    pub less_counting_bias: f64,
    /// What the same documents give under domains drawn by lot: the mean over permutations of the documents' domains.
    /// This is the bias that whole documents cause; `bits` less this is what domains explain.
    pub by_lot: f64,
    /// Entropy of the domains' shares of slots: the most that `bits` can be.
    pub most: f64,
}

/// Mutual information of the two indices of `joint[row][column]`, in bits, and its Miller-Madow bias.
#[must_use]
pub fn mutual_information(joint: &[Vec<u64>]) -> (f64, f64) {
    let columns = joint.iter().map(Vec::len).max().unwrap_or(0);
    let row_sums: Vec<u64> = joint.iter().map(|row| row.iter().sum()).collect();
    let column_sums: Vec<u64> = (0..columns)
        .map(|column| joint.iter().map(|row| row.get(column).copied().unwrap_or(0)).sum())
        .collect();
    let total: u64 = row_sums.iter().sum();
    if total == 0 {
        return (0.0, 0.0);
    }
    let n = total as f64;
    let (mut bits, mut cells) = (0.0, 0usize);
    for (row, &row_sum) in joint.iter().zip(&row_sums) {
        for (&count, &column_sum) in row.iter().zip(&column_sums) {
            if count > 0 {
                let count = count as f64;
                bits += count / n * (count * n / (row_sum as f64 * column_sum as f64)).log2();
                cells += 1;
            }
        }
    }
    let used = |sums: &[u64]| sums.iter().filter(|&&sum| sum > 0).count() as f64;
    let freedom = cells as f64 - used(&row_sums) - used(&column_sums) + 1.0;
    (bits.max(0.0), freedom / (2.0 * n * std::f64::consts::LN_2))
}

/// [`Information`] of documents: `domains[i]` and `counts[i][expert]` of document `i`, with `permutations` draws by lot.
#[must_use]
pub fn of_documents(
    domains: &[u32],
    counts: &[Vec<u32>],
    domain_count: usize,
    permutations: usize,
    seed: u64,
) -> Information {
    let experts = counts.first().map_or(0, Vec::len);
    let joint = |of: &[u32]| {
        let mut joint = vec![vec![0u64; experts]; domain_count];
        for (&domain, counts) in of.iter().zip(counts) {
            let row = &mut joint[domain as usize];
            row.iter_mut().zip(counts).for_each(|(sum, &count)| *sum += u64::from(count));
        }
        joint
    };
    let observed = joint(domains);
    let (bits, bias) = mutual_information(&observed);
    let mut lots = domains.to_vec();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut by_lot = 0.0;
    for _ in 0..permutations {
        shuffle(&mut lots, &mut random);
        by_lot += mutual_information(&joint(&lots)).0;
    }
    let shares: Vec<f64> = observed.iter().map(|row| row.iter().sum::<u64>() as f64).collect();
    Information {
        bits,
        less_counting_bias: bits - bias,
        by_lot: by_lot / permutations.max(1) as f64,
        most: entropy_bits(&shares),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_by_hand() {
        assert_eq!(entropy_bits(&[1.0, 1.0, 1.0, 1.0]), 2.0);
        assert_eq!(entropy_bits(&[3.0, 0.0]), 0.0);
        assert_eq!(entropy_bits(&[]), 0.0);
        // 3/4 and 1/4: 3/4 log2(4/3) + 1/4 * 2.
        assert!((entropy_bits(&[6.0, 2.0]) - (0.75 * (4.0f64 / 3.0).log2() + 0.5)).abs() < 1e-15);
    }

    #[test]
    fn independent_counts_share_nothing_and_a_partition_everything() {
        let independent = vec![vec![2, 4, 6], vec![1, 2, 3]];
        assert!(mutual_information(&independent).0.abs() < 1e-15);
        for n in [2usize, 4, 8] {
            let partition: Vec<Vec<u64>> =
                (0..n).map(|row| (0..n).map(|column| u64::from(row == column) * 10).collect()).collect();
            assert!((mutual_information(&partition).0 - (n as f64).log2()).abs() < 1e-12);
        }
        assert_eq!(mutual_information(&[vec![0, 0], vec![0, 0]]), (0.0, 0.0));
    }

    #[test]
    fn the_counting_bias_by_hand() {
        // Four occupied cells of two by two: one degree of freedom, 8 slots.
        let (_, bias) = mutual_information(&[vec![3, 1], vec![1, 3]]);
        assert!((bias - 1.0 / (16.0 * std::f64::consts::LN_2)).abs() < 1e-15);
    }

    #[test]
    fn domains_drawn_by_lot_show_what_single_documents_cause() {
        // Every document has an expert of its own: with one document a domain, all information is the documents'.
        let counts: Vec<Vec<u32>> =
            (0..4).map(|row| (0..4).map(|column| if row == column { 5 } else { 0 }).collect()).collect();
        let alone = of_documents(&[0, 1, 2, 3], &counts, 4, 8, 1);
        assert_eq!((alone.bits, alone.by_lot, alone.most), (2.0, 2.0, 2.0));
        // Two domains with one expert each, 16 documents: chance explains little of it.
        let domains: Vec<u32> = (0..16).map(|document| document % 2).collect();
        let counts: Vec<Vec<u32>> =
            domains.iter().map(|&domain| if domain == 0 { vec![7, 0] } else { vec![0, 7] }).collect();
        let found = of_documents(&domains, &counts, 2, 200, 1);
        assert_eq!(found.bits, 1.0);
        assert!(found.by_lot > 0.0 && found.by_lot < 0.15, "{}", found.by_lot);
        assert_eq!(found, of_documents(&domains, &counts, 2, 200, 1));
    }
}

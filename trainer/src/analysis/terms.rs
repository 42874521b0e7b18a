//! What a cluster is called: its most typical terms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One term of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// The token's text, or the word around a byte.
    pub text: String,
    /// Tokens of the cluster that carry it.
    pub count: u64,
    /// `p ln(p / q)` with its share `p` of the cluster's tokens and `q` of all tokens: what it adds to how far the cluster
    /// differs from the whole (Kullback-Leibler). Frequent and peculiar terms score; a term that is everywhere does not.
    pub score: f64,
}

/// The `most` most typical terms of each cluster, from the term and the cluster of every token; empty terms are passed over.
#[must_use]
pub fn typical(terms: &[String], labels: &[u32], clusters: usize, most: usize) -> Vec<Vec<Term>> {
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    let mut within: Vec<BTreeMap<&str, u64>> = vec![BTreeMap::new(); clusters];
    for (term, &label) in terms.iter().zip(labels).filter(|(term, _)| !term.is_empty()) {
        *all.entry(term).or_default() += 1;
        *within[label as usize].entry(term).or_default() += 1;
    }
    let total = all.values().sum::<u64>() as f64;
    within
        .into_iter()
        .map(|counts| {
            let size = counts.values().sum::<u64>() as f64;
            let mut scored: Vec<Term> = counts
                .into_iter()
                .map(|(text, count)| {
                    let (p, q) = (count as f64 / size, all[text] as f64 / total);
                    Term { text: text.to_owned(), count, score: p * (p / q).ln() }
                })
                .filter(|term| term.score > 0.0)
                .collect();
            scored.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.text.cmp(&b.text)));
            scored.truncate(most);
            scored
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_frequent_here_and_rare_elsewhere_is_typical() {
        let tokens = [
            ("the", 0),
            ("cat", 0),
            ("cat", 0),
            ("dog", 0),
            ("the", 1),
            ("sum", 1),
            ("sum", 1),
            ("sum", 1),
            ("", 1),
        ];
        let terms: Vec<String> = tokens.iter().map(|(term, _)| (*term).to_owned()).collect();
        let labels: Vec<u32> = tokens.iter().map(|&(_, label)| label).collect();
        let found = typical(&terms, &labels, 3, 2);
        let names = |cluster: usize| found[cluster].iter().map(|term| term.text.as_str()).collect::<Vec<_>>();
        assert_eq!(names(0), ["cat", "dog"]);
        assert_eq!(names(1), ["sum"], "`the` is as frequent everywhere");
        assert!(found[2].is_empty());
        // p = 1/2 of the cluster, q = 1/4 of all eight.
        assert!((found[0][0].score - 0.5 * 2.0f64.ln()).abs() < 1e-15);
        assert_eq!(found[0][0].count, 2);
    }
}

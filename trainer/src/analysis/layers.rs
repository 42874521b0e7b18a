//! All statistics of one layer's routing.

use serde::{Deserialize, Serialize};

use super::cka::Redundancy;
use super::coverage::Coverage;
use super::gather::LayerTally;
use super::information::{self, Information};
use super::locality::{effective_experts, jitter, shuffled_jitter};
use super::sample::Sample;
use super::similarity::Similarity;

/// Draws by lot of the documents' domains, for [`Information::by_lot`].
const LOTS: usize = 100;

/// The statistics of one layer with experts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LayerAnalysis {
    /// Index of the layer in the model.
    pub layer: usize,
    /// Routed experts.
    pub experts: usize,
    /// Routed experts of a token.
    pub top_k: usize,
    /// Which experts each domain uses.
    pub coverage: Coverage,
    /// What the domain tells about the expert.
    pub information: Information,
    /// How domains resemble each other, by their rows of [`Coverage::selection`].
    pub similarity: Similarity,
    /// [`effective_experts`] of documents.
    pub effective_experts: Spread,
    /// Change of experts from one token to the next.
    pub jitter: Jitter,
    /// Whether experts compute the same; none where it was not measured.
    pub redundancy: Option<Redundancy>,
}

/// One number of each document, over all of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Spread {
    /// Mean over documents.
    pub mean: f64,
    /// Lower quartile.
    pub lower: f64,
    /// Median.
    pub median: f64,
    /// Upper quartile.
    pub upper: f64,
    /// Mean over the documents of each domain; 0 without any.
    pub domains: Vec<f64>,
}

/// Routing jitter, over all neighbouring tokens of all documents.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Jitter {
    /// Mean share of a token's experts that the token before did not have.
    pub mean: f64,
    /// The same to expect with every document's tokens in random order.
    pub shuffled: f64,
    /// `mean` of each domain; 0 without text.
    pub domains: Vec<f64>,
}

impl LayerAnalysis {
    /// Of what was gathered.
    #[must_use]
    pub fn of(tally: &LayerTally, sample: &Sample, seed: u64) -> Self {
        let domain_count = sample.domains.len();
        let domains: Vec<u32> = sample.passages.iter().map(|passage| passage.domain).collect();
        let mut slots = vec![vec![0u64; tally.experts]; domain_count];
        for (&domain, counts) in domains.iter().zip(&tally.slots) {
            let row = &mut slots[domain as usize];
            row.iter_mut().zip(counts).for_each(|(sum, &count)| *sum += u64::from(count));
        }
        let tokens: Vec<u64> =
            (0..domain_count).map(|domain| sample.of_domain(domain as u32).1 as u64).collect();
        let coverage = Coverage::of_sums(slots, &tally.probability, &tokens);
        let effective: Vec<f64> = tally.slots.iter().map(|counts| effective_experts(counts)).collect();
        Self {
            layer: tally.layer,
            experts: tally.experts,
            top_k: tally.top_k,
            similarity: Similarity::of_rows(&coverage.selection),
            coverage,
            information: information::of_documents(
                &domains,
                &tally.slots,
                domain_count,
                LOTS,
                // Each layer draws lots of its own.
                seed.wrapping_add(tally.layer as u64),
            ),
            effective_experts: Spread::of(&effective, &domains, domain_count),
            jitter: Jitter::of(tally, sample),
            redundancy: None,
        }
    }

    pub(super) fn check(&self, domains: usize) -> Result<(), String> {
        let name = self.layer;
        let coverage = &self.coverage;
        let widths = |rows: &[Vec<f64>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
        let per_domain =
            [coverage.breadth.len(), self.effective_experts.domains.len(), self.jitter.domains.len()];
        let tables = [
            ("slots", coverage.slots.iter().map(Vec::len).collect(), self.experts),
            ("selection", widths(&coverage.selection), self.experts),
            ("probability", widths(&coverage.probability), self.experts),
            ("cosine", widths(&self.similarity.cosine), domains),
            ("l2", widths(&self.similarity.l2), domains),
        ];
        if per_domain.iter().any(|&rows| rows != domains) {
            return Err(format!("layer {name} does not have {domains} domains everywhere"));
        }
        for (what, widths, width) in tables {
            if widths.len() != domains || widths.iter().any(|&found| found != width) {
                return Err(format!("layer {name}: `{what}` is no table of {domains} domains by {width}"));
            }
        }
        let square = |cka: &Vec<Vec<f64>>| {
            cka.len() == self.experts && cka.iter().all(|row| row.len() == self.experts)
        };
        match &self.redundancy {
            Some(found) if !square(&found.cka) => {
                Err(format!("layer {name}: `cka` is no table of {0} by {0} experts", self.experts))
            }
            _ => Ok(()),
        }
    }
}

impl Spread {
    /// Of `values`, one a document, and the documents' domains.
    #[must_use]
    pub fn of(values: &[f64], domains: &[u32], domain_count: usize) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |quantile: f64| match sorted.len() {
            0 => 0.0,
            n => {
                // Between neighbours in proportion, as most programs do.
                let place = quantile * (n - 1) as f64;
                let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
                below + (place - place.floor()) * (above - below)
            }
        };
        let mean = |of: &mut dyn Iterator<Item = f64>| {
            let (sum, count) = of.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
            sum / count.max(1) as f64
        };
        let of_domain = |domain: usize| {
            let of = values.iter().zip(domains).filter(move |&(_, &found)| found as usize == domain);
            of.map(|(&value, _)| value)
        };
        Self {
            mean: mean(&mut values.iter().copied()),
            lower: at(0.25),
            median: at(0.5),
            upper: at(0.75),
            domains: (0..domain_count).map(|domain| mean(&mut of_domain(domain))).collect(),
        }
    }
}

impl Jitter {
    fn of(tally: &LayerTally, sample: &Sample) -> Self {
        let mut sums = vec![(0.0, 0usize); sample.domains.len()];
        let (mut shuffled, mut start) = (0.0, 0);
        for (passage, counts) in sample.passages.iter().zip(&tally.slots) {
            let end = start + passage.ids.len() * tally.top_k;
            let (mean, pairs) = jitter(&tally.chosen[start..end], tally.top_k);
            let (sum, all) = &mut sums[passage.domain as usize];
            *sum += mean * pairs as f64;
            *all += pairs;
            shuffled += shuffled_jitter(counts, tally.top_k).unwrap_or(0.0) * pairs as f64;
            start = end;
        }
        let over = |sum: f64, pairs: usize| sum / pairs.max(1) as f64;
        let pairs = sums.iter().map(|(_, pairs)| pairs).sum();
        Self {
            mean: over(sums.iter().map(|(sum, _)| sum).sum(), pairs),
            shuffled: over(shuffled, pairs),
            domains: sums.into_iter().map(|(sum, pairs)| over(sum, pairs)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Passage;
    use super::*;

    /// Two domains that share no expert; the first changes one of its two experts at every token.
    fn planted() -> (LayerTally, Sample) {
        let passage = |domain, document| Passage { domain, document, ids: vec![1, 2, 3] };
        let passages = vec![passage(0, 0), passage(0, 1), passage(1, 2), passage(1, 3)];
        let sample = Sample { domains: vec!["a".into(), "b".into()], passages };
        let chosen =
            [[0, 1, 0, 2, 0, 1], [0, 2, 0, 1, 0, 2], [3, 4, 4, 3, 3, 4], [3, 4, 3, 4, 4, 3]].concat();
        let slots = vec![vec![3, 2, 1, 0, 0], vec![3, 1, 2, 0, 0], vec![0, 0, 0, 3, 3], vec![0, 0, 0, 3, 3]];
        let probability = vec![vec![3.0, 1.5, 1.5, 0.0, 0.0], vec![0.0, 0.0, 0.0, 3.0, 3.0]];
        let inputs = Vec::new();
        (LayerTally { layer: 2, experts: 5, top_k: 2, always: 0, probability, slots, chosen, inputs }, sample)
    }

    #[test]
    fn a_planted_layer_has_the_statistics_that_it_was_planted_with() {
        let (tally, sample) = planted();
        let found = LayerAnalysis::of(&tally, &sample, 0);
        assert_eq!(found.coverage.slots, [[6, 3, 3, 0, 0], [0, 0, 0, 6, 6]]);
        assert_eq!(found.coverage.selection[1], [0.0, 0.0, 0.0, 1.0, 1.0]);
        assert!((found.information.bits - 1.0).abs() < 1e-12, "the expert gives the domain away");
        assert!(found.information.by_lot < 1.0 && found.information.most == 1.0);
        assert_eq!(found.jitter.domains, [0.5, 0.0]);
        assert_eq!(found.jitter.mean, 0.25);
        assert_eq!(found.similarity.mean_cosine(), Some(0.0));
        assert!((found.effective_experts.domains[1] - 2.0).abs() < 1e-12);
        assert!(found.effective_experts.domains[0] > 2.0);
        assert_eq!(found.check(2), Ok(()));
        assert!(found.check(3).unwrap_err().contains("layer 2"));
        assert_eq!(found, LayerAnalysis::of(&tally, &sample, 0));
    }

    #[test]
    fn spreads_by_hand() {
        let found = Spread::of(&[4.0, 1.0, 2.0, 3.0], &[0, 0, 1, 1], 3);
        assert_eq!((found.mean, found.lower, found.median, found.upper), (2.5, 1.75, 2.5, 3.25));
        assert_eq!(found.domains, [2.5, 2.5, 0.0]);
        assert_eq!(Spread::of(&[], &[], 0), Spread::default());
    }
}

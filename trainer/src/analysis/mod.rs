//! What the experts of a trained model do: statistics of routing, and clusters of tokens.
//!
//! ```text
//! held-out documents -> sample -> gather (one forward pass) -> layers: coverage, information, locality, similarity, cka
//!                                                            -> clusters: pca -> minibatch -> kmeans -> quality, terms, contexts
//!                    earlier checkpoints -> overlap          metrics.jsonl -> load
//! ```
//!
//! Every statistic is a pure function in a file of its own, with its formula. [`Analysis`] is all of them together: the content
//! of `analysis.json`. Everything is deterministic and independent of the number of threads: sums run in a fixed order, draws
//! come from ChaCha keyed by a seed, and nothing depends on the order of a hash map.

pub mod cka;
pub mod clusters;
pub mod coverage;
pub mod gather;
pub mod information;
pub mod kmeans;
pub mod layers;
pub mod load;
pub mod locality;
mod minibatch;
pub mod overlap;
pub mod pca;
pub mod quality;
mod random;
pub mod sample;
pub mod similarity;
pub mod spelling;
pub mod terms;
mod vector;
pub mod window;

use serde::{Deserialize, Serialize};

pub use clusters::{Cluster, Clusters, Context};
pub use layers::LayerAnalysis;
pub use load::LoadPoint;

/// What `format` of an `analysis.json` says.
pub const FORMAT: &str = "emo-analysis-1";

/// The content of `analysis.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Analysis {
    /// [`FORMAT`].
    pub format: String,
    /// Name of the model: its run's folder.
    pub model: String,
    /// Optimiser steps of the checkpoint, where it says so.
    pub step: Option<u64>,
    /// What was read.
    pub sample: SampleSummary,
    /// One entry a layer with experts.
    pub layers: Vec<LayerAnalysis>,
    /// Earlier checkpoints of the run, the oldest first.
    pub stability: Vec<Stability>,
    /// Balance of the experts over training, from `metrics.jsonl`.
    pub load: Vec<LoadPoint>,
    /// Clusters of tokens.
    pub clusters: Option<Clusters>,
}

impl Analysis {
    /// Mean over the layers that have the value.
    pub(crate) fn mean(&self, value: impl Fn(&LayerAnalysis) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.layers.iter().filter_map(value).collect();
        if values.is_empty() { None } else { Some(values.iter().sum::<f64>() / values.len() as f64) }
    }
}

/// What an analysis read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SampleSummary {
    /// Where the text is from.
    pub text: String,
    /// Tokens of a passage at most.
    pub sequence: usize,
    /// Seed of k-means and of domains drawn by lot.
    pub seed: u64,
    /// One entry a domain that has text.
    pub domains: Vec<DomainSample>,
}

/// What was read of one domain.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DomainSample {
    /// Its name.
    pub name: String,
    /// Passages, which stand for documents.
    pub documents: usize,
    /// Their tokens.
    pub tokens: usize,
}

/// How far an earlier checkpoint routes the same tokens as later ones.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stability {
    /// Optimiser steps of the earlier checkpoint.
    pub step: u64,
    /// [`overlap::overlap`] with the last checkpoint, for each layer with experts: router saturation.
    pub with_last: Vec<f64>,
    /// The same with the next checkpoint of this list (or the last): how much moved in between.
    pub with_next: Vec<f64>,
}

impl Analysis {
    /// Names of the domains.
    #[must_use]
    pub fn domains(&self) -> Vec<String> {
        self.sample.domains.iter().map(|domain| domain.name.clone()).collect()
    }

    /// Reads the text of an `analysis.json`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if found.format != FORMAT {
            return Err(format!("its format is `{}`, not `{FORMAT}`", found.format));
        }
        found.check()?;
        Ok(found)
    }

    /// Whether all tables have the sizes that they should: what draws them relies on it.
    ///
    /// # Errors
    /// The first that has not.
    pub fn check(&self) -> Result<(), String> {
        let domains = self.sample.domains.len();
        self.layers.iter().try_for_each(|layer| layer.check(domains))?;
        let counts = |domain: &DomainSample| [domain.documents as u64, domain.tokens as u64];
        let read = self.sample.domains.iter().flat_map(counts);
        let slots = self.layers.iter().flat_map(|layer| layer.coverage.slots.iter().flatten().copied());
        // Pages add them up.
        if read.chain(slots).try_fold(0u64, u64::checked_add).is_none() {
            return Err("its counts add up to more than 2^64".into());
        }
        let each_layer = |row: &Stability| {
            row.with_last.len() == self.layers.len() && row.with_next.len() == self.layers.len()
        };
        if !self.stability.iter().all(each_layer) {
            return Err(format!("its `stability` does not have {} layers everywhere", self.layers.len()));
        }
        self.clusters.iter().try_for_each(|clusters| clusters.check(domains, self.layers.len()))
    }
}

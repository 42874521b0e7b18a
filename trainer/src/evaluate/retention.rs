//! How much of a model's quality is left when only the experts chosen for a domain run: the curves that EMO is judged by
//! (emo.md 6).

use emo::Backend;
use serde::{Deserialize, Serialize};

use super::held_out::HeldOut;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::subset::select::source::Source;
use crate::subset::select::{self, Choice, Method};
use crate::subset::{Keep, LayerSubset};

/// What is tried: every method with every number of documents and every size of subset.
#[derive(Debug, Clone)]
pub struct Grid {
    /// How experts are ranked.
    pub methods: Vec<Method>,
    /// Numbers of documents to choose by. [`Method::Random`] looks at none and is tried once.
    pub documents: Vec<usize>,
    /// Sizes of subsets.
    pub keep: Vec<Keep>,
    /// Tokens of a document that are looked at, from its start.
    pub longest: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Measure each subset on every domain, not only on the one it was chosen for.
    pub across: bool,
}

/// A domain's bits per byte with all experts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Full {
    /// The domain.
    pub domain: String,
    /// Bits per byte.
    pub bits_per_byte: f64,
}

/// One subset measured on one domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// How its experts were ranked.
    pub method: Method,
    /// By how many documents at most.
    pub documents: usize,
    /// How many documents there were.
    pub found: usize,
    /// Experts kept in the first layer that has experts, shared ones included, and of how many.
    pub kept: (usize, usize),
    /// Experts kept in each layer that has experts, likewise.
    pub layers: Vec<usize>,
    /// The domain that the experts were chosen for.
    pub chosen_for: String,
    /// The domain that was measured.
    pub domain: String,
    /// Bits per byte of its held-out text.
    pub bits_per_byte: f64,
    /// `bits_per_byte / (bits per byte with all experts) - 1`.
    pub rise: f64,
}

/// All that was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    /// The whole model.
    pub full: Vec<Full>,
    /// Its subsets.
    pub subsets: Vec<Kept>,
}

/// A line of the summary: the mean over domains of the rise on the domain a subset was chosen for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeanRise {
    /// How experts were ranked.
    pub method: Method,
    /// By how many documents at most.
    pub documents: usize,
    /// See [`Kept::kept`].
    pub kept: (usize, usize),
    /// See [`Kept::layers`]; subsets that differ in it are lines of their own.
    pub layers: Vec<usize>,
    /// Mean over the domains.
    pub mean: f64,
    /// The largest of them.
    pub worst: f64,
}

impl Grid {
    /// `(method, documents)` without repeating those that look at no documents.
    fn rankings(&self) -> Vec<(Method, usize)> {
        let of = |&method: &Method| {
            let documents = if method == Method::Random { &self.documents[..1] } else { &self.documents[..] };
            documents.iter().map(move |&documents| (method, documents))
        };
        self.methods.iter().flat_map(of).collect()
    }
}

impl Retention {
    /// Measures the model, which afterwards may use all experts again. `source` has the documents to choose by, `held_out`
    /// those to measure on; domains are matched by name. `progress` is told how many subsets are done and of how many.
    ///
    /// # Errors
    /// A grid without methods, documents or sizes, a size the model cannot be cut to, a domain of `held_out` that
    /// `source` does not have, or a failing device.
    pub fn measure<B: Backend>(
        model: &mut Model<B>,
        source: &Source,
        held_out: &mut HeldOut,
        grid: &Grid,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        if grid.methods.is_empty() || grid.documents.is_empty() || grid.keep.is_empty() {
            return Err(Error::Usage(
                "at least one method, number of documents and size of subset is needed".into(),
            ));
        }
        let mut found = Self::default();
        model.set_experts(None)?;
        let domains: Vec<(usize, String)> =
            held_out.domains().map(|(d, name)| (d, name.to_owned())).collect();
        for (domain, name) in &domains {
            if let Some(valid) = held_out.domain(model, *domain)? {
                found.full.push(Full { domain: name.clone(), bits_per_byte: valid.bits_per_byte });
            }
        }
        let experts = model.config().moe_layers().next().map_or(0, |(_, moe)| moe.experts);
        let rankings = grid.rankings();
        let of = domains.len() * rankings.len() * grid.keep.len();
        let mut done = 0;
        for (_, chosen_for) in &domains {
            for &(method, count) in &rankings {
                let sample = source.sample(Some(chosen_for), count, grid.longest, grid.seed)?;
                for keep in &grid.keep {
                    let routed = keep.routed(model.config())?;
                    let choice = Choice { method, routed: &routed, seed: grid.seed };
                    let subset = select::select(model, &sample.documents, choice, |_, _| ())?;
                    model.set_experts(Some(&subset.kept()))?;
                    let layers: Vec<usize> = subset.layers().iter().map(LayerSubset::kept).collect();
                    for (domain, name) in domains.iter().filter(|(_, name)| grid.across || name == chosen_for)
                    {
                        let Some(valid) = held_out.domain(model, *domain)? else { continue };
                        let full = found.full.iter().find(|full| full.domain == *name);
                        found.subsets.push(Kept {
                            method,
                            documents: count,
                            found: sample.documents.len(),
                            kept: (layers[0], experts),
                            layers: layers.clone(),
                            chosen_for: chosen_for.clone(),
                            domain: name.clone(),
                            bits_per_byte: valid.bits_per_byte,
                            rise: valid.bits_per_byte / full.map_or(f64::NAN, |full| full.bits_per_byte)
                                - 1.0,
                        });
                    }
                    model.set_experts(None)?;
                    done += 1;
                    progress(done, of);
                }
            }
        }
        Ok(found)
    }

    /// The mean rise of each kind of subset, in the order measured.
    #[must_use]
    pub fn means(&self) -> Vec<MeanRise> {
        let mut means: Vec<(MeanRise, usize)> = Vec::new();
        for kept in self.subsets.iter().filter(|kept| kept.domain == kept.chosen_for) {
            let same = |mean: &MeanRise| {
                (mean.method, mean.documents, &mean.layers) == (kept.method, kept.documents, &kept.layers)
            };
            match means.iter_mut().find(|(mean, _)| same(mean)) {
                Some((mean, count)) => {
                    mean.mean += kept.rise;
                    mean.worst = mean.worst.max(kept.rise);
                    *count += 1;
                }
                None => {
                    let Kept { method, documents, kept, ref layers, rise, .. } = *kept;
                    let layers = layers.clone();
                    means.push((MeanRise { method, documents, kept, layers, mean: rise, worst: rise }, 1));
                }
            }
        }
        means.into_iter().map(|(mean, count)| MeanRise { mean: mean.mean / count as f64, ..mean }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_over_the_domains_a_subset_was_chosen_for() {
        let kept = |chosen_for: &str, domain: &str, layers: [usize; 2], rise| Kept {
            method: Method::Mass,
            documents: 5,
            found: 5,
            kept: (layers[0], 64),
            layers: layers.into(),
            chosen_for: chosen_for.into(),
            domain: domain.into(),
            bits_per_byte: 1.0,
            rise,
        };
        let subsets = vec![
            kept("a", "a", [8, 8], 0.02),
            kept("a", "b", [8, 8], 0.9),
            kept("b", "b", [8, 8], 0.04),
            kept("b", "b", [4, 4], 0.5),
            kept("b", "b", [8, 4], 0.7),
        ];
        let means = Retention { full: Vec::new(), subsets }.means();
        assert!((means[0].mean - 0.03).abs() < 1e-12 && means[0].worst == 0.04);
        assert_eq!((means[1].kept, means[1].mean), ((4, 64), 0.5));
        // As many in the first layer, fewer in the second: not the same subset.
        assert_eq!((means[2].kept, &means[2].layers, means[2].mean), ((8, 64), &vec![8, 4], 0.7));
        assert_eq!(means.len(), 3);
    }

    #[test]
    fn a_draw_without_documents_is_tried_once() {
        let grid = Grid {
            methods: vec![Method::Layerwise, Method::Random],
            documents: vec![1, 5],
            keep: vec![Keep::experts(4)],
            longest: 8,
            seed: 0,
            across: false,
        };
        let expected = [(Method::Layerwise, 1), (Method::Layerwise, 5), (Method::Random, 1)];
        assert_eq!(grid.rankings(), expected);
    }
}

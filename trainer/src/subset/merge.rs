//! Tuned experts put back into the full model.
//!
//! Every tensor of the result is the full model's, bit for bit, but for the pieces (an expert's matrix, a row of a router,
//! any other tensor) that are to be taken and that at least one tuned model has changed:
//! `piece = (1 - alpha) full + alpha mean(tuned models that changed it)`.
//! Nothing is ever whole in memory but one tensor of each model.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::ExpertSubset;
use crate::checkpoint::safetensors::Planned;
use crate::checkpoint::weights::{Part, Weights, Written, expert_name, part, stored};
use crate::checkpoint::{self, first_difference};
use crate::error::{Error, Result};
use crate::evaluate::tokens::Tokens;
use crate::model::{FeedForward, ModelConfig};

/// What can be taken from a tuned model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Take {
    /// Routed experts.
    Experts,
    /// Rows of the router, its biases and taps.
    Router,
    /// Shared experts.
    Shared,
    /// Everything else: embedding, attention, norms, dense layers, head.
    Dense,
}

/// How to merge.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is taken.
    pub take: BTreeSet<Take>,
    /// Share of the tuned values, 0 to 1.
    pub alpha: f64,
}

/// What was merged.
#[derive(Debug, Clone, Serialize)]
pub struct Merged {
    /// The files.
    #[serde(flatten)]
    pub written: Written,
    /// Pieces that a tuned model had changed and that were taken.
    pub changed: usize,
    /// Pieces that more than one had changed.
    pub averaged: usize,
}

/// A tuned model and where the full model has its experts.
struct Tuned {
    weights: Weights,
    /// For each layer, dense ones too: the full model's routed expert of each routed expert here.
    places: Vec<Vec<usize>>,
}

impl Tuned {
    /// The model in `folder` as one that was tuned from `full`, whose ids are `tokens`.
    fn open(folder: &Path, full: &ModelConfig, tokens: &Tokens) -> Result<Self> {
        let weights = Weights::open(folder)?;
        let config = weights.config();
        if let Some((setting, theirs, ours)) = first_difference(&trunk(config), &trunk(full)) {
            let message =
                format!("was not tuned from the full model: `{setting}` is {theirs} here and {ours} there");
            return Err(Error::checkpoint(folder, message));
        }
        let own = Tokens::of(folder, config)?;
        if own.differ(tokens) {
            let message = format!(
                "has another tokenizer ({}) than the full model ({}), so that it was not tuned from it; give models of one \
                 tokenizer",
                own.words(),
                tokens.words()
            );
            return Err(Error::checkpoint(folder, message));
        }
        let mut places = vec![Vec::new(); config.layers()];
        if config.moe_layers().next().is_some() {
            let mut both = config.moe_layers().zip(full.moe_layers());
            let pruned = both.any(|((_, moe), (_, full))| moe.kept.is_some() || moe.routed() < full.routed());
            let origin = if pruned { ExpertSubset::of_pruned(config) } else { ExpertSubset::full(config) };
            let found = origin.and_then(|origin| origin.places(full));
            let found = found.map_err(|error| Error::checkpoint(folder, error))?;
            for ((layer, _), found) in config.moe_layers().zip(found) {
                places[layer] = found;
            }
        }
        Ok(Self { weights, places })
    }

    /// The index here of an expert of the full model, whose routed and shared experts are counted.
    fn place(&self, layer: usize, expert: usize, routed: usize) -> Option<usize> {
        let places = &self.places[layer];
        match expert.checked_sub(routed) {
            None => places.binary_search(&expert).ok(),
            Some(shared) => Some(places.len() + shared),
        }
    }
}

/// Merges the models in `tuned` into the one in `full` and writes the result to `out`.
///
/// # Errors
/// A tuned model that is not of the full one, damaged files, a full disk.
pub fn merge(
    full: &Path,
    tuned: &[impl AsRef<Path>],
    out: &Path,
    settings: &Settings,
    progress: impl FnMut(u64),
) -> Result<Merged> {
    if !(0.0..=1.0).contains(&settings.alpha) {
        return Err(Error::Usage(format!("--alpha must lie between 0 and 1, found {}", settings.alpha)));
    }
    let folder = full;
    let mut full = Weights::open(folder)?;
    let tokens = Tokens::of(folder, full.config())?;
    let open = |path| Tuned::open(path, full.config(), &tokens);
    let mut tuned = tuned.iter().map(|path| open(path.as_ref())).collect::<Result<Vec<_>>>()?;
    let routed: Vec<usize> = full
        .config()
        .feed_forward
        .iter()
        .map(|kind| match kind {
            FeedForward::Moe(moe) => moe.routed(),
            FeedForward::Dense(_) => 0,
        })
        .collect();
    let (mut changed, mut averaged) = (0, 0);
    let write = |full: &mut Weights, planned: &Planned| -> checkpoint::Result<Vec<u8>> {
        let name = &planned.name;
        let taken = match part(name) {
            Part::Expert { layer, expert, .. } if expert < routed[layer] => Take::Experts,
            Part::Expert { .. } => Take::Shared,
            Part::Router { .. } => Take::Router,
            Part::Dense => Take::Dense,
        };
        let bytes = full.bytes(name)?;
        if !settings.take.contains(&taken) {
            return Ok(bytes);
        }
        let mut values = full.floats(name, &planned.shape)?;
        let pieces = pieces(planned, taken, &routed);
        let size = values.len() / pieces;
        let theirs = tuned
            .iter_mut()
            .map(|tuned| tuned.pieces(planned, pieces, &routed))
            .collect::<checkpoint::Result<Vec<_>>>()?;
        let mut touched = false;
        for (piece, values) in values.chunks_exact_mut(size.max(1)).enumerate() {
            let differing: Vec<&[f64]> = theirs
                .iter()
                .filter_map(|theirs| theirs.get(piece)?.as_deref())
                .filter(|theirs| **theirs != *values)
                .collect();
            (changed, averaged) =
                (changed + usize::from(!differing.is_empty()), averaged + usize::from(differing.len() > 1));
            touched |= !differing.is_empty();
            mix(values, &differing, settings.alpha);
        }
        if touched { stored(&values, planned) } else { Ok(bytes) }
    };
    let written = full.write_like(out, None, str::to_owned, write, progress)?;
    Ok(Merged { written, changed, averaged })
}

/// `(1 - alpha) values + alpha mean(theirs)`, exactly theirs where that is what it says.
fn mix(values: &mut [f64], theirs: &[&[f64]], alpha: f64) {
    if theirs.is_empty() {
        return;
    }
    for (index, value) in values.iter_mut().enumerate() {
        let mean = match theirs {
            [only] => only[index],
            _ => theirs.iter().map(|theirs| theirs[index]).sum::<f64>() / theirs.len() as f64,
        };
        *value = if alpha == 1.0 { mean } else { (1.0 - alpha) * *value + alpha * mean };
    }
}

/// Into how many pieces along its first axis a tensor of the full model is cut: a router's has one for each expert.
fn pieces(planned: &Planned, taken: Take, routed: &[usize]) -> usize {
    let rows = planned.shape.first().copied().unwrap_or(1);
    match (taken, part(&planned.name)) {
        // Taps that all experts share are one row, and one piece.
        (Take::Router, Part::Router { layer }) if rows >= routed[layer] => rows.max(1),
        _ => 1,
    }
}

impl Tuned {
    /// This model's values of the pieces of a tensor of the full model; none where it lacks the expert.
    fn pieces(
        &mut self,
        planned: &Planned,
        pieces: usize,
        routed: &[usize],
    ) -> checkpoint::Result<Vec<Option<Vec<f64>>>> {
        match part(&planned.name) {
            Part::Expert { layer, expert, matrix } => {
                let Some(place) = self.place(layer, expert, routed[layer]) else { return Ok(vec![None]) };
                let name = expert_name(layer, place, matrix);
                Ok(vec![Some(self.weights.floats(&name, &planned.shape)?)])
            }
            Part::Router { layer } if pieces > 1 || planned.shape.first() == Some(&routed[layer]) => {
                if !self.weights.has(&planned.name) {
                    return Ok(vec![None; pieces]);
                }
                // The full tensor has a row for each routed expert, and one for each shared expert or none.
                let mut shape = planned.shape.clone();
                shape[0] = shape[0] - routed[layer] + self.places[layer].len();
                let values = self.weights.floats(&planned.name, &shape)?;
                let size = values.len() / shape[0].max(1);
                let row = |expert: usize| {
                    let place = self.place(layer, expert, routed[layer])?;
                    values.get(place * size..(place + 1) * size).map(<[f64]>::to_vec)
                };
                Ok((0..pieces).map(row).collect())
            }
            Part::Router { .. } | Part::Dense => {
                Ok(vec![Some(self.weights.floats(&planned.name, &planned.shape)?)])
            }
        }
    }
}

/// A model without what pruning changes and what is no property of its weights.
fn trunk(config: &ModelConfig) -> ModelConfig {
    let mut trunk = ModelConfig {
        max_positions: 0,
        pad_id: None,
        eos_id: None,
        bos_id: None,
        init_std: 0.0,
        ..config.clone()
    };
    for kind in &mut trunk.feed_forward {
        if let FeedForward::Moe(moe) = kind {
            moe.experts = moe.shared;
            (moe.top_k, moe.forced, moe.kept) = (0, 0, None);
            moe.always_active.clear();
        }
    }
    trunk
}

#[cfg(test)]
mod tests {
    use super::mix;

    #[test]
    fn one_replaces_several_average_and_alpha_holds_back() {
        let mixed = |theirs: &[&[f64]], alpha| {
            let mut values = [1.0, -3.0];
            mix(&mut values, theirs, alpha);
            values
        };
        assert_eq!(mixed(&[], 1.0), [1.0, -3.0]);
        assert_eq!(mixed(&[&[0.1, 0.2]], 1.0), [0.1, 0.2]);
        assert_eq!(mixed(&[&[3.0, 1.0], &[5.0, 3.0]], 1.0), [4.0, 2.0]);
        assert_eq!(mixed(&[&[3.0, 1.0], &[5.0, 3.0]], 0.5), [2.5, -0.5]);
        assert_eq!(mixed(&[&[9.0, 9.0]], 0.0), [1.0, -3.0]);
    }
}

//! Which experts a domain needs: a ranking of the experts of every layer from a few documents.
//!
//! | method | score of routed expert `i` of a layer | layers below |
//! |---|---|---|
//! | [`Method::Layerwise`] | mean over tokens of the router's score `p_i` (EMO: a softmax over the routed experts) | already pruned |
//! | [`Method::Mass`] | sum over tokens of the weight that `i` got, 0 where it was not selected | whole |
//! | [`Method::EasyEp`] | `sum_t s_t g_ti \|E_i(h_t)\|_2`, `s_t = max(0, 1 - cos(h_t, h_t + MoE(h_t)))` | whole |
//! | [`Method::Random`] | a seeded draw, the control | not looked at |
//!
//! with `h_t` the router's input and `g_ti` the weight. Layer-wise selection is the one of EMO (arXiv 2605.06663, emo.md 6.2);
//! EASY-EP is arXiv 2504.06792 (emo.md 6.3). The best of each layer are kept, ties to the lower index; experts that are
//! always active and shared ones are kept in any case.

mod score;
pub mod source;

use emo::Backend;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::ExpertSubset;
use crate::error::{Error, Result};
use crate::model::{Inputs, Model, Moe, Segments};

/// How experts are ranked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// By mean router score, layer after layer, the layers below already pruned.
    #[default]
    Layerwise,
    /// By the weights that tokens gave, in one pass.
    Mass,
    /// By weight and size of the experts' outputs, for tokens that the layer changes (EASY-EP).
    EasyEp,
    /// By a seeded draw: the control.
    Random,
}

impl Method {
    /// Its name on the command line and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Layerwise => "layerwise",
            Self::Mass => "mass",
            Self::EasyEp => "easy-ep",
            Self::Random => "random",
        }
    }

    /// Forward passes over the text that it takes.
    fn passes(self, layers: usize) -> usize {
        match self {
            Self::Layerwise | Self::EasyEp => layers,
            Self::Mass => 1,
            Self::Random => 0,
        }
    }
}

/// What to choose.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// How.
    pub method: Method,
    /// Routed experts to keep in each layer with experts; see [`super::Keep::routed`].
    pub routed: &'a [usize],
    /// Seed of [`Method::Random`].
    pub seed: u64,
}

/// Chooses experts by what `documents` (token ids) use. Every document is seen by itself. Afterwards the model may use all
/// experts. `progress` is told the batches done and of how many.
///
/// # Errors
/// No text, a document longer than the model's capacity, or a failing device.
pub fn select<B: Backend>(
    model: &mut Model<B>,
    documents: &[Vec<u32>],
    choice: Choice<'_>,
    mut progress: impl FnMut(usize, usize),
) -> Result<ExpertSubset> {
    let layers: Vec<(usize, Moe)> =
        model.config().moe_layers().map(|(layer, moe)| (layer, moe.clone())).collect();
    if layers.len() != choice.routed.len() {
        let message = format!("{} numbers of experts for {} layers", choice.routed.len(), layers.len());
        return Err(Error::Usage(message));
    }
    let batches = batches(model, documents)?;
    let of = batches.len() * choice.method.passes(layers.len());
    let mut done = 0;
    let mut count = || {
        done += 1;
        progress(done, of);
    };
    model.set_experts(None)?;
    let mut kept: Vec<Vec<u32>> = layers.iter().map(|(_, moe)| (0..moe.routed() as u32).collect()).collect();
    let zeros = |moe: &Moe| vec![0.0; moe.routed()];
    match choice.method {
        Method::Layerwise => {
            for (ordinal, (layer, moe)) in layers.iter().enumerate() {
                let mut scores = zeros(moe);
                for batch in &batches {
                    model.forward_blocks(batch, layer + 1)?;
                    score::router(&score::routing(model, ordinal)?, &mut scores);
                    count();
                }
                kept[ordinal] = best(&scores, choice.routed[ordinal], moe);
                model.set_experts(Some(&kept))?;
            }
            model.set_experts(None)?;
        }
        Method::Mass => {
            let mut scores: Vec<Vec<f64>> = layers.iter().map(|(_, moe)| zeros(moe)).collect();
            for batch in &batches {
                model.forward(batch)?;
                for (ordinal, scores) in scores.iter_mut().enumerate() {
                    score::mass(&score::routing(model, ordinal)?, scores);
                }
                count();
            }
            for (ordinal, (_, moe)) in layers.iter().enumerate() {
                kept[ordinal] = best(&scores[ordinal], choice.routed[ordinal], moe);
            }
        }
        Method::EasyEp => {
            for (ordinal, (layer, moe)) in layers.iter().enumerate() {
                let mut scores = zeros(moe);
                for batch in &batches {
                    model.forward_blocks(batch, layer + 1)?;
                    let outputs = model.expert_outputs(ordinal)?;
                    score::easy_ep(&score::routing(model, ordinal)?, &outputs, &mut scores);
                    count();
                }
                kept[ordinal] = best(&scores, choice.routed[ordinal], moe);
            }
        }
        Method::Random => {
            for (ordinal, (layer, moe)) in layers.iter().enumerate() {
                let mut random = ChaCha8Rng::seed_from_u64(choice.seed);
                random.set_stream(*layer as u64);
                let scores: Vec<f64> = (0..moe.routed()).map(|_| random.next_u32().into()).collect();
                kept[ordinal] = best(&scores, choice.routed[ordinal], moe);
            }
        }
    }
    ExpertSubset::of(model.config(), |ordinal, _| std::mem::take(&mut kept[ordinal]))
}

/// The `count` experts of the greatest score, ties to the lower index, always-active ones first; ascending.
fn best(scores: &[f64], count: usize, moe: &Moe) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    let active = |expert: u32| moe.always_active.contains(&expert);
    order.sort_by(|&a, &b| {
        let by_score = scores[b as usize].total_cmp(&scores[a as usize]);
        active(b).cmp(&active(a)).then(by_score).then(a.cmp(&b))
    });
    order.truncate(count.max(moe.always_active.len()));
    order.sort_unstable();
    order
}

/// As many documents at once as the model's memory is planned for, each a segment of its own.
fn batches<B: Backend>(model: &Model<B>, documents: &[Vec<u32>]) -> Result<Vec<Inputs>> {
    let capacity = model.capacity();
    let mut batches: Vec<Inputs> = Vec::new();
    for ids in documents.iter().filter(|ids| !ids.is_empty()) {
        if ids.len() > capacity.longest.min(capacity.tokens) {
            let message = format!("a document of {} tokens is longer than {}", ids.len(), capacity.longest);
            return Err(Error::Usage(message));
        }
        let fits = |batch: &&mut Inputs| batch.tokens() + ids.len() <= capacity.tokens;
        match batches.last_mut().filter(fits) {
            Some(batch) => {
                batch.ids.extend_from_slice(ids);
                batch.positions.extend(0..ids.len() as u32);
                for Segments { offsets } in [&mut batch.attention, &mut batch.routing] {
                    offsets.push(batch.ids.len() as u32);
                }
            }
            None => batches.push(Inputs::rows(ids.clone(), 1, ids.len())),
        }
    }
    if batches.is_empty() {
        return Err(Error::Usage("there is no text to choose experts by".into()));
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_ties_go_to_the_lower_index_and_active_experts_stay() {
        let moe = Moe::emo(6, 2, 1, 8);
        assert_eq!(best(&[0.1, 0.4, 0.4, 0.4, 0.3], 2, &moe), [1, 2]);
        let moe = Moe { always_active: vec![0], ..moe };
        assert_eq!(best(&[0.1, 0.4, 0.4, 0.4, 0.3], 2, &moe), [0, 1]);
    }
}

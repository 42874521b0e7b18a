//! Subsets of a model's experts: what a task keeps, and what can be done with it.
//!
//! [`ExpertSubset`] names, for each layer with experts, the routed experts that are kept, by their index in the model that
//! the subset was made for. Shared experts are always kept. Read from and written to a JSON file (`--experts FILE`).

pub mod compose;
mod file;
pub mod grow;
mod keep;
pub mod merge;
mod places;
pub mod run;
pub mod select;

use std::collections::BTreeMap;

pub use file::Made;
pub use keep::Keep;

use crate::error::{Error, Result};
use crate::model::{MOST_EXPERTS, ModelConfig, Moe};

/// The kept experts of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSubset {
    /// The layer's number in the model, dense layers counted too.
    pub layer: usize,
    /// Routed experts of the layer, kept or not: `E_r`.
    pub routed: usize,
    /// Shared experts of the layer, all kept.
    pub shared: usize,
    /// Kept routed experts, ascending, each below `routed`.
    pub experts: Vec<u32>,
}

impl LayerSubset {
    /// Kept experts, shared ones included: the `K` of the command line.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.experts.len() + self.shared
    }

    /// The keep mask `[E_r]`: 1 = kept.
    #[must_use]
    pub fn mask(&self) -> Vec<u8> {
        let mut mask = vec![0; self.routed];
        self.experts.iter().for_each(|&expert| mask[expert as usize] = 1);
        mask
    }

    /// Whether the fields hold what they promise.
    fn check(&self) -> Result<()> {
        if self.routed > MOST_EXPERTS || self.shared > MOST_EXPERTS {
            let (routed, shared) = (self.routed, self.shared);
            return Err(refuse(format!(
                "layer {} says that it has {routed} routed and {shared} shared experts; {MOST_EXPERTS} are the most",
                self.layer
            )));
        }
        let ascending = self.experts.windows(2).all(|pair| pair[0] < pair[1]);
        let below = self.experts.last().is_none_or(|&last| (last as usize) < self.routed);
        if ascending && below {
            return Ok(());
        }
        let Self { layer, routed, .. } = self;
        Err(refuse(format!(
            "layer {layer} must list distinct experts in ascending order, each below {routed}"
        )))
    }
}

/// A subset of the experts of a model: kept routed experts for each layer that has experts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertSubset {
    layers: Vec<LayerSubset>,
    made: Option<Made>,
}

impl ExpertSubset {
    /// A subset of these layers, which come in ascending order.
    ///
    /// # Errors
    /// Layers or experts out of order, repeated, or beyond the layer's routed experts.
    pub fn new(layers: Vec<LayerSubset>) -> Result<Self> {
        layers.iter().try_for_each(LayerSubset::check)?;
        if layers.is_empty() || layers.windows(2).any(|pair| pair[0].layer >= pair[1].layer) {
            return Err(refuse("its layers must be distinct, in ascending order, and at least one".into()));
        }
        Ok(Self { layers, made: None })
    }

    /// All experts of a model.
    ///
    /// # Errors
    /// A model without experts.
    pub fn full(config: &ModelConfig) -> Result<Self> {
        Self::of(config, |_, routed| (0..routed as u32).collect())
    }

    /// What `kept(ordinal, routed)` keeps in each layer with experts, in any order.
    ///
    /// # Errors
    /// A model without experts; experts that are repeated or not there.
    pub fn of(config: &ModelConfig, mut kept: impl FnMut(usize, usize) -> Vec<u32>) -> Result<Self> {
        let layers = config.moe_layers().enumerate().map(|(ordinal, (layer, moe))| {
            let mut experts = kept(ordinal, moe.routed());
            experts.sort_unstable();
            LayerSubset { layer, routed: moe.routed(), shared: moe.shared, experts }
        });
        let layers: Vec<LayerSubset> = layers.collect();
        if layers.is_empty() {
            return Err(refuse("the model has no experts to choose from".into()));
        }
        Self::new(layers)
    }

    /// Where a pruned model's experts come from, in the numbering of the full model.
    ///
    /// # Errors
    /// A model that does not say so: it is no pruned one, or lost `kept_experts` of its config.json.
    pub fn of_pruned(config: &ModelConfig) -> Result<Self> {
        let origin = |layer: usize, moe: &Moe| match &moe.kept {
            Some(kept) => {
                Ok(LayerSubset { layer, routed: kept.of, shared: moe.shared, experts: kept.experts.clone() })
            }
            None => Err(Error::Usage(format!(
                "the model does not say which experts of a larger model its layer {layer} has: its config.json lacks \
                 `kept_experts` and `original_num_experts`. Give a model that `trainer prune` wrote"
            ))),
        };
        let layers: Result<Vec<LayerSubset>> =
            config.moe_layers().map(|(layer, moe)| origin(layer, moe)).collect();
        Self::new(layers?)
    }

    /// The layers with experts, in order.
    #[must_use]
    pub fn layers(&self) -> &[LayerSubset] {
        &self.layers
    }

    /// How it was made, where that is known.
    #[must_use]
    pub fn made(&self) -> Option<&Made> {
        self.made.as_ref()
    }

    /// The same subset, with a note on how it was made.
    #[must_use]
    pub fn with_made(self, made: Made) -> Self {
        Self { made: Some(made), ..self }
    }

    /// Whether every expert is kept.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.layers.iter().all(|layer| layer.experts.len() == layer.routed)
    }

    /// Kept routed experts of the layers with experts, in order.
    #[must_use]
    pub fn kept(&self) -> Vec<Vec<u32>> {
        self.layers.iter().map(|layer| layer.experts.clone()).collect()
    }

    /// Keep masks `[E_r]` of the layers with experts, in order: 1 = kept.
    #[must_use]
    pub fn masks(&self) -> Vec<Vec<u8>> {
        self.layers.iter().map(LayerSubset::mask).collect()
    }

    /// Whether a model can run with this subset: the same layers and numbers of experts, and in each layer at least one
    /// routed expert and all that are always active.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check(&self, config: &ModelConfig) -> Result<()> {
        let mut mine = self.layers.iter();
        for (number, moe) in config.moe_layers() {
            let layer = mine.next().filter(|layer| layer.layer == number).ok_or_else(|| {
                refuse(format!("it says nothing about layer {number}, which has experts in this model"))
            })?;
            let (routed, shared) = (moe.routed(), moe.shared);
            if (layer.routed, layer.shared) != (routed, shared) {
                return Err(refuse(format!(
                    "it was made for another model: layer {number} has {} routed and {} shared experts there, {routed} \
                     and {shared} here. {}",
                    layer.routed,
                    layer.shared,
                    remedy(layer.routed, moe)
                )));
            }
            if layer.experts.is_empty() {
                return Err(refuse(format!(
                    "layer {number} keeps no routed expert; a layer needs at least one"
                )));
            }
            if let Some(missing) = moe.always_active.iter().find(|active| !layer.experts.contains(active)) {
                return Err(refuse(format!(
                    "layer {number} does not keep expert {missing}, which every token of this model uses"
                )));
            }
        }
        match mine.next() {
            None => Ok(()),
            Some(extra) => {
                Err(refuse(format!("it names layer {}, which has no experts in this model", extra.layer)))
            }
        }
    }

    /// Experts that are in one subset or the other.
    ///
    /// # Errors
    /// Subsets of different models.
    pub fn union(&self, other: &Self) -> Result<Self> {
        self.combine(other, |mine, theirs| mine || theirs)
    }

    /// Experts that are in both subsets.
    ///
    /// # Errors
    /// Subsets of different models.
    pub fn intersection(&self, other: &Self) -> Result<Self> {
        self.combine(other, |mine, theirs| mine && theirs)
    }

    /// Experts of this subset that are not in the other.
    ///
    /// # Errors
    /// Subsets of different models.
    pub fn difference(&self, other: &Self) -> Result<Self> {
        self.combine(other, |mine, theirs| mine && !theirs)
    }

    /// Where `keep(in this, in the other)`. A layer of the result may be empty, which [`ExpertSubset::check`] refuses.
    fn combine(&self, other: &Self, keep: impl Fn(bool, bool) -> bool) -> Result<Self> {
        let shape = |subset: &Self| -> Vec<(usize, usize, usize)> {
            subset.layers.iter().map(|layer| (layer.layer, layer.routed, layer.shared)).collect()
        };
        if shape(self) != shape(other) {
            let message = "the subsets belong to different models: their layers or numbers of experts differ";
            return Err(Error::Usage(message.into()));
        }
        let layers = self.layers.iter().zip(&other.layers).map(|(mine, theirs)| {
            let masks = mine.mask().into_iter().zip(theirs.mask());
            let kept = (0..).zip(masks).filter(|(_, (mine, theirs))| keep(*mine == 1, *theirs == 1));
            LayerSubset { experts: kept.map(|(expert, _)| expert).collect(), ..mine.clone() }
        });
        Self::new(layers.collect())
    }

    /// How many layers keep how many experts, shared ones included: for people, such as `8 of 64 experts a layer`.
    #[must_use]
    pub fn words(&self) -> String {
        let mut kinds: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for layer in &self.layers {
            *kinds.entry((layer.kept(), layer.routed + layer.shared)).or_default() += 1;
        }
        let one = kinds.len() == 1;
        let words = kinds.iter().map(|((kept, of), layers)| match one {
            true => format!("{kept} of {of} experts a layer"),
            false => format!("{kept} of {of} experts in {layers} layers"),
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// What to do about a subset of a layer with another number of routed experts, `there`.
fn remedy(there: usize, moe: &Moe) -> &'static str {
    if moe.kept.is_none() && moe.routed() < there {
        "If the model was pruned, its config.json lost `kept_experts` and `original_num_experts`: give one that \
         `trainer prune` wrote"
    } else {
        "Choose experts of this model with `trainer select`"
    }
}

/// What is wrong with a subset.
fn refuse(message: String) -> Error {
    Error::Usage(format!("the subset of experts cannot be used: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Dense, FeedForward};

    /// Layers: 6 routed and 1 shared expert; dense; 6 routed and 1 shared.
    pub(super) fn config() -> ModelConfig {
        let (mut config, _) = crate::checkpoint::hf::parse_config(
            r#"{"model_type": "emo", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 4,
                "num_hidden_layers": 3, "num_attention_heads": 2, "num_experts": 7, "num_experts_per_tok": 3,
                "num_shared_experts": 1, "pad_token_id": null}"#,
        )
        .unwrap();
        let activation = emo::ops::activation::Activation::Silu;
        config.feed_forward[1] = FeedForward::Dense(Dense { hidden: 4, bias: false, activation });
        config
    }

    fn subset(first: &[u32], second: &[u32]) -> ExpertSubset {
        ExpertSubset::of(&config(), |ordinal, _| [first, second][ordinal].to_vec()).unwrap()
    }

    fn experts(subset: &ExpertSubset) -> Vec<&[u32]> {
        subset.layers().iter().map(|layer| &layer.experts[..]).collect()
    }

    #[test]
    fn sets_are_combined_layer_by_layer() {
        let (a, b) = (subset(&[0, 2, 5], &[1]), subset(&[2, 3], &[1]));
        assert_eq!(experts(&a.union(&b).unwrap()), [&[0, 2, 3, 5][..], &[1]]);
        assert_eq!(experts(&a.intersection(&b).unwrap()), [&[2][..], &[1]]);
        let left = a.difference(&b).unwrap();
        assert_eq!(experts(&left), [&[0, 5][..], &[]]);
        assert!(left.check(&config()).unwrap_err().to_string().contains("layer 2 keeps no routed expert"));
        let full = ExpertSubset::full(&config()).unwrap();
        assert!(full.is_full() && !a.is_full());
        assert_eq!(experts(&full.difference(&a).unwrap()), [&[1, 3, 4][..], &[0, 2, 3, 4, 5]]);
        assert_eq!(a.masks(), [[1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0]]);
        assert_eq!(a.words(), "2 of 7 experts in 1 layers, 4 of 7 experts in 1 layers");
    }

    #[test]
    fn a_subset_of_another_model_is_refused_in_words() {
        let subset = subset(&[0, 1], &[2]);
        subset.check(&config()).unwrap();
        let changed = |change: &dyn Fn(&mut Moe)| {
            let mut other = config();
            let FeedForward::Moe(moe) = &mut other.feed_forward[2] else { unreachable!() };
            change(moe);
            subset.check(&other).unwrap_err().to_string()
        };
        let message = changed(&|moe| moe.experts = 9);
        assert!(
            message.contains("layer 2 has 6 routed and 1 shared experts there, 8 and 1 here"),
            "{message}"
        );
        assert!(message.contains("`trainer select`") && !message.contains("kept_experts"), "{message}");
        let message = changed(&|moe| moe.experts = 4);
        assert!(
            message.contains("`kept_experts` and `original_num_experts`") && message.contains("prune"),
            "{message}"
        );
        let message = changed(&|moe| moe.always_active = vec![4]);
        assert!(message.contains("does not keep expert 4"), "{message}");
        let mut other = config();
        other.feed_forward[1] = other.feed_forward[0].clone();
        assert!(subset.check(&other).unwrap_err().to_string().contains("says nothing about layer 1"));
        other.feed_forward.truncate(2);
        other.feed_forward[1] = config().feed_forward[1].clone();
        assert!(subset.check(&other).unwrap_err().to_string().contains("names layer 2"));
    }

    #[test]
    fn experts_out_of_order_repeated_or_beyond_the_layer_are_refused() {
        for experts in [vec![1, 0], vec![1, 1], vec![6]] {
            let layer = LayerSubset { layer: 0, routed: 6, shared: 1, experts };
            assert!(ExpertSubset::new(vec![layer]).is_err());
        }
        assert!(ExpertSubset::of(&config(), |_, _| vec![3, 3]).is_err());
        assert!(ExpertSubset::new(Vec::new()).is_err());
    }
}

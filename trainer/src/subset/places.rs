//! Where the experts of a subset are in a model that is full or was cut out of the full one.

use super::{ExpertSubset, refuse, remedy};
use crate::error::Result;
use crate::model::ModelConfig;

impl ExpertSubset {
    /// For each layer with experts the rows of `config`'s model that hold this subset's experts, ascending. A subset of the
    /// full model is found in a pruned one by the experts' original indices.
    ///
    /// # Errors
    /// A subset of another model, or experts that the pruned model lacks, by layer.
    pub fn places(&self, config: &ModelConfig) -> Result<Vec<Vec<usize>>> {
        if config.moe_layers().count() != self.layers().len() {
            return Err(refuse(format!(
                "it names {} layers and the model has {} with experts",
                self.layers().len(),
                config.moe_layers().count()
            )));
        }
        let mut places = Vec::with_capacity(self.layers().len());
        for ((number, moe), layer) in config.moe_layers().zip(self.layers()) {
            if (number, moe.shared) != (layer.layer, layer.shared) {
                return Err(refuse(format!(
                    "it was made for another model: layer {} has {} shared experts there, layer {number} {} here",
                    layer.layer, layer.shared, moe.shared
                )));
            }
            let origin = moe.kept.as_ref().filter(|kept| kept.of == layer.routed);
            let found = match origin {
                Some(kept) => layer
                    .experts
                    .iter()
                    .map(|expert| {
                        kept.experts.binary_search(expert).map_err(|_| {
                            refuse(format!(
                                "the model was pruned to others: layer {number} lacks expert {expert}"
                            ))
                        })
                    })
                    .collect::<Result<Vec<_>>>()?,
                None if moe.routed() == layer.routed => {
                    layer.experts.iter().map(|&expert| expert as usize).collect()
                }
                None => {
                    return Err(refuse(format!(
                        "it was made for another model: layer {number} has {} routed experts there and {} here. {}",
                        layer.routed,
                        moe.routed(),
                        remedy(layer.routed, moe)
                    )));
                }
            };
            places.push(found);
        }
        Ok(places)
    }
}

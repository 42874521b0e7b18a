//! Running a model with some of its experts.

use std::path::Path;
use std::sync::Arc;

use emo::Backend;

use super::ExpertSubset;
use crate::checkpoint::hf;
use crate::error::{Error, Result};
use crate::model::{Capacity, Inputs, Model, PoolFrom};

/// A checkpoint as a model, or of its experts only those that the file `experts` keeps: the others are not read.
///
/// # Errors
/// A file that is no subset of this model's experts; those of [`hf::load`].
pub fn load<B: Backend>(
    checkpoint: &Path,
    experts: Option<&Path>,
    backend: Arc<B>,
    capacity: Capacity,
) -> Result<Model<B>> {
    let Some(path) = experts else { return Ok(hf::load(checkpoint, backend, capacity)?) };
    let subset = ExpertSubset::load_for(path, &hf::read_config(checkpoint)?.0)?;
    Ok(hf::load_kept(checkpoint, &subset.kept(), backend, capacity)?)
}

/// The document pool of a text, such as a prompt: in each layer the `size` routed experts with the largest summed scores
/// over the text, the layers below already using their pools; chosen as in training, in one forward pass. Afterwards the
/// model may use all experts; [`Model::set_experts`] makes it use these.
///
/// Of a text that is longer than the model's capacity, the end counts.
///
/// # Errors
/// An empty text, or a failing device.
pub fn pool_of<B: Backend>(model: &mut Model<B>, text: &[u32], size: u32) -> Result<ExpertSubset> {
    if size == 0 || text.is_empty() {
        return Err(Error::Usage(
            "a pool needs at least one routed expert, and a token to choose it by".into(),
        ));
    }
    let Capacity { tokens, longest, .. } = model.capacity();
    let text = &text[text.len().saturating_sub(tokens.min(longest))..];
    let layers = model.config().moe_layers().count();
    model.set_experts(None)?;
    let mut inputs = Inputs::rows(text.to_vec(), 1, text.len());
    inputs.pools = Some(vec![vec![size]; layers]);
    // The text is all there is yet: nothing lies ahead.
    inputs.pool_from = PoolFrom::Document;
    model.forward(&inputs)?;
    let mut masks = Vec::with_capacity(layers);
    for ordinal in 0..layers {
        let routing = model.routing(ordinal)?;
        masks.push(routing.and_then(|routing| routing.pools).unwrap_or_default());
    }
    let active: Vec<Vec<u32>> =
        model.config().moe_layers().map(|(_, moe)| moe.always_active.clone()).collect();
    ExpertSubset::of(model.config(), |ordinal, routed| {
        let kept = |&expert: &u32| {
            masks[ordinal].get(expert as usize) == Some(&1) || active[ordinal].contains(&expert)
        };
        (0..routed as u32).filter(kept).collect()
    })
}

/// Lets the model use only the pool of a text, [`pool_of`], from here on.
///
/// # Errors
/// Those of [`pool_of`].
pub fn use_pool_of<B: Backend>(model: &mut Model<B>, text: &[u32], size: u32) -> Result<()> {
    let pool = pool_of(model, text, size)?;
    Ok(model.set_experts(Some(&pool.kept()))?)
}

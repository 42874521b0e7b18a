//! The counts of the load balance loss: from the micro-batch, its valid tokens, all layers, or the whole step.

use emo::backend::Backend;
use emo::{Error, Result};

use super::Model;
use super::activations::{FeedForwardCache, LayerCache, read, upload};
use super::inputs::Inputs;
use super::layers::moe;
use super::objective::Balance;

impl<B: Backend> Model<B> {
    /// The counts that the load balance loss multiplies with, for each layer, before the backward pass.
    pub(super) fn prepare_balance(&mut self, inputs: &Inputs, balance: Balance) -> Result<()> {
        let mut counts: Vec<Vec<f64>> = match (balance, &inputs.balance_counts) {
            (Balance::Step, Some(counts)) => counts.clone(),
            (Balance::Step, None) if inputs.micro_batches > 1 => {
                return Err(Error::argument(
                    "model",
                    "balance_counts",
                    "the counts of the whole step (more than one micro-batch)",
                    "none",
                ));
            }
            _ if balance.counts_valid_only() && inputs.valid.is_some() => self.valid_counts(inputs)?,
            _ => self.counts()?.iter().map(|c| c.iter().map(|&n| f64::from(n)).collect()).collect(),
        };
        if balance == Balance::Pooled {
            pool(&mut counts)?;
        }
        let backend = &*self.backend;
        let caches = self.memory.layers.iter_mut().filter_map(LayerCache::moe_mut);
        for ((cache, (_, moe)), counts) in caches.zip(self.config.moe_layers()).zip(&mut counts) {
            // Always-active experts have no choice to balance.
            for &expert in &moe.always_active {
                counts[expert as usize] = 0.0;
            }
            upload::<B, _>(backend, counts, &mut cache.balance_counts, 0)?;
        }
        Ok(())
    }

    /// Slots of each routed expert, of valid tokens only.
    fn valid_counts(&self, inputs: &Inputs) -> Result<Vec<Vec<f64>>> {
        let Some(valid) = &inputs.valid else { return Ok(Vec::new()) };
        self.moe_caches()
            .map(|(cache, moe)| {
                let mut indices = vec![0u32; self.batch.tokens * moe.top_k];
                self.backend.download(read(&*self.backend, &cache.indices, indices.len())?, &mut indices)?;
                let mut counts = vec![0.0; moe.routed()];
                for (slots, _) in indices.chunks(moe.top_k).zip(valid).filter(|(_, keep)| **keep != 0) {
                    for &expert in slots {
                        if let Some(count) = counts.get_mut(expert as usize) {
                            *count += 1.0;
                        }
                    }
                }
                Ok(counts)
            })
            .collect()
    }
}

/// Every layer gets the sum over layers.
fn pool(counts: &mut [Vec<f64>]) -> Result<()> {
    let Some(experts) = counts.first().map(Vec::len) else { return Ok(()) };
    if let Some(other) = counts.iter().find(|layer| layer.len() != experts) {
        let expected = format!("the same number of experts in every layer ({experts})");
        return Err(Error::argument("model", "balance = pooled", expected, other.len()));
    }
    let sum: Vec<f64> = (0..experts).map(|e| counts.iter().map(|layer| layer[e]).sum()).collect();
    counts.fill(sum);
    Ok(())
}

impl<B: Backend> LayerCache<B> {
    fn moe_mut(&mut self) -> Option<&mut moe::Cache<B>> {
        match &mut self.feed_forward {
            FeedForwardCache::Moe(cache) => Some(cache),
            FeedForwardCache::Dense(_) => None,
        }
    }
}

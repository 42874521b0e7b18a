//! From a packed batch to the model's inputs, document pools drawn.

use super::pools::Pools;
use crate::config::Config;
use crate::data::Batch;
use crate::model::{Inputs, PoolFrom, Segments};

/// Fills the model's inputs again and again without giving up their memory.
pub struct Filler {
    pools: Pools,
    domains: bool,
    attend_across_documents: bool,
    micro_batches: usize,
}

impl Filler {
    /// As the configuration says.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            pools: Pools::new(config),
            domains: config.losses.domain_consistency > 0.0,
            attend_across_documents: config.model.attend_across_documents,
            micro_batches: config.micro_batches(),
        }
    }

    /// Inputs of a training micro-batch of `step`. The pool of a document depends on nothing but seed, step, layer and
    /// document.
    pub fn train(&self, batch: &Batch, step: u64, loss_tokens: usize, inputs: &mut Inputs) {
        fill(batch, self.attend_across_documents, inputs);
        inputs.loss_tokens = loss_tokens.max(1) as f64;
        inputs.micro_batches = self.micro_batches;
        inputs.pools = self.pools.sizes(step, &batch.routing_documents);
        if self.domains {
            inputs.domains.clone_from(&batch.routing_domains);
        }
    }
}

/// Inputs of a held-out batch: never with pools, which would look ahead of each token.
pub fn held_out(batch: &Batch, attend_across_documents: bool, inputs: &mut Inputs) {
    fill(batch, attend_across_documents, inputs);
    // Summed cross-entropies, not means.
    inputs.loss_tokens = 1.0;
    inputs.micro_batches = 1;
    inputs.pools = None;
    inputs.pool_from = PoolFrom::Document;
    inputs.balance_counts = None;
    inputs.domains.clear();
}

fn fill(batch: &Batch, attend_across_documents: bool, inputs: &mut Inputs) {
    inputs.ids.clone_from(&batch.ids);
    inputs.labels.clone_from(&batch.labels);
    inputs.positions.clear();
    inputs.positions.extend((0..batch.ids.len()).map(|token| (token % batch.sequence) as u32));
    if attend_across_documents {
        inputs.attention = Segments::rows(batch.rows, batch.sequence);
    } else {
        inputs.attention.offsets.clone_from(&batch.attention_offsets);
    }
    inputs.routing.offsets.clone_from(&batch.routing_offsets);
}

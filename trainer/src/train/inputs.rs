//! From a packed batch to the model's inputs, document pools drawn.

use emo::ops::pool::draw_size;

use crate::config::{Config, Pool};
use crate::data::Batch;
use crate::model::{Inputs, Segments};

/// Fills the model's inputs again and again without giving up their memory.
pub struct Filler {
    pool: Pool,
    pool_min: u32,
    pool_max: u32,
    seed: u64,
    layers: Vec<u32>,
    domains: bool,
    attend_across_documents: bool,
    micro_batches: usize,
}

impl Filler {
    /// As the configuration says.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            pool: config.router.pool,
            pool_min: config.router.pool_min as u32,
            pool_max: config.router.pool_max as u32,
            seed: config.run.seed,
            layers: config.mixture_layers().map(|layer| layer as u32).collect(),
            domains: config.losses.domain_consistency > 0.0,
            attend_across_documents: config.model.attend_across_documents,
            micro_batches: config.micro_batches(),
        }
    }

    /// Inputs of a training micro-batch of `step`. The pool of a document depends on nothing but seed, step, layer and
    /// document.
    pub fn train(&self, batch: &Batch, step: u64, loss_tokens: usize, inputs: &mut Inputs) {
        self.common(batch, inputs);
        inputs.loss_tokens = loss_tokens.max(1) as f64;
        inputs.micro_batches = self.micro_batches;
        let layers = if self.pool == Pool::None { None } else { Some(&self.layers) };
        inputs.pools = layers.map(|layers| {
            let size = |layer: u32, document: u64| match self.pool {
                Pool::Uniform => draw_size(self.seed, step, layer, document, self.pool_min, self.pool_max),
                Pool::None | Pool::Fixed => self.pool_max,
            };
            let sizes = |&layer: &u32| {
                batch.routing_documents.iter().map(|&document| size(layer, document)).collect()
            };
            layers.iter().map(sizes).collect()
        });
        if self.domains {
            inputs.domains.clone_from(&batch.routing_domains);
        }
    }

    /// Inputs of a validation batch: never with pools, which would look ahead of each token.
    pub fn validate(&self, batch: &Batch, inputs: &mut Inputs) {
        self.common(batch, inputs);
        // Summed cross-entropies, not means.
        inputs.loss_tokens = 1.0;
        inputs.micro_batches = 1;
        inputs.pools = None;
        inputs.balance_counts = None;
        inputs.domains.clear();
    }

    fn common(&self, batch: &Batch, inputs: &mut Inputs) {
        inputs.ids.clone_from(&batch.ids);
        inputs.labels.clone_from(&batch.labels);
        inputs.positions.clear();
        inputs.positions.extend((0..batch.ids.len()).map(|token| (token % batch.sequence) as u32));
        if self.attend_across_documents {
            inputs.attention = Segments::rows(batch.rows, batch.sequence);
        } else {
            inputs.attention.offsets.clone_from(&batch.attention_offsets);
        }
        inputs.routing.offsets.clone_from(&batch.routing_offsets);
    }
}

//! Held-out text, domain by domain: bits per byte and which experts it uses. Without document pools, which would let a
//! token's routing look ahead, unless [`Pools`] are asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use emo::Backend;

use crate::data::packing::IGNORE;
use crate::data::{Batch, Documents, Packing, ValidationSet};
use crate::error::Result;
use crate::metrics::DomainValid;
use crate::model::{Inputs, Model, PoolFrom};
use crate::report::{LayerRouting, RoutingCounts};
use crate::train::inputs;

/// Document pools at inference.
///
/// [`PoolFrom::Prefix`] and [`PoolFrom::SoFar`] look back only: what is measured is a prediction. [`PoolFrom::Document`] looks
/// ahead, as in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pools {
    /// Routed experts of a pool; none = no pools, on the tokens that would be measured with them.
    pub size: Option<u32>,
    /// What chooses them. The tokens of a prefix are not measured, as they have no pool yet.
    pub from: PoolFrom,
}

impl Pools {
    /// Puts the pools into the inputs of a model with `layers` layers with experts.
    fn apply(self, layers: usize, inputs: &mut Inputs) {
        let segments = inputs.routing.count();
        inputs.pools = self.size.map(|size| vec![vec![size; segments]; layers]);
        inputs.pool_from = self.from;
        let PoolFrom::Prefix(prefix) = self.from else { return };
        for ends in inputs.routing.offsets.windows(2) {
            let (start, end) = (ends[0] as usize, ends[1] as usize);
            inputs.labels[start..end.min(start + prefix)].fill(IGNORE);
        }
    }
}

/// Held-out rows, by domain.
pub struct HeldOut {
    pools: Option<Pools>,
    set: ValidationSet,
    domains: Vec<String>,
    attend_across_documents: bool,
    batch: Batch,
    inputs: Inputs,
}

impl HeldOut {
    /// At most `rows` rows of each domain of `documents`.
    ///
    /// # Errors
    /// An impossible shape.
    pub fn new(
        documents: Arc<dyn Documents>,
        domains: Vec<String>,
        packing: &Packing,
        rows: usize,
        attend_across_documents: bool,
    ) -> Result<Self> {
        let set = ValidationSet::new(documents, domains.len(), packing, rows)?;
        let (batch, inputs) = (Batch::default(), Inputs::default());
        Ok(Self { pools: None, set, domains, attend_across_documents, batch, inputs })
    }

    /// Evaluates with document pools from here on, or without.
    pub fn set_pools(&mut self, pools: Option<Pools>) {
        self.pools = pools;
    }

    /// Batches of all domains together.
    #[must_use]
    pub fn batches(&self) -> usize {
        (0..self.set.domains()).map(|domain| self.set.batches(domain)).sum()
    }

    /// Domains that have held-out text: number and name.
    pub fn domains(&self) -> impl Iterator<Item = (usize, &str)> {
        let present = |&(domain, _): &(usize, &String)| self.set.batches(domain) > 0;
        self.domains.iter().enumerate().filter(present).map(|(domain, name)| (domain, name.as_str()))
    }

    /// Evaluates the weights on one domain; none where it has no text.
    ///
    /// # Errors
    /// When the device fails.
    pub fn domain<B: Backend>(&mut self, model: &mut Model<B>, domain: usize) -> Result<Option<DomainValid>> {
        self.batches_of(model, domain, |_, _| Ok(()))
    }

    /// Evaluates one domain, and hands the model and the batch to `after` after each batch.
    fn batches_of<B: Backend>(
        &mut self,
        model: &mut Model<B>,
        domain: usize,
        mut after: impl FnMut(&Model<B>, &Batch) -> Result<()>,
    ) -> Result<Option<DomainValid>> {
        let (mut nats, mut tokens, mut bytes) = (0.0, 0, 0);
        for index in 0..self.set.batches(domain) {
            let mut targeted = self.set.fill(domain, index, &mut self.batch)?;
            inputs::held_out(&self.batch, self.attend_across_documents, &mut self.inputs);
            if let Some(pools) = self.pools {
                pools.apply(model.config().moe_layers().count(), &mut self.inputs);
                targeted = self.set.targeted(&self.inputs.labels);
            }
            nats += model.evaluate(&self.inputs)?.iter().sum::<f64>();
            tokens += targeted.tokens;
            bytes += targeted.bytes;
            after(model, &self.batch)?;
        }
        Ok((bytes > 0).then(|| DomainValid::of_sum(nats, tokens, bytes)))
    }

    /// Evaluates the weights as they are.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run<B: Backend>(
        &mut self,
        model: &mut Model<B>,
    ) -> Result<(BTreeMap<String, DomainValid>, RoutingCounts)> {
        self.run_with(model, |_| ())
    }

    /// [`HeldOut::run`], telling `progress` after each batch how many are done.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run_with<B: Backend>(
        &mut self,
        model: &mut Model<B>,
        mut progress: impl FnMut(usize),
    ) -> Result<(BTreeMap<String, DomainValid>, RoutingCounts)> {
        let (mut found, mut done) = (BTreeMap::new(), 0);
        let mut routing = RoutingCounts {
            domains: self.domains.clone(),
            layers: model
                .config()
                .moe_layers()
                .map(|(layer, moe)| LayerRouting {
                    layer,
                    counts: vec![vec![0; moe.routed()]; self.domains.len()],
                })
                .collect(),
        };
        for domain in 0..self.domains.len() {
            let valid = self.batches_of(model, domain, |model, batch| {
                count(model, batch, domain, &mut routing)?;
                done += 1;
                progress(done);
                Ok(())
            })?;
            found.extend(valid.map(|valid| (self.domains[domain].clone(), valid)));
        }
        Ok((found, routing))
    }
}

/// Adds the slots of the batch's rows; those that only fill the last batch up have no target and do not count.
fn count<B: Backend>(
    model: &Model<B>,
    batch: &Batch,
    domain: usize,
    routing: &mut RoutingCounts,
) -> Result<()> {
    let has_target = |row: &[i32]| row.iter().any(|&label| label != IGNORE);
    let rows = batch.labels.chunks(batch.sequence).rposition(has_target).map_or(0, |last| last + 1);
    if rows == batch.rows {
        for (layer, counts) in routing.layers.iter_mut().zip(model.counts()?) {
            layer.counts[domain].iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(count));
        }
        return Ok(());
    }
    for (ordinal, layer) in routing.layers.iter_mut().enumerate() {
        let Some(slots) = model.routing(ordinal)? else { continue };
        let top_k = slots.indices.len() / batch.ids.len();
        for &expert in &slots.indices[..rows * batch.sequence * top_k] {
            // Shared experts lie beyond the routed ones and are left out.
            if let Some(sum) = layer.counts[domain].get_mut(expert as usize) {
                *sum += 1;
            }
        }
    }
    Ok(())
}

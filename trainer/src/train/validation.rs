//! Held-out text, domain by domain: bits per byte and which experts it uses. Always without document pools, which would
//! let a token's routing look ahead.

use std::sync::Arc;

use emo::Backend;

use super::session::Session;
use super::text::Text;
use crate::config::Config;
use crate::data::packing::IGNORE;
use crate::data::{Batch, ValidationSet};
use crate::error::Result;
use crate::metrics::{DomainValid, ValidRecord};
use crate::report::{LayerRouting, RoutingCounts};

/// The validation rows of a run.
pub struct Validation {
    set: ValidationSet,
    domains: Vec<String>,
    batch: Batch,
}

impl Validation {
    /// As the configuration asks for; nothing where it asks for no rows.
    ///
    /// # Errors
    /// An impossible shape.
    pub fn new(config: &Config, text: &Text) -> Result<Option<Self>> {
        if config.validation.rows == 0 {
            return Ok(None);
        }
        let (domains, packing) = (text.domains.len(), config.packing());
        let set = ValidationSet::new(Arc::clone(&text.valid), domains, &packing, config.validation.rows)?;
        Ok(Some(Self { set, domains: text.domains.clone(), batch: Batch::default() }))
    }

    /// Validates the weights as they are.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run<B: Backend>(&mut self, session: &mut Session<B>) -> Result<(ValidRecord, RoutingCounts)> {
        let mut record = ValidRecord { step: session.step, tokens: session.tokens, ..ValidRecord::default() };
        let mut routing = RoutingCounts {
            domains: self.domains.clone(),
            layers: session
                .model
                .config()
                .moe_layers()
                .map(|(layer, moe)| LayerRouting {
                    layer,
                    counts: vec![vec![0; moe.routed()]; self.domains.len()],
                })
                .collect(),
        };
        for (domain, name) in self.domains.iter().enumerate() {
            let (mut nats, mut tokens, mut bytes) = (0.0, 0, 0);
            for index in 0..self.set.batches(domain) {
                let targeted = self.set.fill(domain, index, &mut self.batch)?;
                nats += session.validate(&self.batch)?.iter().sum::<f64>();
                tokens += targeted.tokens;
                bytes += targeted.bytes;
                count(session, &self.batch, domain, &mut routing)?;
            }
            if bytes > 0 {
                record.domains.insert(name.clone(), DomainValid::of_sum(nats, tokens, bytes));
            }
        }
        Ok((record, routing))
    }
}

/// Adds the slots of the batch's rows; those that only fill the last batch up have no target and do not count.
fn count<B: Backend>(
    session: &Session<B>,
    batch: &Batch,
    domain: usize,
    routing: &mut RoutingCounts,
) -> Result<()> {
    let has_target = |row: &[i32]| row.iter().any(|&label| label != IGNORE);
    let rows = batch.labels.chunks(batch.sequence).rposition(has_target).map_or(0, |last| last + 1);
    if rows == batch.rows {
        for (layer, counts) in routing.layers.iter_mut().zip(session.model.counts()?) {
            layer.counts[domain].iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(count));
        }
        return Ok(());
    }
    for (ordinal, layer) in routing.layers.iter_mut().enumerate() {
        let Some(slots) = session.model.routing(ordinal)? else { continue };
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

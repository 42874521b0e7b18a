//! Fixed validation batches: held-out documents, one domain a row.

use std::sync::Arc;

use super::packing::{Layout, Targets};
use super::{Batch, DataError, Documents, Packing, RoutingBoundary};

/// What a validation batch asks to predict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Targeted {
    /// Tokens that have a target.
    pub tokens: u64,
    /// Bytes of text that those targets stand for.
    pub bytes: u64,
}

/// Bits per byte of text: `nats / (ln 2 * bytes)`, with the summed cross-entropy of the targets in nats.
///
/// NaN when `bytes` is 0.
#[must_use]
pub fn bits_per_byte(nats: f64, bytes: u64) -> f64 {
    nats / (std::f64::consts::LN_2 * bytes as f64)
}

/// The validation rows of every domain, the same at every step and for every seed.
///
/// Only text is predicted: the EOS is no target, and neither is the first token of a document, so that bits per byte
/// are those of the text alone. Documents are cut by rows without overlap; the first token of a row is read, not predicted.
/// Where a domain has more rows than are asked for, evenly spaced ones are taken, so that one long document does not stand
/// for its whole domain. What remains of a batch is filled with the domain's first rows, which carry no targets.
#[derive(Debug, Clone)]
pub struct ValidationSet {
    store: Arc<dyn Documents>,
    rows: usize,
    sequence: usize,
    routing: RoutingBoundary,
    domains: Vec<DomainRows>,
}

#[derive(Debug, Clone)]
struct DomainRows {
    layout: Layout,
    rows: Vec<usize>,
}

impl ValidationSet {
    /// At most `max_rows` rows of each of `domains` domains, in batches of `packing`'s shape.
    ///
    /// # Errors
    /// [`DataError::Setting`] for an impossible shape or a document whose domain is not below `domains`.
    pub fn new(
        store: Arc<dyn Documents>,
        domains: usize,
        packing: &Packing,
        max_rows: usize,
    ) -> Result<Self, DataError> {
        packing.check()?;
        let mut members = vec![Vec::new(); domains];
        for index in 0..store.count() {
            let document = store.document(index);
            let Some(member) = members.get_mut(document.domain as usize) else {
                return Err(DataError::Setting {
                    name: "domains",
                    expected: format!("more than every document's domain, {}", document.domain),
                    found: domains.to_string(),
                });
            };
            member.push(index as u32);
        }
        let domains = members
            .into_iter()
            .map(|documents| {
                let layout = Layout::new(&*store, documents);
                let all = layout.tokens().div_ceil(packing.sequence);
                let kept = all.min(max_rows);
                let rows = (0..kept).map(|row| (row as u128 * all as u128 / kept as u128) as usize).collect();
                DomainRows { layout, rows }
            })
            .collect();
        Ok(Self { store, rows: packing.rows, sequence: packing.sequence, routing: packing.routing, domains })
    }

    /// Number of domains.
    #[must_use]
    pub fn domains(&self) -> usize {
        self.domains.len()
    }

    /// Batches of `domain`; 0 for a domain without validation text.
    #[must_use]
    pub fn batches(&self, domain: usize) -> usize {
        self.domains.get(domain).map_or(0, |domain| domain.rows.len().div_ceil(self.rows))
    }

    /// Fills `batch` with batch `index` of `domain` and says what its labels ask for.
    ///
    /// # Errors
    /// [`DataError::Setting`] when there is no such batch, and those of [`Documents::check`].
    pub fn fill(&self, domain: usize, index: usize, batch: &mut Batch) -> Result<Targeted, DataError> {
        if index >= self.batches(domain) {
            return Err(DataError::Setting {
                name: "validation batch",
                expected: format!("below {} for domain {domain}", self.batches(domain)),
                found: index.to_string(),
            });
        }
        self.store.check()?;
        let DomainRows { layout, rows } = &self.domains[domain];
        batch.clear(self.rows, self.sequence);
        let targets = Targets { across_documents: false, eos: false };
        for slot in index * self.rows..(index + 1) * self.rows {
            let row = rows[slot % rows.len()];
            layout.append_row(&*self.store, row, targets, self.routing, batch);
            if slot >= rows.len() {
                let filled = batch.labels.len() - self.sequence;
                batch.labels[filled..].fill(super::packing::IGNORE);
            }
        }
        Ok(self.targeted(&batch.labels))
    }

    /// What labels ask for.
    #[must_use]
    pub fn targeted(&self, labels: &[i32]) -> Targeted {
        let mut targeted = Targeted::default();
        for &label in labels {
            if let Ok(id) = u32::try_from(label) {
                targeted.tokens += 1;
                targeted.bytes += self.store.byte_length(id);
            }
        }
        targeted
    }
}

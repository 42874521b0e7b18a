//! The endless stream of training batches, from one source of documents or a mixture of several.
//!
//! **One source** is read epoch after epoch, each with its own order of documents and rows (see [`packing`](super::packing)).
//!
//! **A mixture** hands out rows: in every cycle of [`CYCLE`] rows each of `n` sources gives one, and source `s` a further
//! `(CYCLE - n) * weight_s / sum of weights`, rounded by largest remainder, in an order shuffled anew for each cycle. A row
//! holds documents of one source, a batch holds rows of all. Each source goes through epochs of its own.
//!
//! Batch `i` is a pure function of (sources, [`Packing`], `i`): no state, thread or earlier batch enters, so resuming is exact.
//! Memory: 12 bytes a document and 4 bytes a row of an epoch; tokens stay where they are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hash::stable_hash;
use super::order::{Purpose, permutation};
use super::packing::{Layout, Targets};
use super::{Batch, DataError, Documents, Packing, RoutingBoundary};

/// Rows after which a mixture has given every source its exact share.
pub const CYCLE: usize = 1 << 16;

/// Where a run is in its data: enough to go on exactly, and to refuse to go on with something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// Index of the next batch to be read.
    pub next_batch: u64,
    /// [`Documents::fingerprint`] of the documents being read; of a mixture, a hash of its sources' and their shares.
    pub corpus: u64,
    /// Key of the shuffles.
    pub seed: u64,
    /// Rows of a batch.
    pub rows: u64,
    /// Tokens of a row.
    pub sequence: u64,
    /// Whether an EOS predicts across documents.
    pub predict_across_documents: bool,
    /// Where routing segments end.
    pub routing: RoutingBoundary,
}

/// One source of a mixture.
#[derive(Debug, Clone)]
pub struct Portion {
    /// What people call it.
    pub name: String,
    /// Its documents.
    pub documents: Arc<dyn Documents>,
    /// Its share of the rows, relative to the other sources'.
    pub weight: f64,
    /// How often it may be read at most; 0 = as often as it takes.
    pub max_epochs: f64,
}

impl Portion {
    /// `documents` with their number of tokens as weight, read as often as it takes.
    #[must_use]
    pub fn whole(name: &str, documents: Arc<dyn Documents>) -> Self {
        let weight = documents.token_count().max(1) as f64;
        Self { name: name.into(), documents, weight, max_epochs: 0.0 }
    }
}

/// How often a run reads one source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Passes {
    /// The source.
    pub name: String,
    /// Its share of the rows.
    pub share: f64,
    /// Epochs of it.
    pub epochs: f64,
}

/// The endless stream of training batches.
#[derive(Debug, Clone)]
pub struct BatchStream {
    packing: Packing,
    sources: Vec<Source>,
    cycle: Cycle,
    fingerprint: u64,
}

/// One source's rows, epoch after epoch.
#[derive(Debug, Clone)]
struct Source {
    name: String,
    documents: Arc<dyn Documents>,
    max_epochs: f64,
    seed: u64,
    /// Rows of a cycle.
    quota: u64,
    rows_per_epoch: u64,
    // The shuffles of one epoch, a cache: batches do not depend on what is in it.
    epoch: u64,
    layout: Layout,
    row_order: Vec<u32>,
}

/// Who gives the rows of one cycle; empty for a single source.
#[derive(Debug, Clone)]
struct Cycle {
    number: u64,
    /// Source and rank within that source's rows of the cycle.
    slots: Vec<(u32, u32)>,
    order: Vec<u32>,
}

impl BatchStream {
    /// A stream over all of `documents`.
    ///
    /// # Errors
    /// [`DataError::Setting`] for an impossible shape, [`DataError::EmptyCorpus`] for a store without documents.
    pub fn new(documents: Arc<dyn Documents>, packing: Packing) -> Result<Self, DataError> {
        Self::mixture(&[Portion::whole("the token store", documents)], packing)
    }

    /// A stream over a mixture.
    ///
    /// # Errors
    /// Those of [`BatchStream::new`] for any of the sources, and [`DataError::Setting`] for a weight that is not positive.
    pub fn mixture(portions: &[Portion], packing: Packing) -> Result<Self, DataError> {
        packing.check()?;
        let quotas = quotas(portions)?;
        let sources = portions.iter().zip(&quotas).enumerate();
        let sources: Vec<Source> = sources
            .map(|(index, (portion, &quota))| Source::new(index as u64, portion, quota, &packing))
            .collect::<Result<_, _>>()?;
        let fingerprint = match &sources[..] {
            [only] => only.documents.fingerprint(),
            _ => sources.iter().fold(0u64, |hash, source| {
                let print = source.documents.fingerprint();
                stable_hash(&[&hash.to_le_bytes(), &print.to_le_bytes(), &source.quota.to_le_bytes()])
            }),
        };
        let mut cycle = Cycle { number: 0, slots: Vec::new(), order: Vec::new() };
        if sources.len() > 1 {
            cycle.slots = vec![(0, 0); CYCLE];
            cycle.order = vec![0; CYCLE];
            cycle.shuffle(packing.seed, 0, &quotas);
        }
        Ok(Self { packing, sources, cycle, fingerprint })
    }

    /// Rows of one epoch, summed over the sources: `ceil(tokens / sequence)` each.
    #[must_use]
    pub fn rows_per_epoch(&self) -> u64 {
        self.sources.iter().map(|source| source.rows_per_epoch).sum()
    }

    /// How often `batches` batches read each source.
    ///
    /// # Errors
    /// [`DataError::Epochs`] for a source that would be read more often than it may be.
    pub fn passes(&self, batches: u64) -> Result<Vec<Passes>, DataError> {
        let rows = batches as f64 * self.packing.rows as f64;
        let whole: u64 = self.sources.iter().map(|source| source.quota).sum();
        self.sources
            .iter()
            .map(|source| {
                let share = source.quota as f64 / whole as f64;
                let epochs = rows * share / source.rows_per_epoch as f64;
                // A mixture's shares are exact only at the ends of cycles.
                if source.max_epochs > 0.0 && epochs > source.max_epochs * (1.0 + 1e-9) {
                    return Err(DataError::Epochs {
                        name: source.name.clone(),
                        epochs,
                        max_epochs: source.max_epochs,
                    });
                }
                Ok(Passes { name: source.name.clone(), share, epochs })
            })
            .collect()
    }

    /// The position before batch `next_batch`, to be saved with a checkpoint.
    #[must_use]
    pub fn position(&self, next_batch: u64) -> StreamPosition {
        StreamPosition {
            next_batch,
            corpus: self.fingerprint,
            seed: self.packing.seed,
            rows: self.packing.rows as u64,
            sequence: self.packing.sequence as u64,
            predict_across_documents: self.packing.predict_across_documents,
            routing: self.packing.routing,
        }
    }

    /// The batch to go on with after a checkpoint.
    ///
    /// # Errors
    /// [`DataError::Position`], naming what differs, when `position` was saved by a stream of other data, shape, seed or
    /// conventions.
    pub fn resume(&self, position: StreamPosition) -> Result<u64, DataError> {
        let now = self.position(position.next_batch);
        let checks = [
            ("the corpus (fingerprint)", format!("{:016x}", position.corpus), format!("{:016x}", now.corpus)),
            ("the seed", position.seed.to_string(), now.seed.to_string()),
            ("the rows of a batch", position.rows.to_string(), now.rows.to_string()),
            ("the sequence length", position.sequence.to_string(), now.sequence.to_string()),
            (
                "predict_across_documents",
                position.predict_across_documents.to_string(),
                now.predict_across_documents.to_string(),
            ),
            ("the routing boundary", format!("{:?}", position.routing), format!("{:?}", now.routing)),
        ];
        match checks.into_iter().find(|(_, saved, now)| saved != now) {
            Some((what, saved, now)) => Err(DataError::Position { what, saved, now }),
            None => Ok(position.next_batch),
        }
    }

    /// Whether every source can still be read; asked before each batch.
    ///
    /// # Errors
    /// Those of [`Documents::check`].
    pub fn check(&self) -> Result<(), DataError> {
        self.sources.iter().try_for_each(|source| source.documents.check())
    }

    /// Fills `batch` with batch number `index`. Allocates only when `batch` was last used for a smaller shape.
    pub fn fill(&mut self, index: u64, batch: &mut Batch) {
        batch.clear(self.packing.rows, self.packing.sequence);
        for row in 0..self.packing.rows as u64 {
            // Counted in 128 bits: any index is a valid one.
            let row = u128::from(index) * self.packing.rows as u128 + u128::from(row);
            let (source, rank) = self.place(row);
            self.sources[source].append_row(rank, &self.packing, batch);
        }
    }

    /// The source of row `row` of the run, and which of that source's rows it is.
    fn place(&mut self, row: u128) -> (usize, u128) {
        if self.cycle.slots.is_empty() {
            return (0, row);
        }
        let number = row / CYCLE as u128;
        if number as u64 != self.cycle.number {
            let quotas: Vec<u64> = self.sources.iter().map(|source| source.quota).collect();
            self.cycle.shuffle(self.packing.seed, number as u64, &quotas);
        }
        let (source, rank) = self.cycle.slots[(row % CYCLE as u128) as usize];
        let before = number * u128::from(self.sources[source as usize].quota);
        (source as usize, before + u128::from(rank))
    }

    /// The epoch of a single source in which batch `index` begins.
    #[must_use]
    pub fn epoch_of(&self, index: u64) -> u64 {
        (u128::from(index) * self.packing.rows as u128 / u128::from(self.rows_per_epoch())) as u64
    }
}

impl Cycle {
    fn shuffle(&mut self, seed: u64, number: u64, quotas: &[u64]) {
        permutation(seed, number, Purpose::Sources, &mut self.order);
        let mut ends = quotas.to_vec();
        for source in 1..ends.len() {
            ends[source] += ends[source - 1];
        }
        let mut given = vec![0; quotas.len()];
        for (slot, &value) in self.slots.iter_mut().zip(&self.order) {
            let source = ends.partition_point(|&end| end <= u64::from(value));
            *slot = (source as u32, given[source]);
            given[source] += 1;
        }
        self.number = number;
    }
}

impl Source {
    fn new(index: u64, portion: &Portion, quota: u64, packing: &Packing) -> Result<Self, DataError> {
        let documents = Arc::clone(&portion.documents);
        if documents.count() == 0 {
            return Err(DataError::EmptyCorpus { place: portion.name.clone(), min_bytes: 1, files: 0 });
        }
        let rows = documents.token_count().div_ceil(packing.sequence);
        if u32::try_from(rows).is_err() || u32::try_from(documents.count()).is_err() {
            return Err(DataError::Setting {
                name: "sequence",
                expected: format!("such that an epoch of {} has at most {} rows", portion.name, u32::MAX),
                found: packing.sequence.to_string(),
            });
        }
        // The same order for a source that is alone and for the first of several.
        let seed = match index {
            0 => packing.seed,
            _ => stable_hash(&[&packing.seed.to_le_bytes(), &index.to_le_bytes()]),
        };
        let mut source = Self {
            name: portion.name.clone(),
            max_epochs: portion.max_epochs,
            seed,
            quota,
            rows_per_epoch: rows as u64,
            epoch: 0,
            layout: Layout::new(&*documents, vec![0; documents.count()]),
            row_order: vec![0; rows],
            documents,
        };
        source.shuffle(0);
        Ok(source)
    }

    fn append_row(&mut self, rank: u128, packing: &Packing, batch: &mut Batch) {
        let epoch = (rank / u128::from(self.rows_per_epoch)) as u64;
        if epoch != self.epoch {
            self.shuffle(epoch);
        }
        let row = self.row_order[(rank % u128::from(self.rows_per_epoch)) as usize] as usize;
        let targets = Targets { across_documents: packing.predict_across_documents, eos: true };
        self.layout.append_row(&*self.documents, row, targets, packing.routing, batch);
    }

    fn shuffle(&mut self, epoch: u64) {
        let seed = self.seed;
        self.layout.reorder(&*self.documents, |order| permutation(seed, epoch, Purpose::Documents, order));
        permutation(seed, epoch, Purpose::Rows, &mut self.row_order);
        self.epoch = epoch;
    }
}

/// Rows of a cycle for every source, by largest remainder; at least one each.
fn quotas(portions: &[Portion]) -> Result<Vec<u64>, DataError> {
    if portions.is_empty() || portions.len() > CYCLE / 16 {
        return Err(DataError::Setting {
            name: "sources",
            expected: format!("1 to {} sources", CYCLE / 16),
            found: portions.len().to_string(),
        });
    }
    if let Some(bad) = portions.iter().find(|portion| !(portion.weight.is_finite() && portion.weight > 0.0)) {
        return Err(DataError::Setting {
            name: "weight",
            expected: format!("a positive number for {}", bad.name),
            found: bad.weight.to_string(),
        });
    }
    // Divided by the largest first: the sum of huge weights must not be infinite.
    let largest = portions.iter().map(|portion| portion.weight).fold(0.0, f64::max);
    let sum: f64 = portions.iter().map(|portion| portion.weight / largest).sum();
    let free = (CYCLE - portions.len()) as f64;
    let wanted: Vec<f64> =
        portions.iter().map(|portion| 1.0 + free * (portion.weight / largest) / sum).collect();
    let mut quotas: Vec<u64> = wanted.iter().map(|rows| rows.floor() as u64).collect();
    let mut order: Vec<usize> = (0..quotas.len()).collect();
    order.sort_by(|&a, &b| wanted[b].fract().total_cmp(&wanted[a].fract()).then(a.cmp(&b)));
    let missing = (CYCLE as u64).saturating_sub(quotas.iter().sum()) as usize;
    order.iter().cycle().take(missing).for_each(|&source| quotas[source] += 1);
    Ok(quotas)
}

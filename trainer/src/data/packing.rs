//! Rows of packed documents, and the batch that the model reads.
//!
//! **Packing.** In every epoch the documents are laid end to end in a shuffled order and cut into rows of `sequence` tokens;
//! the rows are shuffled too, so that the pieces of one long document do not fill a whole batch. A document cut by a row's end
//! goes on in another row and keeps its identity. The last row of an epoch is filled up with the epoch's first tokens, which
//! are no targets there. So every token is read once an epoch, apart from that filling.
//!
//! **Labels** are the ids shifted left by one; the last position of a row has none (`-100`). As in the released recipe, the
//! label of an EOS is the first token of the document that follows in the row; [`Packing::predict_across_documents`] `= false`
//! removes those targets, which carry no signal when attention stays inside documents.
//!
//! **Segments.** Attention ends a document at its EOS, inclusive. Routing does the same by default; the released code lets
//! an EOS open the next routing segment instead ([`RoutingBoundary::EosOpens`], preset `ai2-compat`). Both always end at a row's end.
//!
//! Where the documents lie, in memory or in mapped files, does not matter here: see [`Documents`].
//! Which row enters which batch is said by [`BatchStream`](super::BatchStream).

use serde::{Deserialize, Serialize};

use super::{DataError, Documents};

/// The label of a position that has no target.
pub const IGNORE: i32 = -100;

/// To which routing segment an EOS belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoutingBoundary {
    /// To the document it ends, as in attention.
    #[default]
    EosCloses,
    /// To the segment that follows; an EOS at a row's first position opens nothing. The released code's convention.
    EosOpens,
}

/// How documents become rows and batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// Rows of a batch.
    pub rows: usize,
    /// Tokens of a row.
    pub sequence: usize,
    /// Key of the shuffles.
    pub seed: u64,
    /// Whether an EOS is trained to predict the first token of the next document in its row.
    pub predict_across_documents: bool,
    /// Where routing segments end.
    pub routing: RoutingBoundary,
}

impl Packing {
    /// The released conventions for `rows` x `sequence` tokens, with the routing boundary fixed.
    #[must_use]
    pub fn new(rows: usize, sequence: usize, seed: u64) -> Self {
        Self { rows, sequence, seed, predict_across_documents: true, routing: RoutingBoundary::EosCloses }
    }

    pub(super) fn check(&self) -> Result<(), DataError> {
        let setting = |name, expected: &str, found: usize| {
            Err(DataError::Setting { name, expected: expected.into(), found: found.to_string() })
        };
        if self.rows == 0 {
            return setting("rows", "at least 1", 0);
        }
        if self.sequence < 2 {
            return setting("sequence", "at least 2, one to read and one to predict", self.sequence);
        }
        match self.rows.checked_mul(self.sequence) {
            Some(tokens) if tokens <= i32::MAX as usize => Ok(()),
            _ => setting("sequence", "such that rows * sequence fits in 31 bits", self.sequence),
        }
    }
}

/// One batch, filled in place; its buffers are allocated once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Rows.
    pub rows: usize,
    /// Tokens of a row.
    pub sequence: usize,
    /// Token ids, `[rows * sequence]`.
    pub ids: Vec<u32>,
    /// Targets, `[rows * sequence]`, [`IGNORE`] where there is none.
    pub labels: Vec<i32>,
    /// Attention segments: a leading 0, then the exclusive end of every segment; rows' ends are always among them.
    pub attention_offsets: Vec<u32>,
    /// Routing segments, in the same form.
    pub routing_offsets: Vec<u32>,
    /// Identity of the document of every routing segment (of the document of its last token).
    pub routing_documents: Vec<u64>,
    /// Domain of the document of every routing segment.
    pub routing_domains: Vec<u32>,
    pieces: Vec<Piece>,
}

/// A run of one document's tokens within a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    end: usize,
    uid: u64,
    domain: u32,
    /// Its first token that is a target, as a place in the batch.
    first_target: usize,
}

impl Batch {
    /// Empties the batch and makes sure that filling it with `rows` x `sequence` tokens will not allocate.
    pub(super) fn clear(&mut self, rows: usize, sequence: usize) {
        let tokens = rows * sequence;
        (self.rows, self.sequence) = (rows, sequence);
        self.pieces.clear();
        self.pieces.reserve(sequence);
        self.ids.clear();
        self.ids.reserve(tokens);
        self.labels.clear();
        self.labels.reserve(tokens);
        for offsets in [&mut self.attention_offsets, &mut self.routing_offsets] {
            offsets.clear();
            offsets.reserve(tokens + 1);
            offsets.push(0);
        }
        self.routing_documents.clear();
        self.routing_documents.reserve(tokens);
        self.routing_domains.clear();
        self.routing_domains.reserve(tokens);
    }

    /// Positions that have a target.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.labels.iter().filter(|&&label| label != IGNORE).count()
    }
}

/// Appends the exclusive ends of the attention segments of one row that starts at token `base`: after every EOS and at its end.
pub fn attention_ends(row: &[u32], eos: u32, base: u32, ends: &mut Vec<u32>) {
    for (position, &id) in row.iter().enumerate() {
        if id == eos || position + 1 == row.len() {
            ends.push(base + position as u32 + 1);
        }
    }
}

/// Appends the exclusive ends of the routing segments of one row that starts at token `base`, see [`RoutingBoundary`].
pub fn routing_ends(row: &[u32], eos: u32, boundary: RoutingBoundary, base: u32, ends: &mut Vec<u32>) {
    match boundary {
        RoutingBoundary::EosCloses => attention_ends(row, eos, base, ends),
        RoutingBoundary::EosOpens => {
            for (position, &id) in row.iter().enumerate().skip(1) {
                if id == eos {
                    ends.push(base + position as u32);
                }
            }
            if !row.is_empty() {
                ends.push(base + row.len() as u32);
            }
        }
    }
}

/// Documents laid end to end in some order.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    order: Vec<u32>,
    /// Exclusive end of the i-th document of the order.
    ends: Vec<usize>,
}

/// Which labels of a row are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Targets {
    /// EOS predicts the next document's first token.
    pub(super) across_documents: bool,
    /// EOS is itself a target.
    pub(super) eos: bool,
}

impl Layout {
    /// `documents` of `store` in the order given.
    pub(super) fn new(store: &dyn Documents, documents: Vec<u32>) -> Self {
        let mut layout = Self { ends: vec![0; documents.len()], order: documents };
        layout.measure(store);
        layout
    }

    /// Lays all documents in the order that `shuffle` writes over the present one.
    pub(super) fn reorder(&mut self, store: &dyn Documents, shuffle: impl FnOnce(&mut [u32])) {
        shuffle(&mut self.order);
        self.measure(store);
    }

    fn measure(&mut self, store: &dyn Documents) {
        let mut end = 0;
        for (slot, &document) in self.ends.iter_mut().zip(&self.order) {
            end += store.document(document as usize).length;
            *slot = end;
        }
    }

    /// Tokens of all documents.
    pub(super) fn tokens(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Appends row `row` (tokens `row * sequence ..` of the layout, going round at its end) to `batch`.
    pub(super) fn append_row(
        &self,
        store: &dyn Documents,
        row: usize,
        targets: Targets,
        routing: RoutingBoundary,
        batch: &mut Batch,
    ) {
        let (sequence, total) = (batch.sequence, self.tokens());
        let (base, first) = (batch.ids.len(), row * sequence);
        batch.pieces.clear();
        let mut place = first % total;
        let mut slot = self.ends.partition_point(|&end| end <= place);
        while batch.ids.len() < base + sequence {
            let index = self.order[slot] as usize;
            let document = store.document(index);
            let skipped = document.length - (self.ends[slot] - place);
            let take = (self.ends[slot] - place).min(base + sequence - batch.ids.len());
            let first_target = batch.ids.len() + store.first_target(index).saturating_sub(skipped);
            store.append(index, skipped..skipped + take, &mut batch.ids);
            let end = batch.ids.len();
            batch.pieces.push(Piece { end, uid: document.uid, domain: document.domain, first_target });
            place += take;
            if place == self.ends[slot] {
                slot += 1;
            }
            if place == total {
                (place, slot) = (0, 0);
            }
        }
        let (eos, ids) = (store.eos(), &batch.ids[base..]);
        let mut piece = 0;
        for position in 0..sequence {
            // A target beyond the layout's end belongs to the filling.
            let inside = position + 1 < sequence && first + position + 1 < total;
            let target = base + position + 1;
            while inside && batch.pieces[piece].end <= target {
                piece += 1;
            }
            let kept = inside
                && target >= batch.pieces[piece].first_target
                && (targets.across_documents || ids[position] != eos)
                && (targets.eos || ids[position + 1] != eos);
            batch.labels.push(if kept { ids[position + 1] as i32 } else { IGNORE });
        }
        attention_ends(ids, eos, base as u32, &mut batch.attention_offsets);
        let segments = batch.routing_offsets.len();
        routing_ends(ids, eos, routing, base as u32, &mut batch.routing_offsets);
        let mut piece = 0;
        for &end in &batch.routing_offsets[segments..] {
            while batch.pieces[piece].end < end as usize {
                piece += 1;
            }
            batch.routing_documents.push(batch.pieces[piece].uid);
            batch.routing_domains.push(batch.pieces[piece].domain);
        }
    }
}

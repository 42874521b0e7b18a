//! Sequences that grow.

use std::collections::VecDeque;

use emo::Backend;

use crate::error::{Error, Result};
use crate::model::{Capacity, Inputs, Model, ModelConfig, Piece};

/// Tokens of prompts that pass through the model at once: enough to keep it busy, and memory for no more.
const CHUNK: usize = 512;

/// A model and a number of sequences that it continues.
///
/// Where the model [remembers](Model::remembers), each layer keeps the keys and values of all tokens (and, where router
/// logits are smoothed, the last of these), so that a new token costs one token's work. Elsewhere, on a backend without
/// attention to cached keys or with routing that looks ahead, the whole sequence is computed again for each token.
///
/// What holds for the model holds here: whatever restricts its experts restricts them for all sequences.
pub struct Decoder<B: Backend> {
    model: Model<B>,
    sequences: Vec<Vec<u32>>,
    remembers: bool,
    longest: usize,
}

impl<B: Backend> Decoder<B> {
    /// Memory that a model of `config` needs for `sequences` sequences of at most `longest` tokens.
    #[must_use]
    pub fn capacity(config: &ModelConfig, sequences: usize, longest: usize) -> Capacity {
        // Without a cache a whole sequence passes through at once.
        let remembers = B::CACHED_ATTENTION && !config.routes_ahead();
        let tokens = if remembers { longest.min(CHUNK).max(sequences) } else { longest };
        Capacity { tokens, longest, domains: 0, redundancy: false, backward: false }
    }

    /// Room for `sequences` sequences, all empty, each of at most as many tokens as the model's capacity has positions (and
    /// tokens, where sequences must be computed again).
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(mut model: Model<B>, sequences: usize) -> Result<Self> {
        let remembers = model.remembers();
        let Capacity { tokens, longest, .. } = model.capacity();
        if remembers {
            model.remember(sequences)?;
        }
        let longest = if remembers { longest } else { longest.min(tokens) };
        Ok(Self { model, sequences: vec![Vec::new(); sequences], remembers, longest })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model<B> {
        &self.model
    }

    /// The model, to be told which experts it may use from here on.
    pub fn model_mut(&mut self) -> &mut Model<B> {
        &mut self.model
    }

    /// The model, to be used for something else.
    #[must_use]
    pub fn into_model(self) -> Model<B> {
        self.model
    }

    /// Tokens of a sequence so far.
    #[must_use]
    pub fn tokens(&self, sequence: usize) -> &[u32] {
        self.sequences.get(sequence).map_or(&[], Vec::as_slice)
    }

    /// Tokens that a sequence still has room for.
    #[must_use]
    pub fn room(&self, sequence: usize) -> usize {
        self.longest - self.tokens(sequence).len()
    }

    /// Forgets a sequence.
    pub fn clear(&mut self, sequence: usize) {
        if let Some(ids) = self.sequences.get_mut(sequence) {
            ids.clear();
        }
    }

    /// Adds tokens to sequences and returns, for each in the order given, the logits `[vocabulary]` of what follows.
    ///
    /// # Errors
    /// For sequences that are not there, are named twice, have no tokens to add or no room for them; nothing has changed
    /// then. When the device fails, what it was in the middle of is lost: [`Decoder::clear`].
    pub fn extend(&mut self, new: &[(usize, &[u32])]) -> Result<Vec<Vec<f64>>> {
        for (index, &(sequence, ids)) in new.iter().enumerate() {
            let refuse = |what: String| Err(Error::Usage(format!("sequence {sequence}: {what}")));
            if sequence >= self.sequences.len() {
                return refuse(format!("there are {} sequences", self.sequences.len()));
            }
            if new[..index].iter().any(|&(other, _)| other == sequence) {
                return refuse("is continued twice at once".into());
            }
            if ids.is_empty() || ids.len() > self.room(sequence) {
                let (have, longest) = (self.tokens(sequence).len(), self.longest);
                return refuse(format!(
                    "{} tokens cannot be added to {have}: at least 1 and at most {longest} together, as far as the \
                     model's positions reach",
                    ids.len()
                ));
            }
        }
        if self.remembers { self.extend_remembered(new) } else { self.compute_again(new) }
    }

    /// In micro-batches of at most the model's tokens; a long prompt is cut.
    fn extend_remembered(&mut self, new: &[(usize, &[u32])]) -> Result<Vec<Vec<f64>>> {
        let room = self.model.capacity().tokens;
        let mut logits = vec![Vec::new(); new.len()];
        let mut left: VecDeque<(usize, usize, &[u32])> =
            new.iter().enumerate().map(|(index, &(sequence, ids))| (index, sequence, ids)).collect();
        while !left.is_empty() {
            let (mut pieces, mut ends, mut row) = (Vec::new(), Vec::new(), 0);
            while row < room
                && let Some((index, place, ids)) = left.pop_front()
            {
                let (now, later) = ids.split_at(ids.len().min(room - row));
                pieces.push(Piece { place, past: self.sequences[place].len(), ids: now });
                row += now.len();
                if later.is_empty() {
                    ends.push((index, row - 1));
                } else {
                    left.push_front((index, place, later));
                }
            }
            self.model.extend(&pieces)?;
            pieces.iter().for_each(|piece| self.sequences[piece.place].extend_from_slice(piece.ids));
            for (index, row) in ends {
                logits[index] = self.model.logits(row..row + 1)?;
            }
        }
        Ok(logits)
    }

    fn compute_again(&mut self, new: &[(usize, &[u32])]) -> Result<Vec<Vec<f64>>> {
        let mut logits = Vec::with_capacity(new.len());
        for &(sequence, ids) in new {
            let all = &mut self.sequences[sequence];
            all.extend_from_slice(ids);
            self.model.forward(&Inputs::rows(all.clone(), 1, all.len()))?;
            logits.push(self.model.logits(all.len() - 1..all.len())?);
        }
        Ok(logits)
    }
}

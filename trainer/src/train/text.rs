//! From a configuration to token stores for training and validation.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::{Config, Source};
use crate::data::{ByteTokenizer, Corpus, TokenStore, folder, quickstart};
use crate::error::Result;

/// Optimiser steps after which random tokens repeat.
const RANDOM_STEPS: usize = 64;

/// Tokenised text.
pub struct Text {
    /// Training documents.
    pub train: Arc<TokenStore>,
    /// Held-out documents.
    pub valid: Arc<TokenStore>,
    /// Names of the domains.
    pub domains: Vec<String>,
    /// What people should know about it, one line each.
    pub notes: Vec<String>,
}

impl Text {
    /// Reads and tokenises what `[data]` names. A run that goes on is not `fresh`: its text must stay the same, so cargo
    /// is not asked for more of it.
    ///
    /// # Errors
    /// [`crate::data::DataError`] when there is no text, in words that say what to do.
    pub fn load(config: &Config, fresh: bool) -> Result<Self> {
        match config.data.source {
            Source::Random => Self::random(config),
            Source::Folder => Self::of(folder::load(&config.data.path, &config.limits())?),
            Source::Registry => Self::of(quickstart::load(config.limits(), fresh && config.data.fetch)?),
        }
    }

    fn of(corpus: Corpus) -> Result<Self> {
        let store = |documents: &[_]| TokenStore::from_documents(ByteTokenizer, documents).map(Arc::new);
        let mut notes: Vec<String> = corpus
            .sizes()
            .iter()
            .map(|(name, train, valid)| {
                format!(
                    "{name}: {} documents, {} kB to train on; {} documents, {} kB to validate on",
                    train.documents,
                    train.bytes / 1000,
                    valid.documents,
                    valid.bytes / 1000
                )
            })
            .collect();
        if !corpus.missing.is_empty() {
            notes.push(format!(
                "{} locked packages have no sources on this machine; `cargo fetch --locked` brings most of them",
                corpus.missing.len()
            ));
        }
        Ok(Self {
            train: store(&corpus.train)?,
            valid: store(&corpus.valid)?,
            domains: corpus.domains,
            notes,
        })
    }

    /// Documents of exactly one row, so that every step costs the same.
    fn random(config: &Config) -> Result<Self> {
        let eos = config.eos_id();
        let mut store = TokenStore::new(eos);
        let mut generator = ChaCha8Rng::seed_from_u64(config.run.seed);
        for document in 0..config.train.batch * RANDOM_STEPS {
            let below_eos = || ((u64::from(generator.next_u32()) * u64::from(eos)) >> 32) as u32;
            let ids = std::iter::repeat_with(below_eos).take(config.data.sequence - 1);
            store.push(ids, document as u64, 0)?;
        }
        Ok(Self {
            train: Arc::new(store),
            valid: Arc::new(TokenStore::new(eos)),
            domains: vec!["random".into()],
            notes: vec!["random tokens: the loss means nothing".into()],
        })
    }
}

//! From a configuration to documents for training and validation.

use std::path::Path;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::{Config, Data, Mix, Source};
use crate::data::selected::Selected;
use crate::data::shard::{Manifest, ShardStore};
use crate::data::{
    BatchStream, ByteTokenizer, Corpus, DataError, Documents, Portion, TokenStore, Tokenizer, folder,
    quickstart,
};
use crate::error::{Error, Result};

/// Optimiser steps after which random tokens repeat.
const RANDOM_STEPS: usize = 64;

/// Tokenised text.
pub struct Text {
    /// Training documents, source by source.
    pub train: Vec<Portion>,
    /// Held-out documents.
    pub valid: Arc<dyn Documents>,
    /// Names of the domains.
    pub domains: Vec<String>,
    /// What made the tokens.
    pub tokenizer: Tokenizer,
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
            Source::Shards => Self::shards(config),
            Source::Folder => Self::of(folder::load(&config.data.path, &config.limits())?)?.chosen(config),
            Source::Registry => {
                Self::of(quickstart::load(config.limits(), fresh && config.data.fetch)?)?.chosen(config)
            }
        }
    }

    /// Without the training documents that `data.domains` leaves out, and of the others the part that
    /// `data.answer_after` leaves to learn.
    fn chosen(mut self, config: &Config) -> Result<Self> {
        let Data { domains, answer_after, mix, .. } = &config.data;
        if domains.is_empty() && answer_after.is_empty() {
            return Ok(self);
        }
        let number = |name: &String| {
            let found = self.domains.iter().position(|known| known == name);
            found.map(|found| found as u32).ok_or_else(|| {
                Error::Config(format!(
                    "`data.domains`: there is no domain `{name}`; the text has {}",
                    self.domains.join(", ")
                ))
            })
        };
        let numbers = domains.iter().map(number).collect::<Result<Vec<_>>>()?;
        let delimiter = self
            .tokenizer
            .encode(answer_after)
            .map_err(|error| Error::Config(format!("`data.answer_after` cannot be tokenised: {error}")))?;
        let (mut answers, mut documents) = (0, 0);
        let mut train = Vec::with_capacity(self.train.len());
        for portion in self.train {
            let before = portion.documents.token_count().max(1);
            let selected = Selected::new(portion.documents, &numbers, &delimiter)?;
            (answers, documents) = (answers + selected.with_answer(), documents + selected.count());
            if selected.count() > 0 {
                // Shares that follow from sizes follow from those that are left; given ones stay.
                let given = mix.iter().any(|source| source.weight > 0.0);
                let share = if given { 1.0 } else { selected.token_count() as f64 / before as f64 };
                let weight = portion.weight * share;
                train.push(Portion { documents: Arc::new(selected), weight, ..portion });
            }
        }
        if train.is_empty() {
            return Err(Error::Config(format!(
                "`data.domains`: there is no text to train on in {}",
                domains.join(", ")
            )));
        }
        self.train = train;
        if !answer_after.is_empty() {
            self.notes
                .push(format!("{answers} of {documents} documents have an answer after {answer_after:?}"));
        }
        Ok(self)
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
                "locked packages without sources on this machine: {}; `cargo fetch --locked` brings most of them",
                corpus.missing.len()
            ));
        }
        Ok(Self {
            train: vec![Portion::whole("the corpus", store(&corpus.train)?)],
            valid: store(&corpus.valid)?,
            domains: corpus.domains,
            tokenizer: Tokenizer::bytes(),
            notes,
        })
    }

    /// Folders of shards, all made with one tokenizer; equal names of domains are one domain.
    fn shards(config: &Config) -> Result<Self> {
        let data = &config.data;
        let alone = [Mix { path: data.path.clone(), ..Mix::default() }];
        let mix = if data.mix.is_empty() { &alone[..] } else { &data.mix[..] };
        let tokenizer = ShardStore::tokenizer(&mix[0].path)?;
        let identity = tokenizer.identity();
        if identity.vocabulary as usize > config.model.vocabulary || Some(identity.eos) != data.eos {
            let expected = format!(
                "a tokenizer for `model.vocabulary = {}` and `data.eos = {}`",
                config.model.vocabulary,
                config.eos_id()
            );
            return Err(DataError::input(&mix[0].path, expected, identity.words()).into());
        }
        let mut domains = Vec::new();
        let mut open = |path: &Path| open(path, &tokenizer, data.verify, &mut domains);
        let mut train = Vec::new();
        for source in mix {
            let documents = open(&source.path)?;
            let repeat = if source.epochs > 0.0 { source.epochs } else { 1.0 };
            let size = documents.token_count() as f64 * repeat;
            train.push(Portion {
                name: source.path.display().to_string(),
                documents: Arc::new(documents),
                weight: if source.weight > 0.0 { source.weight } else { size },
                max_epochs: source.max_epochs,
            });
        }
        let valid: Arc<dyn Documents> = if data.valid_path.as_os_str().is_empty() {
            Arc::new(TokenStore::new(identity.eos))
        } else {
            Arc::new(open(&data.valid_path)?)
        };
        let notes = vec![format!("tokenizer: {}", identity.words())];
        let text = Self { train, valid, domains, notes, tokenizer };
        let mut text = text.chosen(config)?;
        for passes in text.stream(config)?.passes(config.train.steps * config.micro_batches() as u64)? {
            let percent = 100.0 * passes.share;
            text.notes.push(format!(
                "{}: {percent:.2} % of the rows, read {:.2} times",
                passes.name, passes.epochs
            ));
        }
        Ok(text)
    }

    /// The stream of training batches.
    ///
    /// # Errors
    /// An impossible shape, or nothing to read.
    pub fn stream(&self, config: &Config) -> Result<BatchStream> {
        Ok(BatchStream::mixture(&self.train, config.packing())?)
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
            train: vec![Portion::whole("random tokens", Arc::new(store))],
            valid: Arc::new(TokenStore::new(eos)),
            domains: vec!["random".into()],
            tokenizer: Tokenizer::bytes(),
            notes: vec!["random tokens: the loss means nothing".into()],
        })
    }
}

/// Opens a folder of shards, its domains numbered as in `domains`, which grows by those that are new.
fn open(path: &Path, tokenizer: &Tokenizer, verify: bool, domains: &mut Vec<String>) -> Result<ShardStore> {
    let store = ShardStore::open(path, tokenizer, verify)?;
    let mut number = |name: String| {
        let known = domains.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            domains.push(name);
            domains.len() - 1
        }) as u32
    };
    let names = Manifest::read(path)?.domains.into_iter().map(|domain| domain.name);
    Ok(store.renumber(names.map(&mut number).collect())?)
}

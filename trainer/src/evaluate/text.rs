//! The text a checkpoint is evaluated on: what its run held out, or a folder of shards or of text files.

use std::path::Path;
use std::sync::Arc;

use super::tokens::{Tokens, check_run};
use crate::checkpoint::state::CONFIG;
use crate::config::Config;
use crate::data::shard::manifest::MANIFEST;
use crate::data::shard::{Manifest, ShardStore};
use crate::data::{ByteTokenizer, Document, Documents, Limits, TokenStore, folder};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::train::text::Text;

/// Documents and the names of their domains.
pub struct EvaluationText {
    /// The documents.
    pub documents: Arc<dyn Documents>,
    /// Names of their domains.
    pub domains: Vec<String>,
}

/// The configuration of the run that a checkpoint comes from; none for another program's checkpoint.
///
/// # Errors
/// A `config.toml` that is no configuration.
pub fn run_config(checkpoint: &Path) -> Result<Option<Config>> {
    let path = checkpoint.join(CONFIG);
    if !path.exists() {
        return Ok(None);
    }
    Config::saved(&path, &[]).map(Some)
}

/// Tokens of a row: `wanted`, else as the run trained, else as many positions as the model has, 4096 at most.
#[must_use]
pub fn sequence(wanted: Option<usize>, run: Option<&Config>, model: &ModelConfig) -> usize {
    let trained = wanted.or(run.map(|run| run.data.sequence));
    trained.unwrap_or(model.max_positions.min(4096))
}

impl EvaluationText {
    /// The text in `data`; without it, what the run that made the checkpoint holds out.
    ///
    /// # Errors
    /// Text that the model cannot read or that is not here any more, and a checkpoint of no run without `data`.
    pub fn choose(
        data: Option<&Path>,
        run: Option<&Config>,
        model: &ModelConfig,
        checkpoint: &Path,
    ) -> Result<Self> {
        match (data, run) {
            (Some(path), _) => Self::open_for(path, model, checkpoint),
            (None, Some(run)) => {
                check_run(&run.data, model, checkpoint)?;
                Self::of_run(run)
            }
            (None, None) => Err(Error::Usage(format!(
                "{} comes from no run of this program, so what it held out is unknown; give text with --data",
                checkpoint.display()
            ))),
        }
    }

    /// What the run of `config` holds out.
    ///
    /// # Errors
    /// When that text is not here any more.
    pub fn of_run(config: &Config) -> Result<Self> {
        let text = Text::load(config, false)?;
        Ok(Self { documents: text.valid, domains: text.domains })
    }

    /// A folder of shards (it has a `manifest.json`), or one of text files, all of them, for a model whose tokens are bytes.
    ///
    /// # Errors
    /// Text that the model cannot read, in words that say why.
    pub fn open_for(path: &Path, model: &ModelConfig, checkpoint: &Path) -> Result<Self> {
        Tokens::of(checkpoint, model)?.check(path, model)?;
        if path.join(MANIFEST).exists() {
            let tokenizer = ShardStore::tokenizer(path)?;
            let domains = Manifest::read(path)?.domains.into_iter().map(|domain| domain.name).collect();
            return Ok(Self { documents: Arc::new(ShardStore::open(path, &tokenizer, true)?), domains });
        }
        let corpus =
            folder::load(path, &Limits { valid_fraction: 0.0, min_valid_bytes: 0, ..Limits::uncapped() })?;
        let documents: Vec<Document> = corpus.valid.into_iter().chain(corpus.train).collect();
        let store = TokenStore::from_documents(ByteTokenizer, &documents)?;
        Ok(Self { documents: Arc::new(store), domains: corpus.domains })
    }
}

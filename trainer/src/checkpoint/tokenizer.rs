//! The tokenizer of a checkpoint.

use std::path::Path;

use super::state::CONFIG;
use crate::config::{Config, Source};
use crate::data::shard::ShardStore;
use crate::data::shard::manifest::TOKENIZER;
use crate::data::tokenizer::Eos;
use crate::data::{ByteTokenizer, Tokenizer};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::small;

/// Whether a model's tokens are bytes, as far as its configuration tells.
#[must_use]
pub fn reads_bytes(config: &ModelConfig) -> bool {
    config.vocabulary >= ByteTokenizer::VOCABULARY && config.eos_id == Some(ByteTokenizer::EOS)
}

/// The tokenizer `given` (a tokenizer.json or its folder); else the one beside the weights; else that of the shards the run
/// read; else bytes, where the model's vocabulary is theirs.
///
/// # Errors
/// Where none of these is there, or it does not fit the model, in words that say what to give.
pub fn of(checkpoint: &Path, given: Option<&Path>, model: &ModelConfig) -> Result<Tokenizer> {
    let beside = checkpoint.join(TOKENIZER);
    let own = beside.exists().then_some(beside);
    let path = given.map(Path::to_path_buf).or_else(|| own.clone());
    let tokenizer = match (path, shards(checkpoint)) {
        (Some(path), _) => {
            let eos = model.eos_id.map_or(Eos::Usual, Eos::Id);
            Tokenizer::load(&path.to_string_lossy(), eos)?
        }
        (None, Some(shards)) if shards.exists() => ShardStore::tokenizer(&shards)?,
        (None, None) if reads_bytes(model) => Tokenizer::bytes(),
        _ => {
            let message =
                "has no tokenizer.json and its tokens are not bytes; name its tokenizer with --tokenizer";
            return Err(Error::checkpoint(checkpoint, message));
        }
    };
    if let (Some(given), Some(own)) = (given, own) {
        let same = small::bytes(&own).is_ok_and(|own| tokenizer.file() == Some(&own));
        if !same {
            let (given, own) = (given.display(), own.display());
            tracing::warn!(
                "{given} is another file than {own}, which the model was trained with: its ids may mean other text"
            );
        }
    }
    let identity = tokenizer.identity();
    if identity.vocabulary as usize > model.vocabulary {
        return Err(Error::Usage(format!(
            "the tokenizer ({}) is not the model's, which has {} ids",
            identity.words(),
            model.vocabulary
        )));
    }
    Ok(tokenizer)
}

/// The folder of shards that the checkpoint's run read.
pub(crate) fn shards(checkpoint: &Path) -> Option<std::path::PathBuf> {
    let data = Config::saved(&checkpoint.join(CONFIG), &[]).ok()?.data;
    let first = data.mix.into_iter().next().map_or(data.path, |source| source.path);
    (data.source == Source::Shards).then_some(first)
}

//! Whose ids a model reads: under another tokenizer they mean other text, and no number of a result shows it.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::checkpoint::tokenizer::{reads_bytes, shards};
use crate::config::{Data, Source};
use crate::data::shard::Manifest;
use crate::data::shard::manifest::{MANIFEST, TOKENIZER};
use crate::data::tokenizer::{Identity, hex};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::small;

/// What the ids of a checkpoint stand for, as far as its folder tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokens {
    /// Bytes.
    Bytes,
    /// What the tokenizer.json of this SHA-256 says.
    File(String),
    /// Nothing tells.
    Unknown,
}

impl Tokens {
    /// By the tokenizer.json beside the weights; else the shards that the run read; else bytes, where the vocabulary is theirs.
    ///
    /// # Errors
    /// Files that are there and cannot be read.
    pub fn of(checkpoint: &Path, model: &ModelConfig) -> Result<Self> {
        let beside = checkpoint.join(TOKENIZER);
        if beside.exists() {
            let file = small::bytes(&beside).map_err(Error::io("read", &beside))?;
            return Ok(Self::File(hex(&Sha256::digest(&file))));
        }
        match shards(checkpoint).filter(|shards| shards.join(MANIFEST).exists()) {
            Some(shards) => Ok(match Manifest::read(&shards)?.tokenizer {
                Identity { kind, .. } if kind == "bytes" => Self::Bytes,
                Identity { sha256, .. } => Self::File(sha256),
            }),
            None if reads_bytes(model) => Ok(Self::Bytes),
            None => Ok(Self::Unknown),
        }
    }

    /// Whether `text` can be read: shards of this tokenizer, or any other folder where tokens are bytes.
    ///
    /// # Errors
    /// Other text, in words that say what to do with it, and a damaged manifest.
    pub fn check(&self, text: &Path, model: &ModelConfig) -> Result<()> {
        if !text.join(MANIFEST).exists() {
            if *self == Self::Bytes || (*self == Self::Unknown && reads_bytes(model)) {
                return Ok(());
            }
            return Err(Error::Usage(format!(
                "{} holds no shards, and the model's tokens are not bytes. Tokenise it first with the model's \
                 tokenizer:\n  trainer data build {} --tokenizer TOKENIZER.json --out shards",
                text.display(),
                text.display()
            )));
        }
        let theirs = Manifest::read(text)?.tokenizer;
        let same = match self {
            Self::Bytes => theirs.kind == "bytes",
            Self::File(sha256) => *sha256 == theirs.sha256,
            // Size and end of document must do.
            Self::Unknown => model.eos_id.is_some(),
        };
        let ends = model.eos_id.is_none_or(|eos| eos == theirs.eos);
        if same && ends && theirs.vocabulary as usize <= model.vocabulary {
            return Ok(());
        }
        let eos = model.eos_id.map_or_else(|| "unknown".to_owned(), |eos| eos.to_string());
        let remedy = match self {
            Self::Bytes => "Build shards of bytes:\n  trainer data build TEXT --out shards",
            Self::File(_) => {
                "Use the model's:\n  trainer data build TEXT --tokenizer TOKENIZER.json --out shards"
            }
            Self::Unknown => "If it is the model's, put its tokenizer.json beside the weights",
        };
        Err(Error::Usage(format!(
            "{} was tokenised with another tokenizer ({}) than the model's ({}, {} ids, end of document {eos}). {remedy}",
            text.display(),
            theirs.words(),
            self.words(),
            model.vocabulary
        )))
    }

    /// Whether both are known, and are not the same.
    #[must_use]
    pub fn differ(&self, other: &Self) -> bool {
        ![self, other].contains(&&Self::Unknown) && self != other
    }

    /// In a few words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Bytes => "bytes".into(),
            Self::File(sha256) => format!("{TOKENIZER} {}…", sha256.get(..12).unwrap_or(sha256)),
            Self::Unknown => format!("no {TOKENIZER} beside its weights"),
        }
    }
}

/// [`Tokens::check`] for a run's text as it is now, where that is shards: they may have been built anew.
///
/// # Errors
/// Those of [`Tokens::check`].
pub fn check_run(data: &Data, model: &ModelConfig, checkpoint: &Path) -> Result<()> {
    let first = data.mix.first().map_or(&data.path, |source| &source.path);
    // Shards that are gone are told of where they are opened.
    if data.source != Source::Shards || !first.join(MANIFEST).exists() {
        return Ok(());
    }
    Tokens::of(checkpoint, model)?.check(first, model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_that_nothing_tells_of_differs_from_none() {
        let file = |sha256: &str| Tokens::File(sha256.into());
        assert!(file("a").differ(&file("b")) && file("a").differ(&Tokens::Bytes));
        assert!(!file("a").differ(&file("a")) && !Tokens::Bytes.differ(&Tokens::Bytes));
        assert!(!Tokens::Unknown.differ(&Tokens::Bytes) && !file("a").differ(&Tokens::Unknown));
    }
}

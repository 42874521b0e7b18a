//! `manifest.json`: what a folder of shards holds, and, while it is being built, how far that has come.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::DataError;
use super::super::tokenizer::Identity;
use super::build::Settings;
use crate::replace::replace;
use crate::small;

/// The file's name.
pub const MANIFEST: &str = "manifest.json";
/// The tokenizer's file beside it.
pub const TOKENIZER: &str = "tokenizer.json";

/// What a folder of shards holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format, 1.
    pub version: u32,
    /// Whether all inputs have been read.
    pub complete: bool,
    /// The tokenizer.
    pub tokenizer: Identity,
    /// Tokens of all shards.
    pub tokens: u64,
    /// Documents of all shards.
    pub documents: u64,
    /// Bytes of text of all shards.
    pub text_bytes: u64,
    /// Domains, in the order of their numbers.
    pub domains: Vec<Domain>,
    /// Shards, in order.
    pub shards: Vec<ShardEntry>,
    /// Records that became no document.
    pub skipped: Skipped,
    /// What was asked for.
    pub settings: Settings,
    /// The files that were read.
    pub inputs: Vec<InputEntry>,
    /// Where the next shard begins: (input, record).
    pub next: (usize, u64),
}

/// One domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Documents.
    pub documents: u64,
    /// Tokens, ends of documents included.
    pub tokens: u64,
    /// Bytes of text.
    pub text_bytes: u64,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Its name in the folder.
    pub file: String,
    /// Tokens.
    pub tokens: u64,
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub text_bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputEntry {
    /// Its path below the argument that named it.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// Records that became no document, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// Without text.
    pub empty: u64,
    /// Files of a text tree that are not UTF-8.
    pub not_utf8: u64,
    /// Records that cannot be read, where that was allowed.
    pub invalid: u64,
}

impl Manifest {
    /// Reads the manifest of `folder`.
    ///
    /// # Errors
    /// [`DataError::Read`] and [`DataError::Input`].
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(MANIFEST);
        let text = small::bytes(&path).map_err(DataError::read(&path))?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| {
            DataError::input(&path, "the manifest of a folder of shards", error.to_string())
        })?;
        if manifest.version != 1 {
            return Err(DataError::input(&path, "version 1", format!("version {}", manifest.version)));
        }
        // A shard lies in the folder itself: a manifest must not point anywhere else.
        let plain = |name: &str| !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.');
        match manifest.shards.iter().find(|shard| !plain(&shard.file)) {
            Some(shard) => Err(DataError::input(&path, "names of files in this folder", shard.file.clone())),
            None => Ok(manifest),
        }
    }

    /// Replaces the manifest of `folder` in one step.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn write(&self, folder: &Path) -> Result<(), DataError> {
        let path = folder.join(MANIFEST);
        replace(
            &path,
            |error| error,
            |file| {
                serde_json::to_writer_pretty(&mut *file, self)?;
                file.write_all(b"\n")
            },
        )
        .map_err(DataError::write(&path))
    }
}

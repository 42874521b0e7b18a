//! Files of text or tokens, record by record, in an order that depends on their names alone.
//!
//! | files | a record is |
//! |---|---|
//! | `*.jsonl`, `*.ndjson`, `*.json`, each also `.gz` or `.zst` | a line: an object with a key for the text |
//! | `*.parquet` | a row: a column of strings |
//! | `*.npy` without a header, as OLMo's tools write them | a document: 16- or 32-bit ids up to the next end-of-document id |
//! | anything else, also `.gz` or `.zst` | the file |
//!
//! Nothing is held but the record being read (at most [`MAX_RECORD`] bytes), and of Parquet the page it lies in.

mod compressed;
mod json;
mod lines;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod whole;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub use json::Keys;

use super::{DataError, folder};

/// A longer record is an error, in bytes.
pub const MAX_RECORD: usize = 1 << 28;

/// A record before its text is tokenised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// A line of JSON.
    Json(Vec<u8>),
    /// Text, perhaps with its domain.
    Text(Vec<u8>, Option<String>),
    /// Ids, without the end of the document.
    Tokens(Vec<u32>),
}

/// A stream of records.
pub type Records = Box<dyn Iterator<Item = Result<Raw, DataError>> + Send>;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON, an object a line.
    JsonLines,
    /// Parquet.
    Parquet,
    /// Token ids.
    Tokens,
    /// One document.
    Text,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, several members allowed.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// Its name below the argument that named it.
    pub name: String,
    /// What it holds.
    pub format: Format,
    /// How it is compressed.
    pub compression: Compression,
    /// The domain of records that name none.
    pub domain: String,
    /// Its size.
    pub bytes: u64,
}

/// What readers need to know.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Keys of JSON objects, columns of Parquet files.
    pub keys: Keys,
    /// Bytes of an id in token files.
    pub token_width: Option<u32>,
    /// The id that ends a document in token files.
    pub eos: u32,
    /// All ids in token files are below it.
    pub vocabulary: u32,
}

/// The files that `paths` name, folders with all that lies below them, hidden files left out; sorted within each argument.
///
/// A file's domain is the first folder below the argument, else the file's own name without its endings.
///
/// # Errors
/// [`DataError::Read`], [`DataError::Refused`] when there is no file.
pub fn discover(paths: &[PathBuf]) -> Result<Vec<Input>, DataError> {
    let mut inputs = Vec::new();
    for argument in paths {
        let kind = std::fs::metadata(argument).map_err(DataError::read(argument))?;
        if kind.is_dir() {
            for name in folder::walk(argument)? {
                inputs.push(Input::of(argument.join(&name), name)?);
            }
        } else {
            let name = argument.file_name().unwrap_or_default().to_string_lossy().into_owned();
            inputs.push(Input::of(argument.clone(), name)?);
        }
    }
    if inputs.is_empty() {
        return Err(DataError::Refused("there are no files to read below the paths given".into()));
    }
    Ok(inputs)
}

impl Input {
    fn of(path: PathBuf, name: String) -> Result<Self, DataError> {
        let bytes = std::fs::metadata(&path).map_err(DataError::read(&path))?.len();
        let lower = name.to_ascii_lowercase();
        let (stem, compression) = if let Some(stem) = lower.strip_suffix(".gz") {
            (stem, Compression::Gzip)
        } else if let Some(stem) = lower.strip_suffix(".zst") {
            (stem, Compression::Zstd)
        } else {
            (&lower[..], Compression::None)
        };
        let format = match stem.rsplit_once('.').map_or("", |(_, ending)| ending) {
            "jsonl" | "ndjson" | "json" => Format::JsonLines,
            "parquet" if compression == Compression::None => Format::Parquet,
            "npy" if compression == Compression::None => Format::Tokens,
            "parquet" | "npy" => {
                return Err(DataError::input(
                    &path,
                    "an uncompressed file",
                    "a compressed one; unpack it first",
                ));
            }
            _ => Format::Text,
        };
        let own = || name.split('.').next().filter(|own| !own.is_empty()).unwrap_or(folder::UNSORTED);
        let domain = name.split_once('/').map_or_else(own, |(domain, _)| domain).to_owned();
        Ok(Self { path, format, compression, domain, bytes, name })
    }

    /// Its records; `progress` counts the bytes of the file that have been read.
    ///
    /// # Errors
    /// [`DataError::Read`] and [`DataError::Input`].
    pub fn records(&self, reading: &Reading, progress: Arc<AtomicU64>) -> Result<Records, DataError> {
        match self.format {
            Format::JsonLines => lines::records(&self.path, self.compression, progress),
            Format::Text => whole::records(&self.path, self.compression, progress),
            Format::Tokens => npy::records(&self.path, reading, progress),
            Format::Parquet => columns(&self.path, reading, progress),
        }
    }
}

#[cfg(feature = "parquet")]
fn columns(path: &Path, reading: &Reading, progress: Arc<AtomicU64>) -> Result<Records, DataError> {
    parquet::records(path, &reading.keys, progress)
}

#[cfg(not(feature = "parquet"))]
fn columns(path: &Path, _: &Reading, _: Arc<AtomicU64>) -> Result<Records, DataError> {
    let found = "Parquet, which this binary was built without (cargo feature `parquet`)";
    Err(DataError::input(path, "JSON lines, text or token files", found))
}

//! What can go wrong between a folder of text and a batch.

use std::path::PathBuf;

/// Every message says what was found and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// None of the locked dependencies' sources is in cargo's registry folder.
    #[error(
        "no source of the project's locked dependencies is extracted under {}; run `cargo fetch --locked` in the \
         project's folder (or set CARGO_HOME to the folder cargo uses) and start again",
        .searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    MissingSources {
        /// The folders that were searched.
        searched: Vec<PathBuf>,
    },
    /// Neither CARGO_HOME nor a home folder is known, so cargo's registry cannot be found.
    #[error(
        "cargo's folder is unknown: neither CARGO_HOME nor HOME (USERPROFILE on Windows) is set; set CARGO_HOME to it"
    )]
    NoCargoHome,
    /// A folder that the configuration names is not there.
    #[error("the corpus folder {} does not exist or is not a folder; check the path `data.path`", .path.display())]
    NoFolder {
        /// The folder named.
        path: PathBuf,
    },
    /// There is nothing to train on.
    #[error(
        "the corpus is empty: no UTF-8 text file of at least {min_bytes} bytes for training in {place} \
         ({files} files seen); put text files into one subfolder a domain"
    )]
    EmptyCorpus {
        /// Where was looked, in words.
        place: String,
        /// The smallest document accepted, in bytes.
        min_bytes: usize,
        /// Files seen, of any kind.
        files: usize,
    },
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// What was being read.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A setting of the data pipeline has an impossible value.
    #[error("data setting `{name}` must be {expected}, found {found}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// The accepted values, in words.
        expected: String,
        /// The value given.
        found: String,
    },
    /// A saved position belongs to other data, another seed or another shape of batch.
    #[error(
        "the saved data position does not belong to this run: {what} was {saved} and is now {now}; resume with the corpus, \
         seed and batch shape that the run started with, or start a new run"
    )]
    Position {
        /// What differs.
        what: &'static str,
        /// The value in the checkpoint.
        saved: String,
        /// The value of this run.
        now: String,
    },
}

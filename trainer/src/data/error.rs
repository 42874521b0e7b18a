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
    /// A run would read a source of a mixture more often than it may be.
    #[error(
        "the run would read {name} {epochs:.2} times and `max_epochs` allows {max_epochs}; lower its `weight`, train for fewer \
         steps, or raise `max_epochs`"
    )]
    Epochs {
        /// The source.
        name: String,
        /// How often it would be read.
        epochs: f64,
        /// How often it may be read.
        max_epochs: f64,
    },
    /// A file is not what its reader takes: damaged, cut short, of another kind, or made with another tokenizer.
    #[error("{}{}: expected {expected}, found {found}", .path.display(), comma(.place))]
    Input {
        /// The file.
        path: PathBuf,
        /// Where in it, in words; may be empty.
        place: String,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}{}", .path.display(), crate::error::write_advice(.source))]
    Write {
        /// What was being written.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The command cannot go on as it was asked to.
    #[error("{0}")]
    Refused(String),
}

fn comma(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!(", {place}") }
}

impl DataError {
    /// A [`DataError::Input`] without a place.
    pub fn input(path: &std::path::Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Input {
            path: path.to_owned(),
            place: String::new(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// A [`DataError::Input`] at `place`.
    pub fn input_at(
        path: &std::path::Path,
        place: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (place, expected, found) = (place.into(), expected.into(), found.into());
        Self::Input { path: path.to_owned(), place, expected, found }
    }

    /// A [`DataError::Read`], for use with `map_err`.
    pub fn read(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    /// A [`DataError::Write`], for use with `map_err`.
    pub fn write(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }
}

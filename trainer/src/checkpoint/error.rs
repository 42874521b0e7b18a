//! What can be wrong with a checkpoint, in words that say where.

use std::io;
use std::path::{Path, PathBuf};

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// The bytes are not what the file's name promises: truncated, foreign or damaged.
    #[error("{}: {message}", path.display())]
    Format {
        /// File.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A setting that is missing, malformed, or that this program cannot run.
    #[error("config.json: `{key}` {message}")]
    Config {
        /// Key.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// A tensor that is missing, superfluous, or of another shape or type.
    #[error("tensor `{name}`: expected {expected}, found {found}")]
    Tensor {
        /// Name in the checkpoint.
        name: String,
        /// What the configuration asks for.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// The backend refused.
    #[error(transparent)]
    Op(#[from] emo::Error),
}

/// `Result` with the checkpoint's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(path: &Path, message: impl ToString) -> Self {
        Self::Format { path: path.to_owned(), message: message.to_string() }
    }

    pub(crate) fn config(key: &str, message: impl ToString) -> Self {
        Self::Config { key: key.to_owned(), message: message.to_string() }
    }
}

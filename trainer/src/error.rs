//! The one error type of the trainer. Every message says what happened, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint;

/// `Result` with the trainer's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can stop a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is unknown, malformed or contradictory.
    #[error("configuration: {0}")]
    Config(String),
    /// The text to train on is missing, empty or unreadable.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// A checkpoint is missing, damaged, or of another kind of model.
    #[error("checkpoint {}: {message}", path.display())]
    Checkpoint {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// A model's files are foreign, damaged, or cannot be written.
    #[error("checkpoint: {}{}", .0, remedy(.0))]
    Model(checkpoint::Error),
    /// `metrics.jsonl` is damaged or cannot be written.
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricsError),
    /// The report cannot be made.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
    /// The file system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), advice_on(action, source))]
    Io {
        /// A verb: what was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Training produced NaN or infinity.
    #[error("{0}")]
    NonFinite(String),
    /// The command was used in a way it refuses.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C: everything is saved.
    #[error("interrupted after step {step}; everything is saved. Continue with:\n  {resume}")]
    Interrupted {
        /// The last finished step.
        step: u64,
        /// The command that continues.
        resume: String,
    },
    /// An op refused its arguments, or the device failed.
    #[error(transparent)]
    Op(#[from] emo::Error),
}

/// What to do about an input/output error that has a well-known remedy.
pub(crate) fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero => {
            ". The disk is full: free some space or choose another folder with --out, then continue with --resume"
        }
        io::ErrorKind::PermissionDenied => ". Choose a folder that you may write to with --out",
        io::ErrorKind::FileTooLarge => {
            ". The file system, or a limit such as `ulimit -f`, allows no file of this size"
        }
        _ => "",
    }
}

/// [`advice`] for a verb: what cannot be found is the folder where something was to be written, else the file itself.
fn advice_on(action: &str, source: &io::Error) -> &'static str {
    let writes = ["write", "create", "rename", "flush", "delete"].iter().any(|verb| action.starts_with(verb));
    if writes { write_advice(source) } else { advice(source) }
}

/// [`advice`] where a file was to be written.
pub(crate) fn write_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => ". Its folder is gone: was it moved, or is its disk no longer mounted?",
        _ => advice(source),
    }
}

/// What to do about files that are no model of ours.
fn remedy(error: &checkpoint::Error) -> &'static str {
    match error {
        checkpoint::Error::Format { .. } => ". Copy or download it again, or choose another checkpoint",
        checkpoint::Error::Tensor { .. } => {
            ". Its config.json and its tensors do not belong together: copy or download both again"
        }
        _ => "",
    }
}

impl Error {
    /// An [`Error::Io`], for use with `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::Checkpoint`].
    pub fn checkpoint(path: impl AsRef<Path>, message: impl ToString) -> Self {
        Self::Checkpoint { path: path.as_ref().to_path_buf(), message: message.to_string() }
    }

    /// The process's exit code: 130 after Ctrl-C, 2 for a wrong command or configuration, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted { .. } => 130,
            Self::Config(_) | Self::Usage(_) => 2,
            _ => 1,
        }
    }
}

impl From<checkpoint::Error> for Error {
    fn from(error: checkpoint::Error) -> Self {
        match error {
            checkpoint::Error::Io { path, source } => Self::Io { action: "read or write", path, source },
            other => Self::Model(other),
        }
    }
}

//! What commands print: to standard output, whose failures (a full disk under a redirection) end the command as an error, and to
//! standard error, whose failures nobody could be told of. The macros of the standard library panic in both cases.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// The first failure.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a line to standard output; [`finish`] tells whether that went well.
macro_rules! out {
    ($($arguments:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($arguments)*))) };
}
pub(crate) use out;

/// Prints to standard output; [`finish`] tells whether that went well.
pub(crate) fn print(text: Arguments<'_>) {
    if let Err(error) = io::stdout().lock().write_fmt(text) {
        FAILED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Prints a line to standard error.
macro_rules! tell {
    ($($arguments:tt)*) => { $crate::output::say(format_args!($($arguments)*)) };
}
pub(crate) use tell;

/// Prints a line to standard error.
pub fn say(text: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says whether all of the output was written. A reader that has gone away (`| head`) wanted no more, and is no error.
///
/// # Errors
/// [`Error::Io`] for the first failure.
pub fn finish() -> Result<()> {
    let flushed = io::stdout().lock().flush();
    let first = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
    match first.or(flushed.err()) {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write to", "the standard output")(error))
        }
        _ => Ok(()),
    }
}

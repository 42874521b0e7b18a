//! Lines of JSON.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::super::DataError;
use super::compressed::{failed, open};
use super::{Compression, MAX_RECORD, Raw, Records};

struct Lines {
    path: PathBuf,
    compression: Compression,
    reader: Box<dyn BufRead + Send>,
    number: u64,
    over: bool,
}

/// The lines of `path`.
pub(super) fn records(
    path: &Path,
    compression: Compression,
    progress: Arc<AtomicU64>,
) -> Result<Records, DataError> {
    let reader = open(path, compression, progress)?;
    Ok(Box::new(Lines { path: path.to_owned(), compression, reader, number: 0, over: false }))
}

impl Iterator for Lines {
    type Item = Result<Raw, DataError>;

    /// The next line; blank ones count, so that the number of a record is the number of its line.
    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        self.number += 1;
        let mut line = Vec::new();
        let read = (&mut self.reader).take(MAX_RECORD as u64 + 1).read_until(b'\n', &mut line);
        let place = format!("line {}", self.number);
        match read {
            Ok(0) => {
                self.over = true;
                None
            }
            Ok(_) if line.len() > MAX_RECORD => {
                self.over = true;
                let expected = format!("a line of at most {MAX_RECORD} bytes");
                Some(Err(DataError::input_at(&self.path, place, expected, "a longer one")))
            }
            Ok(_) => Some(Ok(Raw::Json(line))),
            Err(error) => {
                self.over = true;
                Some(Err(failed(&self.path, self.compression, &place, error)))
            }
        }
    }
}

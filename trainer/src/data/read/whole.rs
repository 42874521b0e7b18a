//! A file that is one document.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::super::DataError;
use super::compressed::{failed, open};
use super::{Compression, MAX_RECORD, Raw, Records};

/// The text of `path`, read when it is asked for.
pub(super) fn records(
    path: &Path,
    compression: Compression,
    progress: Arc<AtomicU64>,
) -> Result<Records, DataError> {
    let path = path.to_owned();
    Ok(Box::new(std::iter::once_with(move || {
        let mut text = Vec::new();
        let reader = open(&path, compression, progress)?;
        reader
            .take(MAX_RECORD as u64 + 1)
            .read_to_end(&mut text)
            .map_err(|error| failed(&path, compression, "", error))?;
        if text.len() > MAX_RECORD {
            let expected = format!("a text of at most {MAX_RECORD} bytes");
            return Err(DataError::input(&path, expected, "a longer one"));
        }
        Ok(Raw::Text(text, None))
    })))
}

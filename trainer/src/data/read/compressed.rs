//! A file's bytes, decompressed on the way.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::DataError;
use super::Compression;

/// A reader that counts what goes through it.
pub(super) struct Counting<R> {
    pub(super) inner: R,
    pub(super) count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens `path`.
pub(super) fn open(
    path: &Path,
    compression: Compression,
    count: Arc<AtomicU64>,
) -> Result<Box<dyn BufRead + Send>, DataError> {
    let inner = File::open(path).map_err(DataError::read(path))?;
    let file = BufReader::with_capacity(1 << 18, Counting { inner, count });
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => {
            Box::new(BufReader::with_capacity(1 << 18, flate2::bufread::MultiGzDecoder::new(file)))
        }
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(DataError::read(path))?;
            Box::new(BufReader::with_capacity(1 << 18, decoder))
        }
    })
}

/// What a failed read of `path` means: damage that decompression found, or the file system's own trouble.
pub(super) fn failed(path: &Path, compression: Compression, place: &str, source: io::Error) -> DataError {
    let name = match compression {
        Compression::None => return DataError::read(path)(source),
        Compression::Gzip => "gzip",
        Compression::Zstd => "Zstandard",
    };
    // An error with a code is the operating system's, with the rare exception of none at all for the end of a file.
    if source.raw_os_error().is_some() {
        return DataError::read(path)(source);
    }
    DataError::input_at(path, place, format!("whole and valid {name} data"), source.to_string())
}

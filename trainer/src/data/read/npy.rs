//! Files of token ids without a header, documents separated by their end-of-document id.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::super::DataError;
use super::compressed::open;
use super::{Compression, MAX_RECORD, Raw, Reading, Records};

struct Documents<R> {
    path: PathBuf,
    reader: R,
    width: usize,
    eos: u32,
    vocabulary: u32,
    /// Ids read.
    place: u64,
    over: bool,
}

/// The documents of `path`. One that the file's end cuts off counts as whole.
pub(super) fn records(
    path: &Path,
    reading: &Reading,
    progress: Arc<AtomicU64>,
) -> Result<Records, DataError> {
    let Some(width) = reading.token_width else {
        let expected = "to be told the type of its ids: --npy-dtype uint16 or uint32";
        return Err(DataError::input(path, expected, "a file that does not say"));
    };
    let size = std::fs::metadata(path).map_err(DataError::read(path))?.len();
    if !size.is_multiple_of(u64::from(width)) {
        let expected = format!("a multiple of {width} bytes, the width of an id");
        return Err(DataError::input(path, expected, format!("{size} bytes")));
    }
    let mut reader = open(path, Compression::None, progress)?;
    let head = reader.fill_buf().map_err(DataError::read(path))?;
    if head.starts_with(b"\x93NUMPY") {
        let found = "NumPy's header; save the array with `tofile` instead";
        return Err(DataError::input(path, "ids from the first byte on", found));
    }
    let (width, eos, vocabulary) = (width as usize, reading.eos, reading.vocabulary);
    let path = path.to_owned();
    Ok(Box::new(Documents { path, reader, width, eos, vocabulary, place: 0, over: false }))
}

impl<R: Read> Documents<R> {
    /// The next id, or nothing at the end.
    fn id(&mut self) -> Result<Option<u32>, DataError> {
        let mut bytes = [0; 4];
        let width = self.width;
        match self.reader.read_exact(&mut bytes[..width]) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(DataError::read(&self.path)(error)),
        }
        let id = u32::from_le_bytes(bytes);
        if id >= self.vocabulary {
            let expected = format!("ids below the tokenizer's {}", self.vocabulary);
            let found = format!("{id}; another tokenizer's file, or another --npy-dtype?");
            return Err(DataError::input_at(&self.path, format!("id {}", self.place), expected, found));
        }
        self.place += 1;
        Ok(Some(id))
    }

    fn document(&mut self) -> Result<Option<Vec<u32>>, DataError> {
        let mut ids = Vec::new();
        loop {
            match self.id()? {
                None => {
                    self.over = true;
                    return Ok(Some(ids).filter(|ids| !ids.is_empty()));
                }
                Some(id) if id == self.eos => return Ok(Some(ids)),
                Some(_) if ids.len() >= MAX_RECORD / 4 => {
                    let expected = format!("documents of at most {} ids", MAX_RECORD / 4);
                    let found = format!("a longer one (the end of a document is {})", self.eos);
                    return Err(DataError::input_at(
                        &self.path,
                        format!("id {}", self.place),
                        expected,
                        found,
                    ));
                }
                Some(id) => ids.push(id),
            }
        }
    }
}

impl<R: Read> Iterator for Documents<R> {
    type Item = Result<Raw, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let document = self.document();
        self.over |= document.is_err();
        document.transpose().map(|ids| ids.map(Raw::Tokens))
    }
}

//! One shard, mapped.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::super::DataError;
use super::super::tokens::DocumentInfo;
use super::format::{ENTRY, HEADER, Header, read_u32, read_u64};

/// An open shard. The index of documents is checked when it is opened, the tokens by [`Shard::verify`].
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    file: File,
    map: Mmap,
    header: Header,
    documents_at: usize,
}

impl Shard {
    /// Maps `path` and checks its header and its documents.
    ///
    /// # Errors
    /// [`DataError::Read`], or [`DataError::Input`] saying what is wrong.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::read(path))?;
        let size = file.metadata().map_err(DataError::read(path))?.len();
        if size < HEADER as u64 {
            let found = format!("{size} bytes");
            return Err(DataError::input(path, format!("at least the {HEADER} bytes of a header"), found));
        }
        // SAFETY: the map is only read, as bytes, for which every bit pattern is valid; no reference of another type is made
        // from it. That nobody cuts or rewrites the file meanwhile is what every mapped file rests on: shards are written
        // under another name and renamed when whole, and the builder holds a lock on their folder. Against other programs
        // there is `check_length`, which a run asks before every batch.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::read(path))?;
        let header = Header::decode(path, &map, map.len() as u64)?;
        let documents_at = header.documents_at().unwrap_or(size) as usize;
        let shard = Self { path: path.to_owned(), file, map, header, documents_at };
        shard.check_documents()?;
        Ok(shard)
    }

    /// Whether the file is as long as when it was mapped. To read what has been cut off would end the process with SIGBUS, so
    /// this is asked before each batch; what is cut off in the middle of one, or lost with a disk, still ends it.
    ///
    /// # Errors
    /// [`DataError::Read`] and [`DataError::Input`].
    pub fn check_length(&self) -> Result<(), DataError> {
        let size = self.file.metadata().map_err(DataError::read(&self.path))?.len();
        if size >= self.map.len() as u64 {
            return Ok(());
        }
        let expected = format!("{} bytes, as when it was opened", self.map.len());
        Err(DataError::input(&self.path, expected, format!("{size} bytes: it was cut short meanwhile")))
    }

    fn check_documents(&self) -> Result<(), DataError> {
        let bad = |place: String, expected: String, found: String| {
            Err(DataError::input_at(&self.path, place, expected, found))
        };
        let crc = crc32fast::hash(&self.map[self.documents_at..]);
        if crc != self.header.documents_crc {
            let expected = format!("checksum {:08x}", self.header.documents_crc);
            return bad("table of documents".into(), expected, format!("{crc:08x}"));
        }
        let mut start = 0;
        for index in 0..self.documents() {
            let entry = self.entry(index);
            let (end, domain) = (read_u64(entry, 0), read_u32(entry, 16));
            if end <= start || end > self.header.tokens {
                let expected = format!("an end above {start} and at most {}", self.header.tokens);
                return bad(format!("document {index}"), expected, end.to_string());
            }
            if domain >= self.header.domains {
                let expected = format!("a domain below {}", self.header.domains);
                return bad(format!("document {index}"), expected, domain.to_string());
            }
            start = end;
        }
        if start != self.header.tokens {
            let expected = format!("documents of {} tokens in all", self.header.tokens);
            return bad("table of documents".into(), expected, start.to_string());
        }
        Ok(())
    }

    /// Reads all tokens once: checksum, ids below the vocabulary, an end of document at every document's end and nowhere else.
    ///
    /// # Errors
    /// [`DataError::Input`] naming the document.
    pub fn verify(&self) -> Result<(), DataError> {
        let crc = crc32fast::hash(&self.map[HEADER..HEADER + self.header.tokens as usize * self.width()]);
        if crc != self.header.tokens_crc {
            let expected = format!("checksum {:08x}", self.header.tokens_crc);
            return Err(DataError::input_at(&self.path, "tokens", expected, format!("{crc:08x}")));
        }
        let mut ids = Vec::new();
        for index in 0..self.documents() {
            ids.clear();
            let length = self.document(index).length;
            self.append(index, 0..length, &mut ids);
            let eos = self.header.eos;
            let place = || format!("document {index}");
            if let Some(id) = ids.iter().find(|&&id| id >= self.header.vocabulary) {
                let expected = format!("ids below {}", self.header.vocabulary);
                return Err(DataError::input_at(&self.path, place(), expected, id.to_string()));
            }
            if ids.iter().position(|&id| id == eos) != Some(length - 1) {
                let expected = format!("the end-of-document id {eos} at its end and nowhere else");
                return Err(DataError::input_at(&self.path, place(), expected, "something else"));
            }
        }
        Ok(())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Documents.
    #[must_use]
    pub fn documents(&self) -> usize {
        self.header.documents as usize
    }

    /// Tokens.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.header.tokens
    }

    /// The id that ends a document.
    #[must_use]
    pub fn eos(&self) -> u32 {
        self.header.eos
    }

    /// The tokenizer it was made with, as [`Identity::short`](super::super::tokenizer::Identity::short).
    #[must_use]
    pub fn tokenizer(&self) -> u64 {
        self.header.tokenizer
    }

    /// Domains that its documents may name.
    #[must_use]
    pub fn domains(&self) -> u32 {
        self.header.domains
    }

    pub(super) fn documents_crc(&self) -> u32 {
        self.header.documents_crc
    }

    fn width(&self) -> usize {
        self.header.width as usize
    }

    fn entry(&self, index: usize) -> &[u8] {
        let at = self.documents_at + index * ENTRY;
        &self.map[at..at + ENTRY]
    }

    fn start(&self, index: usize) -> u64 {
        if index == 0 { 0 } else { read_u64(self.entry(index - 1), 0) }
    }

    /// Document `index`, which must be below [`Shard::documents`].
    #[must_use]
    pub fn document(&self, index: usize) -> DocumentInfo {
        let entry = self.entry(index);
        let length = (read_u64(entry, 0) - self.start(index)) as usize;
        DocumentInfo { length, uid: read_u64(entry, 8), domain: read_u32(entry, 16) }
    }

    /// Bytes of the text of document `index`, at most 4 GiB - 1.
    #[must_use]
    pub fn text_bytes(&self, index: usize) -> u32 {
        read_u32(self.entry(index), 20)
    }

    /// Appends tokens `range` of document `index` to `out`.
    pub fn append(&self, index: usize, range: Range<usize>, out: &mut Vec<u32>) {
        let width = self.width();
        let first = HEADER + (self.start(index) as usize + range.start) * width;
        let bytes = &self.map[first..first + range.len() * width];
        if width == 2 {
            out.extend(bytes.as_chunks().0.iter().map(|&id| u32::from(u16::from_le_bytes(id))));
        } else {
            out.extend(bytes.as_chunks().0.iter().map(|&id| u32::from_le_bytes(id)));
        }
    }
}

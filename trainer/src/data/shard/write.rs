//! Writing a shard: to a temporary name, then in one step to its own.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::super::DataError;
use super::super::tokenizer::{Identity, hex};
use super::format::{ENTRY, HEADER, Header, width_of};
use super::manifest::ShardEntry;

/// Writes one shard. Memory: the documents' entries, 24 bytes each, and a buffer of 1 MiB.
#[derive(Debug)]
pub struct ShardWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    header: Header,
    tokens_crc: crc32fast::Hasher,
    entries: Vec<u8>,
    text_bytes: u64,
    scratch: Vec<u8>,
    finished: bool,
}

impl ShardWriter {
    /// Begins the shard `path`, overwriting what an interrupted run left.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn create(path: &Path, tokenizer: &Identity) -> Result<Self, DataError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).map_err(DataError::write(&temporary))?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
            header: Header {
                width: width_of(tokenizer.vocabulary),
                tokens: 0,
                documents: 0,
                eos: tokenizer.eos,
                vocabulary: tokenizer.vocabulary,
                tokenizer: tokenizer.short(),
                domains: 0,
                tokens_crc: 0,
                documents_crc: 0,
            },
            tokens_crc: crc32fast::Hasher::new(),
            entries: Vec::new(),
            text_bytes: 0,
            scratch: Vec::new(),
            finished: false,
            temporary,
        };
        writer.write(&[0; HEADER])?;
        Ok(writer)
    }

    /// Tokens so far.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.header.tokens
    }

    /// Documents so far.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.header.documents
    }

    /// Appends one document, its end-of-document id added.
    ///
    /// # Errors
    /// [`DataError::Write`]; [`DataError::Input`] for an id that is not below the vocabulary or ends documents.
    pub fn push(&mut self, ids: &[u32], uid: u64, domain: u32, text_bytes: u64) -> Result<(), DataError> {
        let (eos, vocabulary) = (self.header.eos, self.header.vocabulary);
        if let Some(bad) = ids.iter().find(|&&id| id >= vocabulary || id == eos) {
            let expected = format!("ids below {vocabulary} other than {eos}, the end of a document");
            return Err(DataError::input(&self.path, expected, bad.to_string()));
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        for id in ids.iter().chain([&eos]) {
            scratch.extend_from_slice(&id.to_le_bytes()[..self.header.width as usize]);
        }
        self.tokens_crc.update(&scratch);
        self.write(&scratch)?;
        self.scratch = scratch;
        self.header.tokens += ids.len() as u64 + 1;
        self.header.documents += 1;
        self.header.domains = self.header.domains.max(domain.saturating_add(1));
        self.text_bytes += text_bytes;
        self.entries.reserve(ENTRY);
        self.entries.extend_from_slice(&self.header.tokens.to_le_bytes());
        self.entries.extend_from_slice(&uid.to_le_bytes());
        self.entries.extend_from_slice(&domain.to_le_bytes());
        self.entries.extend_from_slice(&u32::try_from(text_bytes).unwrap_or(u32::MAX).to_le_bytes());
        Ok(())
    }

    /// Completes the file on disk under its own name.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn finish(mut self) -> Result<ShardEntry, DataError> {
        let tokens = self.header.tokens * u64::from(self.header.width);
        self.write(&[0; 8][..(tokens.next_multiple_of(8) - tokens) as usize])?;
        let entries = std::mem::take(&mut self.entries);
        self.write(&entries)?;
        self.header.tokens_crc = self.tokens_crc.clone().finalize();
        self.header.documents_crc = crc32fast::hash(&entries);
        let header = self.header.encode();
        let fail = DataError::write(&self.temporary);
        let sealed = (|| {
            self.file.flush()?;
            let file = self.file.get_mut();
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
            file.sync_all()?;
            let sha256 = sha256_of(&self.temporary)?;
            fs::rename(&self.temporary, &self.path)?;
            Ok(sha256)
        })();
        Ok(ShardEntry {
            file: self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            tokens: self.header.tokens,
            documents: self.header.documents,
            text_bytes: self.text_bytes,
            sha256: sealed.map_err(fail).inspect(|_| self.finished = true)?,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.file.write_all(bytes).map_err(DataError::write(&self.temporary))
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        if !self.finished {
            // A full disk is not helped by half a shard that nobody will read; the build begins it anew.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// SHA-256 of a file in hexadecimal.
pub(super) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

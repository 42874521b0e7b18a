//! The header of a shard. The module above has the table.

use std::path::Path;

use super::super::DataError;

pub(super) const MAGIC: [u8; 8] = *b"emotoken";
pub(super) const VERSION: u32 = 1;
/// Bytes of the header.
pub(super) const HEADER: usize = 64;
/// Bytes of a document's entry.
pub(super) const ENTRY: usize = 24;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) tokens: u64,
    pub(super) documents: u64,
    pub(super) eos: u32,
    pub(super) vocabulary: u32,
    pub(super) tokenizer: u64,
    pub(super) domains: u32,
    pub(super) tokens_crc: u32,
    pub(super) documents_crc: u32,
}

/// Bytes of a token for ids below `vocabulary`.
pub(super) fn width_of(vocabulary: u32) -> u32 {
    if vocabulary <= 1 << 16 { 2 } else { 4 }
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&self.width.to_le_bytes());
        put(&self.tokens.to_le_bytes());
        put(&self.documents.to_le_bytes());
        put(&self.eos.to_le_bytes());
        put(&self.vocabulary.to_le_bytes());
        put(&self.tokenizer.to_le_bytes());
        put(&self.domains.to_le_bytes());
        put(&self.tokens_crc.to_le_bytes());
        put(&self.documents_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the file `path` whose first bytes are `bytes`, and checks it against the file's size.
    pub(super) fn decode(path: &Path, bytes: &[u8], size: u64) -> Result<Self, DataError> {
        let bad = |expected: String, found: String| DataError::input_at(path, "header", expected, found);
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Err(bad(format!("{HEADER} bytes"), format!("{} bytes", bytes.len())));
        };
        if bytes[..8] != MAGIC {
            return Err(bad("the magic `emotoken`".into(), format!("`{}`", bytes[..8].escape_ascii())));
        }
        let (u32_at, u64_at) = (|at| read_u32(bytes, at), |at| read_u64(bytes, at));
        if u32_at(8) != VERSION {
            return Err(bad(format!("version {VERSION}"), format!("version {}", u32_at(8))));
        }
        let crc = crc32fast::hash(&bytes[..HEADER - 4]);
        if crc != u32_at(60) {
            return Err(bad(format!("checksum {crc:08x}"), format!("{:08x}", u32_at(60))));
        }
        let header = Self {
            width: u32_at(12),
            tokens: u64_at(16),
            documents: u64_at(24),
            eos: u32_at(32),
            vocabulary: u32_at(36),
            tokenizer: u64_at(40),
            domains: u32_at(48),
            tokens_crc: u32_at(52),
            documents_crc: u32_at(56),
        };
        if header.width != width_of(header.vocabulary) {
            let expected = format!("{} bytes a token", width_of(header.vocabulary));
            return Err(bad(expected, header.width.to_string()));
        }
        if header.eos >= header.vocabulary {
            let expected = format!("an end-of-document id below the vocabulary {}", header.vocabulary);
            return Err(bad(expected, header.eos.to_string()));
        }
        match header.size() {
            Some(expected) if expected == size => Ok(header),
            Some(expected) => Err(DataError::input(
                path,
                format!("{expected} bytes for {} tokens and {} documents", header.tokens, header.documents),
                format!("{size} bytes"),
            )),
            None => Err(bad("counts of a possible file".into(), format!("{} tokens", header.tokens))),
        }
    }

    /// Offset of the documents.
    pub(super) fn documents_at(&self) -> Option<u64> {
        let tokens = self.tokens.checked_mul(u64::from(self.width))?;
        tokens.checked_next_multiple_of(8)?.checked_add(HEADER as u64)
    }

    fn size(&self) -> Option<u64> {
        self.documents_at()?.checked_add(self.documents.checked_mul(ENTRY as u64)?)
    }
}

/// The four bytes at `at`, which must be there.
pub(super) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

/// The eight bytes at `at`, which must be there.
pub(super) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

//! Bytes as tokens, and the flat store of tokenised documents.

use std::ops::Range;

use super::hash::stable_hash;
use super::{DataError, Document};

/// Tokens are the 256 bytes; two more ids delimit and pad.
///
/// | id | meaning |
/// |---|---|
/// | 0..=255 | the byte of that value |
/// | 256 | EOS, ends every document |
/// | 257 | PAD, never a target, never written by the packer |
/// | 258..320 | unused rows: the vocabulary is rounded up to a multiple of 64 |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteTokenizer;

impl ByteTokenizer {
    /// Ends a document.
    pub const EOS: u32 = 256;
    /// Fills what no document fills, for example in batched generation.
    pub const PAD: u32 = 257;
    /// Rows of the embedding and the head: 258 used, rounded up to a multiple of 64.
    pub const VOCABULARY: usize = 320;

    /// The bytes of `text` as token ids, without EOS. Lossless: see [`ByteTokenizer::decode_bytes`].
    pub fn encode<'t>(self, text: &'t str) -> impl ExactSizeIterator<Item = u32> + 't {
        text.as_bytes().iter().map(|&byte| u32::from(byte))
    }

    /// The bytes that `ids` stand for; EOS, PAD and unused ids stand for none.
    #[must_use]
    pub fn decode_bytes(self, ids: &[u32]) -> Vec<u8> {
        ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect()
    }

    /// `ids` as text for display: bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    /// Bytes of text that `id` stands for: the divisor of bits per byte.
    #[must_use]
    pub fn byte_length(self, id: u32) -> u64 {
        u64::from(id < 256)
    }
}

/// Length and identity of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentInfo {
    /// Tokens, EOS included.
    pub length: usize,
    /// Stable identity: a hash of the document's text.
    pub uid: u64,
    /// Index of the document's domain.
    pub domain: u32,
}

/// Tokenised documents, wherever they lie; each ends with EOS and has no other EOS in it.
pub trait Documents: std::fmt::Debug + Send + Sync {
    /// Documents.
    fn count(&self) -> usize;

    /// Tokens of all documents.
    fn token_count(&self) -> usize;

    /// Document `index`, which must be below [`count`](Documents::count).
    fn document(&self, index: usize) -> DocumentInfo;

    /// Appends the tokens `range` of document `index` to `out`; the range must lie within the document.
    fn append(&self, index: usize, range: Range<usize>, out: &mut Vec<u32>);

    /// Whether the documents can still be read: those that lie in mapped files, of which the file system may have taken a part.
    ///
    /// # Errors
    /// [`DataError::Input`] or [`DataError::Read`], naming the file.
    fn check(&self) -> Result<(), DataError> {
        Ok(())
    }

    /// The first token of document `index` that is to be learnt.
    fn first_target(&self, _index: usize) -> usize {
        0
    }

    /// The id that ends a document.
    fn eos(&self) -> u32;

    /// Bytes of text that `id` stands for: the divisor of bits per byte.
    fn byte_length(&self, id: u32) -> u64;

    /// A hash of every document's identity, domain and length in order: equal stores give equal batches.
    fn fingerprint(&self) -> u64;
}

/// Where one document lies in the store, and who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredDocument {
    /// First token.
    pub start: usize,
    /// One past the last token; the last token is EOS.
    pub end: usize,
    /// Stable identity: a hash of the document's text.
    pub uid: u64,
    /// Index of the document's domain.
    pub domain: u32,
}

/// Documents as token ids, end to end, each ended by EOS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenStore {
    tokens: Vec<u32>,
    documents: Vec<StoredDocument>,
    eos: u32,
    fingerprint: u64,
}

impl TokenStore {
    /// Tokenises `documents` in their order.
    ///
    /// # Errors
    /// [`DataError::Setting`] when there are more documents than a `u32` counts.
    pub fn from_documents(tokenizer: ByteTokenizer, documents: &[Document]) -> Result<Self, DataError> {
        let mut store = TokenStore::new(ByteTokenizer::EOS);
        store.tokens.reserve_exact(documents.iter().map(|document| document.text.len() + 1).sum());
        store.documents.reserve_exact(documents.len());
        for document in documents {
            store.push(tokenizer.encode(&document.text), document.uid, document.domain)?;
        }
        Ok(store)
    }

    /// An empty store whose documents end with `eos`.
    #[must_use]
    pub fn new(eos: u32) -> Self {
        Self {
            tokens: Vec::new(),
            documents: Vec::new(),
            eos,
            fingerprint: stable_hash(&[&eos.to_le_bytes()]),
        }
    }

    /// Appends one document and its EOS.
    ///
    /// # Errors
    /// [`DataError::Setting`] when a token is EOS itself (it would end the document early) or the store is full.
    pub fn push(
        &mut self,
        ids: impl IntoIterator<Item = u32>,
        uid: u64,
        domain: u32,
    ) -> Result<(), DataError> {
        if self.documents.len() >= u32::MAX as usize {
            return Err(DataError::Setting {
                name: "documents",
                expected: format!("at most {}", u32::MAX),
                found: "more".into(),
            });
        }
        let start = self.tokens.len();
        self.tokens.extend(ids);
        if self.tokens[start..].contains(&self.eos) {
            self.tokens.truncate(start);
            return Err(DataError::Setting {
                name: "tokens",
                expected: format!("free of the end-of-document id {}", self.eos),
                found: "a document that contains it".into(),
            });
        }
        self.tokens.push(self.eos);
        let document = StoredDocument { start, end: self.tokens.len(), uid, domain };
        self.fingerprint = stable_hash(&[
            &self.fingerprint.to_le_bytes(),
            &uid.to_le_bytes(),
            &domain.to_le_bytes(),
            &((document.end - document.start) as u64).to_le_bytes(),
        ]);
        self.documents.push(document);
        Ok(())
    }

    /// All tokens.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// All documents, in the store's order.
    #[must_use]
    pub fn documents(&self) -> &[StoredDocument] {
        &self.documents
    }

    /// The id that ends a document.
    #[must_use]
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// A hash of every document's identity, domain and length in order: equal stores give equal batches.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl Documents for TokenStore {
    fn count(&self) -> usize {
        self.documents.len()
    }

    fn token_count(&self) -> usize {
        self.tokens.len()
    }

    fn document(&self, index: usize) -> DocumentInfo {
        let StoredDocument { start, end, uid, domain } = self.documents[index];
        DocumentInfo { length: end - start, uid, domain }
    }

    fn append(&self, index: usize, range: Range<usize>, out: &mut Vec<u32>) {
        let StoredDocument { start, end, .. } = self.documents[index];
        out.extend_from_slice(&self.tokens[start..end][range]);
    }

    fn eos(&self) -> u32 {
        self.eos
    }

    fn byte_length(&self, id: u32) -> u64 {
        ByteTokenizer.byte_length(id)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

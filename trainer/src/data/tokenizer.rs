//! Tokenizers by name: bytes, or any Hugging Face `tokenizer.json`.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ByteTokenizer, DataError};
use crate::small;

/// Different words whose ids each thread remembers; the library's own 10 000 are soon used up by a corpus of many kinds.
const CACHED_WORDS: usize = 1 << 18;

/// End-of-document tokens of published tokenizers, the likeliest first.
const EOS_NAMES: [&str; 6] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[SEP]"];

/// How the end-of-document token of a `tokenizer.json` is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eos<'a> {
    /// By the usual names.
    Usual,
    /// By this name.
    Named(&'a str),
    /// By its id.
    Id(u32),
}

/// Text to token ids.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    kind: Kind,
    identity: Identity,
    /// Bytes of text that each id stands for.
    byte_lengths: Arc<[u32]>,
}

#[derive(Debug, Clone)]
enum Kind {
    Bytes,
    HuggingFace { tokenizer: Arc<tokenizers::Tokenizer>, file: Arc<[u8]> },
}

/// What makes two tokenizers the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `bytes` or `tokenizer.json`.
    pub kind: String,
    /// SHA-256 of the tokenizer's file; empty for bytes.
    pub sha256: String,
    /// All ids are below this.
    pub vocabulary: u32,
    /// The id that ends a document.
    pub eos: u32,
}

impl Identity {
    /// 64 bits of it, as shards' headers carry them.
    #[must_use]
    pub fn short(&self) -> u64 {
        super::hash::stable_hash(&[
            self.kind.as_bytes(),
            self.sha256.as_bytes(),
            &self.vocabulary.to_le_bytes(),
            &self.eos.to_le_bytes(),
        ])
    }

    /// In a few words.
    #[must_use]
    pub fn words(&self) -> String {
        let hash = self.sha256.get(..12).map_or_else(String::new, |start| format!(" {start}…"));
        format!("{}{hash}, {} ids, end of document {}", self.kind, self.vocabulary, self.eos)
    }
}

impl Tokenizer {
    /// The 256 bytes as tokens, see [`ByteTokenizer`].
    #[must_use]
    pub fn bytes() -> Self {
        let vocabulary = ByteTokenizer::VOCABULARY as u32;
        Self {
            kind: Kind::Bytes,
            identity: Identity {
                kind: "bytes".into(),
                sha256: String::new(),
                vocabulary,
                eos: ByteTokenizer::EOS,
            },
            byte_lengths: (0..vocabulary).map(|id| ByteTokenizer.byte_length(id) as u32).collect(),
        }
    }

    /// `bytes`, or the path of a `tokenizer.json` (or of the folder it lies in).
    ///
    /// # Errors
    /// [`DataError::Read`] and [`DataError::Input`], naming the file.
    pub fn load(name: &str, eos: Eos<'_>) -> Result<Self, DataError> {
        if name == "bytes" {
            return match eos {
                Eos::Usual => Ok(Self::bytes()),
                Eos::Named(_) | Eos::Id(_) => Err(DataError::Setting {
                    name: "eos",
                    expected: "left out: bytes have one of their own".into(),
                    found: "one".into(),
                }),
            };
        }
        let mut path = Path::new(name).to_path_buf();
        if path.is_dir() {
            path.push("tokenizer.json");
        }
        let file = small::bytes(&path).map_err(DataError::read(&path))?;
        Self::from_json(&path, file, eos)
    }

    /// The tokenizer whose `tokenizer.json` has these bytes; `path` is only for messages.
    ///
    /// # Errors
    /// [`DataError::Input`].
    pub fn from_json(path: &Path, file: Vec<u8>, eos: Eos<'_>) -> Result<Self, DataError> {
        // The reader of the format is not ours and indexes without checks here and there: a panic is an answer too.
        let parsed = super::guard::quietly(|| {
            tokenizers::Tokenizer::from_bytes(&file).map_err(|error| error.to_string())
        })
        .unwrap_or_else(|panic| Err(format!("a file that its reader gave up on ({panic})")));
        let mut tokenizer =
            parsed.map_err(|found| DataError::input(path, "a Hugging Face tokenizer.json", found))?;
        // A document that happens to spell out a special token is text, not a command.
        tokenizer.set_encode_special_tokens(true);
        let no = |error: tokenizers::Error| DataError::input(path, "a usable tokenizer", error.to_string());
        tokenizer.with_truncation(None).map_err(no)?;
        tokenizer.with_padding(None);
        let mut model = tokenizer.get_model().clone();
        model.resize_cache(CACHED_WORDS);
        tokenizer.with_model(model);
        let vocabulary = vocabulary_size(path, &tokenizer)?;
        let eos = find_eos(path, &tokenizer, eos, vocabulary)?;
        let byte_lengths = byte_lengths(&tokenizer, vocabulary, eos);
        let identity =
            Identity { kind: "tokenizer.json".into(), sha256: hex(&Sha256::digest(&file)), vocabulary, eos };
        let kind = Kind::HuggingFace { tokenizer: Arc::new(tokenizer), file: file.into() };
        Ok(Self { kind, identity, byte_lengths })
    }

    /// What makes it the same as another.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The bytes of its `tokenizer.json`; none for bytes.
    #[must_use]
    pub fn file(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Bytes => None,
            Kind::HuggingFace { file, .. } => Some(file),
        }
    }

    /// Bytes of text that each id stands for; 0 for special tokens.
    #[must_use]
    pub fn byte_lengths(&self) -> &Arc<[u32]> {
        &self.byte_lengths
    }

    /// `text` as ids, without the end of the document.
    ///
    /// # Errors
    /// What the tokenizer says, for text that it cannot encode or an id beyond its vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let Kind::HuggingFace { tokenizer, .. } = &self.kind else {
            return Ok(ByteTokenizer.encode(text).collect());
        };
        let ids = super::guard::quietly(|| {
            tokenizer.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec())
        })
        .map_err(|panic| format!("the tokenizer gave up ({panic})"))?
        .map_err(|error| error.to_string())?;
        match ids.iter().find(|&&id| id >= self.identity.vocabulary || id == self.identity.eos) {
            Some(id) => Err(format!("the tokenizer made the id {id} of it, which no text may have")),
            None => Ok(ids),
        }
    }

    /// `ids` as text for display; ids that stand for no text are left out.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.kind {
            Kind::Bytes => ByteTokenizer.decode(ids),
            Kind::HuggingFace { tokenizer, .. } => {
                super::guard::quietly(|| tokenizer.decode(ids, true).unwrap_or_default()).unwrap_or_default()
            }
        }
    }
}

/// One more than the largest id.
fn vocabulary_size(path: &Path, tokenizer: &tokenizers::Tokenizer) -> Result<u32, DataError> {
    let largest = tokenizer.get_vocab(true).into_values().max();
    match largest.map(u64::from) {
        // Sparse ids would make tables of any size; the largest published vocabularies have some 300 thousand.
        Some(id) if id < 1 << 24 => Ok(id as u32 + 1),
        Some(id) => Err(DataError::input(path, "ids below 2^24", format!("the id {id}"))),
        None => Err(DataError::input(path, "a vocabulary", "none")),
    }
}

fn find_eos(
    path: &Path,
    tokenizer: &tokenizers::Tokenizer,
    eos: Eos<'_>,
    vocabulary: u32,
) -> Result<u32, DataError> {
    let (found, expected) = match eos {
        Eos::Usual => (
            EOS_NAMES.iter().find_map(|name| tokenizer.token_to_id(name)),
            format!("one of the end-of-document tokens {} (--eos names another)", EOS_NAMES.join(", ")),
        ),
        Eos::Named(name) => (tokenizer.token_to_id(name), format!("the end-of-document token `{name}`")),
        Eos::Id(id) => (Some(id), format!("an end-of-document id below {vocabulary}")),
    };
    found.filter(|&id| id < vocabulary).ok_or_else(|| DataError::input(path, expected, "no such token"))
}

/// Bytes of text for each id, from the token's own spelling: byte-level tokens spell each byte as one letter, others spell
/// text, with `▁` for a space and `<0xNN>` for a byte.
fn byte_lengths(tokenizer: &tokenizers::Tokenizer, vocabulary: u32, eos: u32) -> Arc<[u32]> {
    let spelling = serde_json::to_value(tokenizer.get_decoder()).unwrap_or_default().to_string()
        + &serde_json::to_value(tokenizer.get_pre_tokenizer()).unwrap_or_default().to_string();
    let byte_level = spelling.contains("ByteLevel");
    let added = tokenizer.get_added_tokens_decoder();
    (0..vocabulary)
        .map(|id| match (added.get(&id), tokenizer.id_to_token(id)) {
            _ if id == eos => 0,
            (Some(token), _) if token.special => 0,
            (Some(token), _) => token.content.len(),
            (None, None) => 0,
            (None, Some(token)) if byte_level => token.chars().count(),
            (None, Some(token)) if token.len() == 6 && token.starts_with("<0x") && token.ends_with('>') => 1,
            (None, Some(token)) => token.replace('▁', " ").len(),
        })
        .map(|length| length as u32)
        .collect()
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! A folder of shards as documents to train on.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::super::hash::stable_hash;
use super::super::tokenizer::{Eos, Tokenizer};
use super::super::tokens::DocumentInfo;
use super::super::{DataError, Documents};
use super::Shard;
use super::manifest::{MANIFEST, Manifest, TOKENIZER};

/// All shards of a folder, mapped. Holds nothing of the text in memory.
#[derive(Debug, Clone)]
pub struct ShardStore {
    shards: Arc<[Shard]>,
    /// Exclusive end of each shard's documents.
    ends: Vec<usize>,
    tokens: usize,
    eos: u32,
    byte_lengths: Arc<[u32]>,
    /// The folder's domains in another numbering.
    domains: Vec<u32>,
    fingerprint: u64,
}

impl ShardStore {
    /// Opens `folder`, which was built with `tokenizer`. With `verify`, every token is read once and checked.
    ///
    /// # Errors
    /// [`DataError::Input`] for a folder that is not whole, is damaged, or was made with another tokenizer.
    pub fn open(folder: &Path, tokenizer: &Tokenizer, verify: bool) -> Result<Self, DataError> {
        let manifest = Manifest::read(folder)?;
        let path = folder.join(MANIFEST);
        if !manifest.complete {
            let expected = "shards that are whole; run the command that builds them again, and it goes on";
            return Err(DataError::input(&path, expected, "an unfinished build"));
        }
        if manifest.tokenizer != *tokenizer.identity() {
            let expected = format!("shards made with {}", tokenizer.identity().words());
            return Err(DataError::input(&path, expected, manifest.tokenizer.words()));
        }
        let open = |entry: &super::manifest::ShardEntry| {
            let path = folder.join(&entry.file);
            let shard = Shard::open(&path)?;
            let (found, expected) = (
                (shard.tokens(), shard.documents() as u64, shard.tokenizer(), shard.eos()),
                (entry.tokens, entry.documents, manifest.tokenizer.short(), manifest.tokenizer.eos),
            );
            if found != expected || shard.domains() as usize > manifest.domains.len() {
                let expected = format!(
                    "what the manifest says, {} tokens of {} documents",
                    entry.tokens, entry.documents
                );
                let found = format!("{} tokens of {} documents, or another tokenizer", found.0, found.1);
                return Err(DataError::input(&path, expected, found));
            }
            if verify {
                shard.verify()?;
            }
            Ok(shard)
        };
        let shards: Vec<Shard> = manifest.shards.par_iter().map(open).collect::<Result<_, _>>()?;
        let mut documents = 0;
        let mut fingerprint = manifest.tokenizer.short();
        let mut ends = Vec::with_capacity(shards.len());
        for shard in &shards {
            documents += shard.documents();
            ends.push(documents);
            let parts = [shard.tokens(), shard.documents() as u64, u64::from(shard.documents_crc())];
            fingerprint = parts
                .iter()
                .fold(fingerprint, |hash, part| stable_hash(&[&hash.to_le_bytes(), &part.to_le_bytes()]));
        }
        Ok(Self {
            tokens: shards.iter().map(|shard| shard.tokens() as usize).sum(),
            shards: shards.into(),
            ends,
            eos: manifest.tokenizer.eos,
            byte_lengths: Arc::clone(tokenizer.byte_lengths()),
            domains: (0..manifest.domains.len() as u32).collect(),
            fingerprint,
        })
    }

    /// The tokenizer that `folder` was built with.
    ///
    /// # Errors
    /// [`DataError::Input`] when the manifest or the tokenizer's file is damaged, or they do not belong together.
    pub fn tokenizer(folder: &Path) -> Result<Tokenizer, DataError> {
        let expected = Manifest::read(folder)?.tokenizer;
        let path = folder.join(TOKENIZER);
        let tokenizer = match expected.kind.as_str() {
            "bytes" => Tokenizer::bytes(),
            _ => Tokenizer::load(&path.to_string_lossy(), Eos::Id(expected.eos))?,
        };
        if *tokenizer.identity() == expected {
            Ok(tokenizer)
        } else {
            Err(DataError::input(&path, expected.words(), tokenizer.identity().words()))
        }
    }

    /// The same documents with domain `i` called `domains[i]`, to be used beside other folders'.
    ///
    /// # Errors
    /// [`DataError::Setting`] when there are not as many names as domains.
    pub fn renumber(self, domains: Vec<u32>) -> Result<Self, DataError> {
        if domains.len() != self.domains.len() {
            return Err(DataError::Setting {
                name: "domains",
                expected: self.domains.len().to_string(),
                found: domains.len().to_string(),
            });
        }
        Ok(Self { domains, ..self })
    }

    fn place(&self, index: usize) -> (&Shard, usize) {
        let shard = self.ends.partition_point(|&end| end <= index);
        let before = if shard == 0 { 0 } else { self.ends[shard - 1] };
        (&self.shards[shard], index - before)
    }
}

impl Documents for ShardStore {
    fn count(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn token_count(&self) -> usize {
        self.tokens
    }

    fn document(&self, index: usize) -> DocumentInfo {
        let (shard, index) = self.place(index);
        let document = shard.document(index);
        DocumentInfo { domain: self.domains[document.domain as usize], ..document }
    }

    fn append(&self, index: usize, range: Range<usize>, out: &mut Vec<u32>) {
        let (shard, index) = self.place(index);
        shard.append(index, range, out);
    }

    fn check(&self) -> Result<(), DataError> {
        self.shards.iter().try_for_each(Shard::check_length)
    }

    fn eos(&self) -> u32 {
        self.eos
    }

    fn byte_length(&self, id: u32) -> u64 {
        self.byte_lengths.get(id as usize).copied().unwrap_or(0).into()
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

//! Building a folder of shards: read, tokenise on every core, write, in an order that depends on the inputs alone.
//!
//! One thread reads records and hands them over in chunks, the pool tokenises a chunk, and this thread writes its documents in
//! the order of the records. After every shard the manifest is replaced, with the place where the next shard begins; a build
//! that was interrupted verifies the shards it finds and goes on from there, and gives the same files.
//!
//! Memory, whatever the size of the inputs: [`CHUNK_BYTES`] and one record ([`MAX_RECORD`](super::super::read::MAX_RECORD) at
//! most) for each of four chunks of text, the ids of one of them, and 24 bytes for each of at most [`SHARD_DOCUMENTS`] documents.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::super::DataError;
use super::super::hash::stable_hash;
use super::super::read::{Format, Input, Keys, Raw, Reading};
use super::super::tokenizer::Tokenizer;
use super::manifest::{Domain, InputEntry, MANIFEST, Manifest, Skipped, TOKENIZER};
use super::write::sha256_of;
use super::{Shard, ShardWriter};
use crate::lock;
use crate::replace::replace_with;

/// Text that is tokenised at once, in bytes.
pub const CHUNK_BYTES: usize = 4 << 20;
/// Records that are tokenised at once.
pub const CHUNK_RECORDS: usize = 8192;
/// A shard is closed at so many documents, whatever its tokens.
pub const SHARD_DOCUMENTS: u64 = 1 << 22;

/// What a folder of shards is made by, besides its inputs and its tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Keys of JSON objects, columns of Parquet files.
    pub keys: Keys,
    /// The domain of all documents, instead of their files'.
    pub domain: Option<String>,
    /// Bytes of an id in token files.
    pub token_width: Option<u32>,
    /// A shard is closed at so many tokens.
    pub shard_tokens: u64,
    /// Leave out and count records that cannot be read, instead of stopping.
    pub skip_invalid: bool,
}

/// How far a build has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Bytes of input files read.
    pub read: u64,
    /// Bytes of all input files.
    pub of: u64,
    /// Documents in shards.
    pub documents: u64,
    /// Tokens in shards.
    pub tokens: u64,
}

/// A record on its way.
struct Record {
    input: usize,
    /// Its number in that input.
    number: u64,
    raw: Raw,
}

type Chunk = Vec<Record>;

/// A record after tokenising.
enum Outcome {
    Document { ids: Vec<u32>, uid: u64, domain: Option<String>, text_bytes: u64 },
    Empty,
    NotUtf8,
    Invalid,
}

/// Builds shards of `inputs` in `folder`, or goes on with them, on the present rayon pool.
///
/// # Errors
/// [`DataError::Refused`] when the folder holds something else or another build is at work; otherwise whatever stopped it:
/// finished shards are kept, and the same call goes on.
pub fn build(
    folder: &Path,
    inputs: &[Input],
    tokenizer: &Tokenizer,
    settings: &Settings,
    mut progress: impl FnMut(Status),
) -> Result<Manifest, DataError> {
    fs::create_dir_all(folder).map_err(DataError::write(folder))?;
    let _lock = hold(folder)?;
    let manifest = resume(folder, inputs, tokenizer, settings)?;
    if manifest.complete {
        return Ok(manifest);
    }
    if let Some(file) = tokenizer.file() {
        let path = folder.join(TOKENIZER);
        replace_with(&path, file).map_err(DataError::write(&path))?;
    }
    manifest.write(folder)?;
    let read = Arc::new(AtomicU64::new(0));
    let of = inputs.iter().map(|input| input.bytes).sum();
    let reading = Reading {
        keys: settings.keys.clone(),
        token_width: settings.token_width,
        eos: tokenizer.identity().eos,
        vocabulary: tokenizer.identity().vocabulary,
    };
    let (sender, receiver) = sync_channel(2);
    let first = manifest.next;
    std::thread::scope(|scope| {
        let count = Arc::clone(&read);
        scope.spawn(move || send_all(inputs, first, &reading, &count, &sender));
        let mut writing = Writing { folder, tokenizer, settings, inputs, manifest, shard: None };
        writing.run(receiver, |documents, tokens| {
            progress(Status { read: read.load(Ordering::Relaxed).min(of), of, documents, tokens });
        })
    })
}

/// Holds the folder for this process alone.
fn hold(folder: &Path) -> Result<File, DataError> {
    let refused =
        || DataError::Refused(format!("another process is building shards in {}", folder.display()));
    lock::exclusive(folder).map_err(DataError::write(folder))?.ok_or_else(refused)
}

/// The manifest to go on with: that of an interrupted build, its shards verified, or a fresh one.
fn resume(
    folder: &Path,
    inputs: &[Input],
    tokenizer: &Tokenizer,
    settings: &Settings,
) -> Result<Manifest, DataError> {
    let entries: Vec<InputEntry> =
        inputs.iter().map(|input| InputEntry { path: input.name.clone(), bytes: input.bytes }).collect();
    if !folder.join(MANIFEST).exists() {
        return Ok(Manifest {
            version: 1,
            complete: false,
            tokenizer: tokenizer.identity().clone(),
            tokens: 0,
            documents: 0,
            text_bytes: 0,
            domains: Vec::new(),
            shards: Vec::new(),
            skipped: Skipped::default(),
            settings: settings.clone(),
            inputs: entries,
            next: (0, 0),
        });
    }
    let manifest = Manifest::read(folder)?;
    let checks = [
        ("another tokenizer", manifest.tokenizer == *tokenizer.identity()),
        ("other settings", manifest.settings == *settings),
        ("other inputs", manifest.inputs == entries),
    ];
    if let Some((what, _)) = checks.iter().find(|(_, same)| !same) {
        return Err(DataError::Refused(format!(
            "{} holds shards made with {what}; give the same ones to go on with it, another --out, or --force to begin anew",
            folder.display()
        )));
    }
    manifest.shards.par_iter().try_for_each(|entry| {
        let path = folder.join(&entry.file);
        Shard::open(&path)?.verify()?;
        let found = sha256_of(&path).map_err(DataError::read(&path))?;
        if found == entry.sha256 {
            Ok(())
        } else {
            Err(DataError::input(&path, format!("SHA-256 {}", entry.sha256), found))
        }
    })?;
    Ok(manifest)
}

/// Reads all records from `first` on and sends them in chunks; ends early when nobody listens.
fn send_all(
    inputs: &[Input],
    first: (usize, u64),
    reading: &Reading,
    count: &Arc<AtomicU64>,
    sender: &SyncSender<Result<Chunk, DataError>>,
) {
    let mut chunk = Chunk::new();
    let mut bytes = 0;
    let before: u64 = inputs.iter().take(first.0).map(|input| input.bytes).sum();
    count.fetch_add(before, Ordering::Relaxed);
    for (index, input) in inputs.iter().enumerate().skip(first.0) {
        let records = match input.records(reading, Arc::clone(count)) {
            Ok(records) => records,
            Err(error) => {
                let _ = sender.send(Ok(chunk));
                let _ = sender.send(Err(error));
                return;
            }
        };
        let skip = if index == first.0 { first.1 } else { 0 };
        for (number, raw) in (0..).zip(records) {
            let raw = match raw {
                Ok(_) if number < skip => continue,
                Ok(raw) => raw,
                Err(error) => {
                    let _ = sender.send(Ok(chunk));
                    let _ = sender.send(Err(error));
                    return;
                }
            };
            bytes += match &raw {
                Raw::Json(text) | Raw::Text(text, _) => text.len(),
                Raw::Tokens(ids) => 4 * ids.len(),
            };
            chunk.push(Record { input: index, number, raw });
            if bytes >= CHUNK_BYTES || chunk.len() >= CHUNK_RECORDS {
                bytes = 0;
                if sender.send(Ok(std::mem::take(&mut chunk))).is_err() {
                    return;
                }
            }
        }
    }
    let _ = sender.send(Ok(chunk));
}

/// The side that tokenises and writes.
struct Writing<'a> {
    folder: &'a Path,
    tokenizer: &'a Tokenizer,
    settings: &'a Settings,
    inputs: &'a [Input],
    /// True of everything pushed so far; on disk, of finished shards only.
    manifest: Manifest,
    shard: Option<ShardWriter>,
}

impl Writing<'_> {
    fn run(
        &mut self,
        receiver: Receiver<Result<Chunk, DataError>>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Manifest, DataError> {
        let mut numbers: HashMap<String, u32> = HashMap::new();
        for (number, domain) in self.manifest.domains.iter().enumerate() {
            numbers.insert(domain.name.clone(), number as u32);
        }
        for chunk in receiver {
            let chunk = chunk?;
            let outcomes: Vec<_> = chunk.par_iter().map(|record| self.prepare(record)).collect();
            for (record, outcome) in chunk.iter().zip(outcomes) {
                self.take(record, outcome?, &mut numbers)?;
            }
            progress(self.manifest.documents, self.manifest.tokens);
        }
        self.close((self.inputs.len(), 0))?;
        self.manifest.complete = true;
        self.manifest.write(self.folder)?;
        Ok(self.manifest.clone())
    }

    /// Tokenises one record.
    fn prepare(&self, record: &Record) -> Result<Outcome, DataError> {
        let input = &self.inputs[record.input];
        let place = || match input.format {
            Format::JsonLines => format!("line {}", record.number + 1),
            Format::Parquet => format!("row {}", record.number),
            Format::Tokens => format!("document {}", record.number),
            Format::Text => String::new(),
        };
        let invalid = |expected: &str, found: String| {
            if self.settings.skip_invalid {
                Ok(Outcome::Invalid)
            } else {
                Err(DataError::input_at(&input.path, place(), expected, found))
            }
        };
        let (text, domain) = match &record.raw {
            Raw::Tokens(ids) if ids.is_empty() => return Ok(Outcome::Empty),
            Raw::Tokens(ids) => {
                let lengths = self.tokenizer.byte_lengths();
                let text_bytes = ids.iter().map(|&id| u64::from(lengths[id as usize])).sum();
                let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
                let uid = stable_hash(&[&bytes]);
                return Ok(Outcome::Document { ids: ids.clone(), uid, domain: None, text_bytes });
            }
            Raw::Json(line) => match self.settings.keys.parse(line) {
                Ok(found) => found,
                Err(found) => return invalid("an object with a text", found),
            },
            Raw::Text(text, domain) => match str::from_utf8(text) {
                Ok(text) => (text.to_owned(), domain.clone()),
                Err(_) if input.format == Format::Text => return Ok(Outcome::NotUtf8),
                Err(error) => return invalid("text in UTF-8", error.to_string()),
            },
        };
        if text.is_empty() {
            return Ok(Outcome::Empty);
        }
        match self.tokenizer.encode(&text) {
            Ok(ids) => Ok(Outcome::Document {
                ids,
                uid: stable_hash(&[text.as_bytes()]),
                domain,
                text_bytes: text.len() as u64,
            }),
            Err(found) => invalid("text that the tokenizer takes", found),
        }
    }

    /// Appends what became of one record.
    fn take(
        &mut self,
        record: &Record,
        outcome: Outcome,
        numbers: &mut HashMap<String, u32>,
    ) -> Result<(), DataError> {
        let (ids, uid, domain, text_bytes) = match outcome {
            Outcome::Document { ids, uid, domain, text_bytes } => (ids, uid, domain, text_bytes),
            Outcome::Empty => {
                self.manifest.skipped.empty += 1;
                return Ok(());
            }
            Outcome::NotUtf8 => {
                self.manifest.skipped.not_utf8 += 1;
                return Ok(());
            }
            Outcome::Invalid => {
                self.manifest.skipped.invalid += 1;
                return Ok(());
            }
        };
        let own = &self.inputs[record.input].domain;
        let name = self.settings.domain.as_ref().or(domain.as_ref()).unwrap_or(own);
        let number = match numbers.get(name) {
            Some(&number) => number,
            None => {
                let number = self.manifest.domains.len() as u32;
                // A key that names no domains but documents would make as many domains as those.
                if number >= 1 << 16 {
                    let path = &self.inputs[record.input].path;
                    return Err(DataError::input(
                        path,
                        "at most 65536 domains",
                        "more; is --domain-key right?",
                    ));
                }
                numbers.insert(name.clone(), number);
                let name = name.clone();
                self.manifest.domains.push(Domain { name, documents: 0, tokens: 0, text_bytes: 0 });
                number
            }
        };
        if self.shard.is_none() {
            let name = format!("shard-{:05}.tokens", self.manifest.shards.len());
            self.shard = Some(ShardWriter::create(&self.folder.join(name), self.tokenizer.identity())?);
        }
        let Some(shard) = &mut self.shard else { return Ok(()) };
        shard.push(&ids, uid, number, text_bytes)?;
        let tokens = ids.len() as u64 + 1;
        let manifest = &mut self.manifest;
        (manifest.documents, manifest.tokens) = (manifest.documents + 1, manifest.tokens + tokens);
        manifest.text_bytes += text_bytes;
        let domain = &mut manifest.domains[number as usize];
        (domain.documents, domain.tokens) = (domain.documents + 1, domain.tokens + tokens);
        domain.text_bytes += text_bytes;
        if shard.tokens() >= self.settings.shard_tokens || shard.documents() >= SHARD_DOCUMENTS {
            self.close((record.input, record.number + 1))?;
        }
        Ok(())
    }

    /// Finishes the shard being written, if any, and records where the next one begins.
    fn close(&mut self, next: (usize, u64)) -> Result<(), DataError> {
        if let Some(shard) = self.shard.take() {
            self.manifest.shards.push(shard.finish()?);
        }
        self.manifest.next = next;
        self.manifest.write(self.folder)
    }
}

/// Deletes what a build left in `folder`, and nothing else.
///
/// # Errors
/// [`DataError::Refused`] for a folder that is not one of shards, [`DataError::Write`].
pub fn remove(folder: &Path) -> Result<(), DataError> {
    if !folder.join(MANIFEST).exists() {
        return Ok(());
    }
    let _lock = hold(folder)?;
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        let path = entry.map_err(DataError::read(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let shard =
            name.starts_with("shard-") && (name.ends_with(".tokens") || name.ends_with(".tokens.tmp"));
        if shard || [MANIFEST, TOKENIZER].contains(&&*name) {
            fs::remove_file(&path).map_err(DataError::write(&path))?;
        }
    }
    Ok(())
}

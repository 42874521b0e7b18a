//! `metrics.jsonl`: what a run measured, one JSON object a line, in the order it happened.
//!
//! Each line is written whole and at once, so a crash can at worst cut the last one short; [`MetricsWriter::resume`] drops that
//! line together with every line beyond the step that the run goes on from, and the file reads as if nothing had happened.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// After an optimiser step.
    Step(StepRecord),
    /// After a validation.
    Valid(ValidRecord),
}

impl Record {
    /// The optimiser steps taken when the record was made.
    #[must_use]
    pub fn step(&self) -> u64 {
        match self {
            Record::Step(record) => record.step,
            Record::Valid(record) => record.step,
        }
    }
}

/// What one optimiser step measured. A number that was not finite is written as `null` and read as NaN.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepRecord {
    /// Optimiser steps taken, this one included.
    pub step: u64,
    /// Tokens read so far.
    pub tokens: u64,
    /// The loss that was minimised, in nats a token: cross-entropy and all weighted auxiliary parts.
    #[serde(deserialize_with = "nan_if_null")]
    pub loss: f64,
    /// Cross-entropy alone, in nats a token, under the routing of training (document pools, where they are on).
    #[serde(deserialize_with = "nan_if_null")]
    pub ce: f64,
    /// The weighted auxiliary parts of the loss, by name.
    #[serde(default, deserialize_with = "nan_values_if_null")]
    pub aux: BTreeMap<String, f64>,
    /// Learning rate of this step.
    #[serde(deserialize_with = "nan_if_null")]
    pub lr: f64,
    /// Global L2 norm of the gradient before clipping.
    #[serde(deserialize_with = "nan_if_null")]
    pub grad_norm: f64,
    /// Tokens a second over this step.
    #[serde(deserialize_with = "nan_if_null")]
    pub tokens_per_s: f64,
    /// Model FLOP a second over this step (forward and backward, recomputation not counted).
    #[serde(deserialize_with = "nan_if_null")]
    pub flops_per_s: f64,
    /// `flops_per_s` as a share of the machine's measured peak, where that is known.
    #[serde(default)]
    pub peak_share: Option<f64>,
    /// Seconds of training so far, those before a resume included.
    #[serde(deserialize_with = "nan_if_null")]
    pub elapsed_s: f64,
    /// How evenly the routed experts of each MoE layer were used in this step.
    #[serde(default)]
    pub expert_load: Vec<LoadSummary>,
}

/// How evenly one layer's routed experts were used.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LoadSummary {
    /// Most used expert, as a multiple of the mean; 1 is perfect balance.
    pub max: f64,
    /// Least used expert, as a multiple of the mean.
    pub min: f64,
    /// Entropy of the shares over `ln(experts)`; 1 is perfect balance, 0 is one expert for everything.
    pub entropy: f64,
}

impl LoadSummary {
    /// Of the routed slots that each expert took; all zero when there were none.
    #[must_use]
    pub fn of_counts(counts: &[u64]) -> Self {
        // Counts of a file may add up to more than 64 bits hold.
        let total: u128 = counts.iter().map(|&count| u128::from(count)).sum();
        if total == 0 {
            return Self::default();
        }
        let mean = total as f64 / counts.len() as f64;
        let bound = |count: Option<&u64>| count.map_or(0.0, |&count| count as f64 / mean);
        let nats: f64 = counts
            .iter()
            .filter(|&&count| count > 0)
            .map(|&count| count as f64 / total as f64)
            .map(|share| -share * share.ln())
            .sum();
        let entropy = if counts.len() > 1 { nats / (counts.len() as f64).ln() } else { 1.0 };
        Self { max: bound(counts.iter().max()), min: bound(counts.iter().min()), entropy }
    }
}

/// One validation of every domain.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ValidRecord {
    /// Optimiser steps taken.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Result of each domain, by its name.
    pub domains: BTreeMap<String, DomainValid>,
}

/// The validation of one domain.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DomainValid {
    /// `nats / (ln 2 * bytes)`.
    #[serde(deserialize_with = "nan_if_null")]
    pub bits_per_byte: f64,
    /// Mean cross-entropy of a predicted token, in nats.
    #[serde(deserialize_with = "nan_if_null")]
    pub nats_per_token: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Bytes of text predicted.
    pub bytes: u64,
}

impl DomainValid {
    /// Of the summed cross-entropy of `tokens` predicted tokens that stand for `bytes` bytes.
    #[must_use]
    pub fn of_sum(nats: f64, tokens: u64, bytes: u64) -> Self {
        Self {
            bits_per_byte: crate::data::validation::bits_per_byte(nats, bytes),
            nats_per_token: nats / tokens as f64,
            tokens,
            bytes,
        }
    }
}

impl ValidRecord {
    /// Bits per byte over all domains together, each weighted by its bytes; NaN when there are none.
    #[must_use]
    pub fn bits_per_byte(&self) -> f64 {
        let bytes: f64 = self.domains.values().map(|domain| domain.bytes as f64).sum();
        let bits: f64 = self.domains.values().map(|domain| domain.bits_per_byte * domain.bytes as f64).sum();
        bits / bytes
    }
}

fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn nan_values_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let values = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

/// What can go wrong with `metrics.jsonl`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// A new run would overwrite the metrics of another one.
    #[error("{} exists already: continue that run with --resume, or choose another folder with --out", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A line other than the last is no record.
    #[error("{} line {line} is not a metrics record ({source}); move the file away to go on without its history", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("cannot write or read {}: {source}; check that the disk is not full and the folder is writable", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Appends records to `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    file: File,
    path: PathBuf,
}

impl MetricsWriter {
    /// Starts the file of a new run.
    ///
    /// # Errors
    /// [`MetricsError::Exists`] when there is one already, [`MetricsError::Io`].
    pub fn create(path: &Path) -> Result<Self, MetricsError> {
        match OpenOptions::new().append(true).create_new(true).open(path) {
            Ok(file) => Ok(Self { file, path: path.to_owned() }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(MetricsError::Exists { path: path.to_owned() })
            }
            Err(source) => Err(MetricsError::Io { path: path.to_owned(), source }),
        }
    }

    /// Goes on with the file of a run that resumes after `step` optimiser steps: everything from the first record of a later
    /// step on is cut off. A missing file is started anew.
    ///
    /// # Errors
    /// [`MetricsError::Corrupt`] when a line before that is no record (the file is left as it was), [`MetricsError::Io`].
    pub fn resume(path: &Path, step: u64) -> Result<Self, MetricsError> {
        let io = |source| MetricsError::Io { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let mut kept = 0;
        for line in lines(path, &bytes) {
            let (end, record) = line?;
            if record.step() > step {
                break;
            }
            kept = end;
        }
        file.set_len(kept as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Appends one record.
    ///
    /// # Errors
    /// [`MetricsError::Io`], for example when the disk is full.
    pub fn append(&mut self, record: &Record) -> Result<(), MetricsError> {
        let io = |source: std::io::Error| MetricsError::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(record).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io)
    }

    /// Waits until all records are on the disk; called with every checkpoint.
    ///
    /// # Errors
    /// [`MetricsError::Io`].
    pub fn sync(&mut self) -> Result<(), MetricsError> {
        self.file.sync_data().map_err(|source| MetricsError::Io { path: self.path.clone(), source })
    }
}

/// Reads all records; a last line that was cut short is left out.
///
/// # Errors
/// [`MetricsError::Corrupt`], [`MetricsError::Io`].
pub fn read_records(path: &Path) -> Result<Vec<Record>, MetricsError> {
    let bytes = std::fs::read(path).map_err(|source| MetricsError::Io { path: path.to_owned(), source })?;
    lines(path, &bytes).map(|line| line.map(|(_, record)| record)).collect()
}

/// The records of `bytes`, each with the offset one past its line end. What follows the last line end was cut short.
fn lines<'a>(
    path: &'a Path,
    bytes: &'a [u8],
) -> impl Iterator<Item = Result<(usize, Record), MetricsError>> + 'a {
    let mut end = 0;
    bytes.split_inclusive(|&byte| byte == b'\n').enumerate().filter(|(_, line)| line.ends_with(b"\n")).map(
        move |(index, line)| {
            end += line.len();
            let record = serde_json::from_slice(line).map_err(|source| MetricsError::Corrupt {
                path: path.to_owned(),
                line: index + 1,
                source,
            })?;
            Ok((end, record))
        },
    )
}

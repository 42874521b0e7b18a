//! A corpus: documents with a domain, exact duplicates gone, validation apart from training.
//!
//! Every source ([`quickstart`](super::quickstart), [`folder`](super::folder)) gathers candidate documents in any order;
//! [`Corpus::assemble`] makes the same corpus of them whatever that order was.

use std::collections::{BTreeMap, HashSet};

use super::DataError;
use super::hash::stable_hash;

/// One document: one file's text, perhaps cut at [`Limits::max_document_bytes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Index into [`Corpus::domains`].
    pub domain: u32,
    /// Where the text came from, for people: never an absolute path.
    pub path: String,
    /// The text.
    pub text: String,
    /// Stable identity: a hash of the text, the same on every machine.
    pub uid: u64,
}

/// How much of which text enters a corpus.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Shorter files are skipped, in bytes.
    pub min_document_bytes: usize,
    /// Longer documents are cut at the last line end within this many bytes.
    pub max_document_bytes: usize,
    /// Longer files are skipped: they are tables and machine output, in bytes.
    pub max_file_bytes: usize,
    /// Training text kept of one domain, in bytes: keeps domains comparable in size.
    pub max_domain_bytes: usize,
    /// Share of a domain's text held out for validation.
    pub valid_fraction: f64,
    /// At least this much validation text a domain, where that leaves three quarters of it to train on, in bytes.
    pub min_valid_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_document_bytes: 64,
            max_document_bytes: 64 << 10,
            max_file_bytes: 512 << 10,
            max_domain_bytes: 2 << 20,
            valid_fraction: 1.0 / 16.0,
            min_valid_bytes: 64 << 10,
        }
    }
}

impl Limits {
    /// No caps: every UTF-8 file whole, for text that was chosen by hand.
    #[must_use]
    pub fn uncapped() -> Self {
        Self {
            max_document_bytes: usize::MAX,
            max_file_bytes: usize::MAX,
            max_domain_bytes: usize::MAX,
            ..Self::default()
        }
    }

    fn check(&self) -> Result<(), DataError> {
        if !(0.0..=0.5).contains(&self.valid_fraction) {
            return Err(DataError::Setting {
                name: "valid_fraction",
                expected: "between 0 and 0.5".into(),
                found: self.valid_fraction.to_string(),
            });
        }
        if self.max_document_bytes < self.min_document_bytes.max(1) {
            return Err(DataError::Setting {
                name: "max_document_bytes",
                expected: format!("at least min_document_bytes = {}", self.min_document_bytes),
                found: self.max_document_bytes.to_string(),
            });
        }
        Ok(())
    }

    /// `bytes` as a document's text, or why it is none.
    pub(super) fn accept(&self, bytes: Vec<u8>, skipped: &mut Skipped) -> Option<String> {
        if bytes.len() < self.min_document_bytes {
            skipped.tiny += 1;
            return None;
        }
        if bytes.len() > self.max_file_bytes {
            skipped.huge += 1;
            return None;
        }
        let Ok(mut text) = String::from_utf8(bytes) else {
            skipped.not_utf8 += 1;
            return None;
        };
        if text.len() > self.max_document_bytes {
            let mut end = self.max_document_bytes;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            // A cut after a line end is tidier; a text of one endless line is cut where it must be.
            let tidy = text[..end]
                .rfind('\n')
                .map(|newline| newline + 1)
                .filter(|&cut| cut >= self.min_document_bytes);
            end = tidy.unwrap_or(end);
            text.truncate(end);
        }
        Some(text)
    }
}

/// Files that did not become documents, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Shorter than [`Limits::min_document_bytes`].
    pub tiny: usize,
    /// Longer than [`Limits::max_file_bytes`].
    pub huge: usize,
    /// Not UTF-8.
    pub not_utf8: usize,
    /// Written by a program, by its own first lines.
    pub generated: usize,
    /// Byte for byte another document's text.
    pub duplicate: usize,
    /// Beyond [`Limits::max_domain_bytes`].
    pub over_cap: usize,
    /// No domain is for files of this kind.
    pub other: usize,
}

/// The side of the split that a source demands for a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Training.
    Train,
    /// Validation.
    Valid,
}

/// A document before deduplication and split.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Index into the corpus's domains.
    pub domain: u32,
    /// Unique path within the source; ties among duplicates go to the smaller one.
    pub path: String,
    /// What the split is decided by: candidates of one domain and key always land on the same side, so that two versions
    /// of one file, though not byte for byte the same, are not parted.
    pub split_key: String,
    /// The side, when the source says so; by hash otherwise.
    pub side: Option<Side>,
    /// The text.
    pub text: String,
}

/// Documents for training and, none of them shared, for validation.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Names of the domains that have training text; [`Document::domain`] indexes them.
    pub domains: Vec<String>,
    /// Training documents, in an order that is a function of their content alone.
    pub train: Vec<Document>,
    /// Validation documents.
    pub valid: Vec<Document>,
    /// Files left out.
    pub skipped: Skipped,
    /// Packages named by the lock file whose sources are not on this machine.
    pub missing: Vec<String>,
}

/// Text of one domain on one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    /// Documents.
    pub documents: usize,
    /// Bytes of text.
    pub bytes: usize,
}

impl Corpus {
    /// Makes a corpus of `candidates`, the same for any order of them:
    ///
    /// 1. exact duplicates are dropped: a demanded validation document wins, then the smallest path;
    /// 2. in each domain, groups of equal split key are sorted by a hash of that key;
    /// 3. the first groups are held out until `max(valid_fraction * bytes, min_valid_bytes)` is reached (never more than a
    ///    quarter of the domain, but one group at least where there are two), the next ones train until the domain's cap.
    ///
    /// # Errors
    /// [`DataError::EmptyCorpus`] when no training document remains, [`DataError::Setting`] for impossible limits.
    pub fn assemble(
        domains: &[String],
        mut candidates: Vec<Candidate>,
        limits: &Limits,
        mut skipped: Skipped,
        place: &str,
    ) -> Result<Self, DataError> {
        limits.check()?;
        let files = candidates.len()
            + skipped.tiny
            + skipped.huge
            + skipped.not_utf8
            + skipped.generated
            + skipped.other;
        candidates.sort_by(|a, b| {
            (a.side != Some(Side::Valid), &a.path, a.domain).cmp(&(
                b.side != Some(Side::Valid),
                &b.path,
                b.domain,
            ))
        });
        let mut seen = HashSet::new();
        let unique: Vec<bool> =
            candidates.iter().map(|candidate| seen.insert(candidate.text.as_str())).collect();
        drop(seen);
        skipped.duplicate += unique.iter().filter(|&&first| !first).count();

        // domain -> hash of the split key -> documents: the map's order is the corpus's order.
        let mut groups: Vec<BTreeMap<(u64, String), Vec<Candidate>>> = vec![BTreeMap::new(); domains.len()];
        for (candidate, first) in candidates.into_iter().zip(unique) {
            let Some(domain) = groups.get_mut(candidate.domain as usize).filter(|_| first) else { continue };
            let key = (stable_hash(&[candidate.split_key.as_bytes()]), candidate.split_key.clone());
            domain.entry(key).or_default().push(candidate);
        }
        let mut corpus = Corpus {
            domains: Vec::new(),
            train: Vec::new(),
            valid: Vec::new(),
            skipped,
            missing: Vec::new(),
        };
        for (name, groups) in domains.iter().zip(groups) {
            let (train, valid) = split(groups, limits, &mut corpus.skipped);
            if train.is_empty() {
                continue;
            }
            let domain = corpus.domains.len() as u32;
            corpus.domains.push(name.clone());
            corpus.train.extend(train.into_iter().map(|candidate| candidate.into_document(domain)));
            corpus.valid.extend(valid.into_iter().map(|candidate| candidate.into_document(domain)));
        }
        if corpus.train.is_empty() {
            return Err(DataError::EmptyCorpus {
                place: place.to_owned(),
                min_bytes: limits.min_document_bytes,
                files,
            });
        }
        Ok(corpus)
    }

    /// Documents and bytes of every domain: (name, training, validation).
    #[must_use]
    pub fn sizes(&self) -> Vec<(String, Size, Size)> {
        let mut sizes: Vec<_> =
            self.domains.iter().map(|name| (name.clone(), Size::default(), Size::default())).collect();
        for document in &self.train {
            sizes[document.domain as usize].1.add(document);
        }
        for document in &self.valid {
            sizes[document.domain as usize].2.add(document);
        }
        sizes
    }
}

impl Size {
    fn add(&mut self, document: &Document) {
        self.documents += 1;
        self.bytes += document.text.len();
    }
}

impl Candidate {
    fn into_document(self, domain: u32) -> Document {
        let uid = stable_hash(&[self.text.as_bytes()]);
        Document { domain, path: self.path, text: self.text, uid }
    }
}

/// Steps 3 of [`Corpus::assemble`] for one domain: (training, validation).
fn split(
    groups: BTreeMap<(u64, String), Vec<Candidate>>,
    limits: &Limits,
    skipped: &mut Skipped,
) -> (Vec<Candidate>, Vec<Candidate>) {
    let size = |group: &[Candidate]| group.iter().map(|candidate| candidate.text.len()).sum::<usize>();
    let total = groups.values().map(|group| size(group)).sum::<usize>().min(limits.max_domain_bytes);
    let demanded = groups.values().flatten().any(|candidate| candidate.side.is_some());
    let wanted = ((total as f64 * limits.valid_fraction) as usize).max(limits.min_valid_bytes).min(total / 4);
    let hold_out = !demanded && limits.valid_fraction > 0.0 && groups.len() > 1;
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    let (mut train_bytes, mut valid_bytes) = (0, 0);
    for group in groups.into_values() {
        let bytes = size(&group);
        let to_valid = match group[0].side {
            Some(side) => side == Side::Valid,
            None => hold_out && (valid.is_empty() || valid_bytes < wanted),
        };
        if to_valid {
            valid_bytes += bytes;
            valid.extend(group);
        } else if train.is_empty() || train_bytes + bytes <= limits.max_domain_bytes {
            train_bytes += bytes;
            train.extend(group);
        } else {
            skipped.over_cap += group.len();
        }
    }
    (train, valid)
}

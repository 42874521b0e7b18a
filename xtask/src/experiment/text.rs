//! The text: parts that share no document, tokenised with one tokenizer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::tool::Tool;

/// Documents of each domain to choose experts by.
const SELECT_DOCUMENTS: usize = 100;
/// Text of each domain to tune on, in bytes.
const TUNE_BYTES: usize = 250_000;
/// Tokens of the vocabulary.
const VOCABULARY: usize = 4096;
/// Parts: what is trained on, chosen by, tuned on, validated on in training, and measured on at last.
const PARTS: [&str; 5] = ["train", "select", "tune", "valid", "test"];

/// Shards of every part, by name.
pub struct Text {
    folder: PathBuf,
    /// The domains, in alphabetical order.
    pub domains: Vec<String>,
}

impl Text {
    /// The shards of a part.
    pub fn part(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The corpus of `cargo xtask corpus` in parts, tokenised; what is there already stays.
    pub fn prepare(tool: &Tool, corpus: &Path, folder: &Path) -> Result<Self, String> {
        let domains = folder.join("domains.json");
        if !domains.exists() {
            let (train, held_out) = (corpus.join("train.jsonl"), corpus.join("val.jsonl"));
            if !train.exists() || !held_out.exists() {
                return Err(format!(
                    "there is no corpus in {}; run `cargo xtask corpus` first, or name its folder with --corpus",
                    corpus.display()
                ));
            }
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let names = split(&train, &held_out, folder)?;
            let json = serde_json::to_string(&names).map_err(|error| error.to_string())?;
            fs::write(&domains, json).map_err(|error| format!("{}: {error}", domains.display()))?;
        }
        let names =
            fs::read_to_string(&domains).map_err(|error| format!("{}: {error}", domains.display()))?;
        let names =
            serde_json::from_str(&names).map_err(|error| format!("{}: {error}", domains.display()))?;
        let tokenizer = folder.join("tokenizer.json");
        let path = |path: &Path| path.display().to_string();
        if !tokenizer.exists() {
            let vocabulary = VOCABULARY.to_string();
            let train = path(&folder.join("train.jsonl"));
            tool.run(&[
                "data",
                "train-tokenizer",
                &train,
                "--vocabulary",
                &vocabulary,
                "--out",
                &path(&tokenizer),
            ])?;
        }
        let lines = |part: &str| folder.join(format!("{part}.jsonl"));
        for part in PARTS {
            let (shards, jsonl) = (folder.join(part), path(&lines(part)));
            if !shards.join("manifest.json").exists() {
                let (tokenizer, out) = (path(&tokenizer), path(&shards));
                tool.run(&[
                    "data",
                    "build",
                    &jsonl,
                    "--domain-key",
                    "domain",
                    "--tokenizer",
                    &tokenizer,
                    "--out",
                    &out,
                ])?;
            }
        }
        Ok(Self { folder: folder.to_path_buf(), domains: names })
    }
}

/// What has been taken of a domain.
#[derive(Default)]
struct Taken {
    select: usize,
    tune_bytes: usize,
    held_out: usize,
}

/// The part that the next document of a domain goes to. The corpus is in the order of its documents' hashes, so the first
/// ones are a random draw.
fn part_of(taken: &mut Taken, bytes: usize) -> &'static str {
    if taken.select < SELECT_DOCUMENTS {
        taken.select += 1;
        "select"
    } else if taken.tune_bytes < TUNE_BYTES {
        taken.tune_bytes += bytes;
        "tune"
    } else {
        "train"
    }
}

/// Calls `f` with every line of a file of JSON lines, its domain and its text.
fn each_document(
    path: &Path,
    mut f: impl FnMut(&str, &str, &str) -> std::io::Result<()>,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    for line in BufReader::new(File::open(path).map_err(failed)?).lines() {
        let line = line.map_err(failed)?;
        let json: serde_json::Value =
            serde_json::from_str(&line).map_err(|error| format!("{}: {error}", path.display()))?;
        let (Some(domain), Some(text)) = (json["domain"].as_str(), json["text"].as_str()) else {
            return Err(format!("{}: a line without `domain` or `text`", path.display()));
        };
        f(&line, domain, text).map_err(failed)?;
    }
    Ok(())
}

/// Writes the parts as JSON lines and returns the domains.
fn split(train: &Path, held_out: &Path, folder: &Path) -> Result<Vec<String>, String> {
    let mut taken: BTreeMap<String, Taken> = BTreeMap::new();
    let mut writers = BTreeMap::new();
    for part in PARTS {
        let path = folder.join(format!("{part}.jsonl"));
        let file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        writers.insert(part, BufWriter::new(file));
    }
    for (path, is_held_out) in [(train, false), (held_out, true)] {
        each_document(path, |line, domain, text| {
            let taken = taken.entry(domain.to_owned()).or_default();
            let part = if is_held_out {
                taken.held_out += 1;
                if taken.held_out.is_multiple_of(2) { "test" } else { "valid" }
            } else {
                part_of(taken, text.len())
            };
            writers.get_mut(part).map_or(Ok(()), |writer| writeln!(writer, "{line}"))
        })?;
    }
    for (part, mut writer) in writers {
        writer.flush().map_err(|error| format!("{part}.jsonl: {error}"))?;
    }
    Ok(taken.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_documents_choose_the_next_tune_and_the_rest_train() {
        let mut taken = Taken::default();
        let parts: Vec<&str> =
            (0..SELECT_DOCUMENTS + 4).map(|_| part_of(&mut taken, TUNE_BYTES / 2)).collect();
        assert!(parts[..SELECT_DOCUMENTS].iter().all(|&part| part == "select"));
        assert_eq!(parts[SELECT_DOCUMENTS..], ["tune", "tune", "train", "train"]);
    }
}

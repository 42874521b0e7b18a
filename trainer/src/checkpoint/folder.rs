//! Atomic folders: written under another name, flushed to the disk, renamed, and verified before they are read.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::small;

/// File of [`Manifest`].
pub const MANIFEST: &str = "manifest.json";
const PREFIX: &str = "step-";
const PARTIAL: &str = ".partial";

/// What a complete checkpoint says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Optimiser steps done.
    pub step: u64,
    /// Every other file, sorted by name.
    pub files: Vec<Entry>,
}

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name inside the folder.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// CRC-32 (IEEE) of the content.
    pub crc32: u32,
}

/// A checkpoint in the making. Dropped before [`Writer::finish`], it takes its half-written folder away.
#[derive(Debug)]
pub struct Writer {
    partial: PathBuf,
    target: PathBuf,
    step: u64,
    finished: bool,
}

impl Writer {
    /// Starts checkpoint `step` under `root`.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be made.
    pub fn begin(root: &Path, step: u64) -> Result<Self> {
        let name = format!("{PREFIX}{step:08}");
        let (partial, target) = (root.join(format!("{name}{PARTIAL}")), root.join(name));
        remove(&partial)?;
        // Not its parents: where `root` is gone (a disk that is no longer mounted), nothing must be written in its place.
        fs::create_dir(&partial).map_err(Error::io("create the folder", &partial))?;
        Ok(Self { partial, target, step, finished: false })
    }

    /// Where to write the files.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Writes one small file of text.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn text(&self, name: &str, content: &str) -> Result<()> {
        self.file(name, content.as_bytes())
    }

    /// Writes one file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.partial.join(name);
        fs::write(&path, content).map_err(Error::io("write", &path))
    }

    /// Flushes every file and the folder to the disk, seals them with a manifest, and gives the folder its name.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing of the checkpoint is left then, and older ones are untouched.
    pub fn finish(mut self) -> Result<PathBuf> {
        let mut files = Vec::new();
        for name in names(&self.partial)? {
            let path = self.partial.join(&name);
            let (bytes, crc32) = checksum(&path)?;
            sync(&path)?;
            files.push(Entry { name, bytes, crc32 });
        }
        let manifest = Manifest { step: self.step, files };
        let json = serde_json::to_string_pretty(&manifest)
            .map_err(|error| Error::checkpoint(&self.partial, error))?;
        self.text(MANIFEST, &json)?;
        sync(&self.partial.join(MANIFEST))?;
        sync(&self.partial)?;
        remove(&self.target)?;
        fs::rename(&self.partial, &self.target).map_err(Error::io("rename to", &self.target))?;
        self.finished = true;
        if let Some(root) = self.target.parent() {
            sync(root)?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // Failing to tidy up must not hide the error that brought us here.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// The checkpoints under `root`, by name alone, newest first.
///
/// # Errors
/// [`Error::Io`] if `root` exists but cannot be listed.
pub fn list(root: &Path) -> Result<Vec<(u64, PathBuf)>> {
    if !root.exists() {
        return Ok(Vec::new());
    }
    let mut found: Vec<(u64, PathBuf)> = names(root)?
        .into_iter()
        .filter_map(|name| Some((name.strip_prefix(PREFIX)?.parse().ok()?, root.join(&name))))
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Reads every byte of the checkpoint and compares it with the manifest.
///
/// # Errors
/// [`Error::Checkpoint`] that names the file which is missing, truncated or changed.
pub fn verify(path: &Path) -> Result<Manifest> {
    let text = small::text(&path.join(MANIFEST)).map_err(|_| {
        Error::checkpoint(
            path,
            format!(
                "has no readable {MANIFEST}: it was not written by `trainer pretrain`, or not to its end"
            ),
        )
    })?;
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| Error::checkpoint(path, format!("{MANIFEST} is damaged ({error})")))?;
    for Entry { name, bytes, crc32 } in &manifest.files {
        // Files of the folder itself: a manifest must not point anywhere else, at a device for example.
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            let message =
                format!("{MANIFEST} is damaged: expected names of files in its folder, found `{name}`");
            return Err(Error::checkpoint(path, message));
        }
        let file = path.join(name);
        let (found, sum) = checksum(&file)
            .map_err(|_| Error::checkpoint(path, format!("{name} is missing or unreadable")))?;
        if found != *bytes {
            return Err(Error::checkpoint(path, format!("{name} is damaged: {found} bytes of {bytes}")));
        }
        if sum != *crc32 {
            return Err(Error::checkpoint(path, format!("{name} is damaged: its checksum does not match")));
        }
    }
    Ok(manifest)
}

/// The newest checkpoint under `root` that is whole, with a warning for every newer one that is not.
///
/// # Errors
/// [`Error::Checkpoint`] if there is none, with the reason for each that was tried.
pub fn latest(root: &Path) -> Result<(PathBuf, Vec<String>)> {
    let mut warnings = Vec::new();
    for (_, path) in list(root)? {
        match verify(&path) {
            Ok(_) => return Ok((path, warnings)),
            Err(error) => warnings.push(format!("{error}; falling back to the one before it")),
        }
    }
    Err(Error::checkpoint(
        root,
        if warnings.is_empty() {
            "there is no checkpoint here; start without --resume, over what an earlier run left with --force"
                .to_owned()
        } else {
            format!("no whole checkpoint is left; start anew with --force. {}", warnings.join(". "))
        },
    ))
}

/// Deletes all but the newest `keep` checkpoints up to `step`, which has just been saved, and what an interrupted write
/// may have left. Checkpoints beyond `step` were too damaged to resume from: counted, they would displace whole ones.
///
/// # Errors
/// [`Error::Io`] if a folder cannot be deleted.
pub fn prune(root: &Path, step: u64, keep: usize) -> Result<()> {
    let (beyond, upto): (Vec<_>, Vec<_>) = list(root)?.into_iter().partition(|&(found, _)| found > step);
    for (_, path) in beyond.into_iter().chain(upto.into_iter().skip(keep)) {
        remove(&path)?;
    }
    for name in names(root)?.iter().filter(|name| name.starts_with(PREFIX) && name.ends_with(PARTIAL)) {
        remove(&root.join(name))?;
    }
    Ok(())
}

/// A checkpoint's folder, or the newest whole one of a run; another program's checkpoint has no checksums to verify.
///
/// # Errors
/// [`Error::Checkpoint`] for anything else, in words that say what to give.
pub fn find(path: &Path) -> Result<PathBuf> {
    if path.join("config.json").exists() {
        // A checkpoint of ours has checksums; another program's has not.
        if path.join(MANIFEST).exists() {
            verify(path).map_err(|error| match error {
                Error::Checkpoint { path, message } => {
                    let advice = "copy it here again, or choose another checkpoint";
                    Error::checkpoint(path, format!("{message}; {advice}"))
                }
                other => other,
            })?;
        }
        return Ok(path.to_path_buf());
    }
    let root = path.join("checkpoints");
    if !root.exists() {
        return Err(Error::checkpoint(
            path,
            "is neither a checkpoint (no config.json) nor a run (no checkpoints folder); give a run's folder as \
             `trainer pretrain` prints it at its end, or one checkpoint in it",
        ));
    }
    let (checkpoint, warnings) = latest(&root)?;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(checkpoint)
}

/// File names of a folder, sorted.
fn names(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        let entry = entry.map_err(Error::io("list", path))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() { fs::remove_dir_all(path).map_err(Error::io("delete", path)) } else { Ok(()) }
}

/// Waits until a file or folder is on the disk.
fn sync(path: &Path) -> Result<()> {
    // Windows cannot open folders as files; there the rename is all that can be asked for.
    if cfg!(windows) && path.is_dir() {
        return Ok(());
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("flush", path))
}

/// Length and CRC-32 of a file.
fn checksum(path: &Path) -> Result<(u64, u32)> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let (mut hasher, mut bytes, mut block) = (crc32fast::Hasher::new(), 0u64, vec![0u8; 1 << 16]);
    loop {
        let count = file.read(&mut block).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok((bytes, hasher.finalize()));
        }
        hasher.update(&block[..count]);
        bytes += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(root: &Path, step: u64) -> PathBuf {
        let writer = Writer::begin(root, step).unwrap();
        writer.text("state.json", &format!("{{\"step\": {step}}}")).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn an_abandoned_checkpoint_leaves_nothing_and_the_old_one_stays() {
        let root = tempfile::tempdir().unwrap();
        let first = checkpoint(root.path(), 1);
        let writer = Writer::begin(root.path(), 2).unwrap();
        writer.text("state.json", "half").unwrap();
        drop(writer);
        assert_eq!(names(root.path()).unwrap(), ["step-00000001"]);
        assert_eq!(latest(root.path()).unwrap().0, first);
    }

    #[test]
    fn a_flipped_bit_a_cut_and_a_lost_file_are_found_and_named() {
        let root = tempfile::tempdir().unwrap();
        let good = checkpoint(root.path(), 1);
        let bad = checkpoint(root.path(), 2);
        let file = bad.join("state.json");
        for damage in ["{\"step\": 3}", "{\"st", ""] {
            fs::write(&file, damage).unwrap();
            assert!(verify(&bad).unwrap_err().to_string().contains("state.json"));
            let (path, warnings) = latest(root.path()).unwrap();
            assert_eq!(path, good);
            assert!(warnings[0].contains("step-00000002"), "{warnings:?}");
        }
        fs::remove_file(&file).unwrap();
        assert!(verify(&bad).unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn pruning_keeps_the_newest() {
        let root = tempfile::tempdir().unwrap();
        for step in [5, 30, 200] {
            checkpoint(root.path(), step);
        }
        fs::create_dir(root.path().join("step-00000300.partial")).unwrap();
        prune(root.path(), 200, 2).unwrap();
        assert_eq!(names(root.path()).unwrap(), ["step-00000030", "step-00000200"]);
        // A run that went on from step 30, because 200 was damaged, has just saved step 31.
        checkpoint(root.path(), 31);
        prune(root.path(), 31, 1).unwrap();
        assert_eq!(names(root.path()).unwrap(), ["step-00000031"]);
    }
}

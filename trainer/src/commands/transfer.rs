//! `trainer export` and `trainer import`: models to and from other programs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ::safetensors::Dtype as Stored;
use serde::Serialize;

use crate::checkpoint::state::{CONFIG, OPTIMISER, STATE};
use crate::checkpoint::transfer::{Settings, Written, transfer};
use crate::checkpoint::{COMPANIONS, Family, folder, tokenizer};
use crate::cli::{Dtype, Export, Import, Transfer};
use crate::data::shard::manifest::TOKENIZER;
use crate::error::{Error, Result};
use crate::progress::{Mode, Work, si};
use crate::replace::copy_whole;

/// One JSON line while tensors are written.
#[derive(Serialize)]
#[serde(tag = "event", rename = "progress")]
pub(super) struct Event {
    /// Bytes so far.
    pub written_bytes: u64,
}

/// The last JSON line.
#[derive(Serialize)]
#[serde(tag = "event", rename = "summary")]
struct Summary {
    #[serde(flatten)]
    written: Written,
    family: &'static str,
}

/// Writes a checkpoint of this program for others.
pub fn export(args: &Export) -> Result<()> {
    let checkpoint = folder::find(&args.checkpoint)?;
    let family = args.family.into();
    let tokenizer = |_: &mut Written| copy_tokenizer(&checkpoint, &args.transfer.out);
    let written = copy(&checkpoint, family, None, &args.transfer, tokenizer)?;
    finish(written, family, &args.transfer)
}

/// Copies the tokenizer beside the weights, or of the shards that a checkpoint without one names.
pub(super) fn copy_tokenizer(checkpoint: &Path, out: &Path) -> Result<()> {
    let tokenizer = out.join(TOKENIZER);
    if !tokenizer.exists() {
        let folders = std::iter::once(checkpoint.to_path_buf()).chain(tokenizer::shards(checkpoint));
        if let Some(source) = folders.map(|folder| folder.join(TOKENIZER)).find(|path| path.exists()) {
            copy_whole(&source, &tokenizer).map_err(Error::io("write", &tokenizer))?;
        }
    }
    Ok(())
}

/// Rewrites a checkpoint of any known family in the layout of this program.
pub fn import(args: &Import) -> Result<()> {
    let written = copy(&args.checkpoint, Family::Emo, None, &args.transfer, |_| Ok(()))?;
    finish(written, Family::Emo, &args.transfer)
}

/// Copies a checkpoint, or what `keep` keeps of its experts; `after` adds to it.
pub(super) fn copy(
    from: &Path,
    family: Family,
    keep: Option<Vec<Vec<u32>>>,
    args: &Transfer,
    after: impl FnOnce(&mut Written) -> Result<()>,
) -> Result<(Written, Work)> {
    if args.shard_mb == 0 {
        return Err(Error::Usage("--shard-mb must be positive".into()));
    }
    make_room(&args.out, &[from], args.force)?;
    let settings = Settings {
        family,
        dtype: match args.dtype {
            Dtype::Keep => None,
            Dtype::F32 => Some(Stored::F32),
            Dtype::Bf16 => Some(Stored::BF16),
        },
        shard_bytes: args.shard_mb.saturating_mul(1_000_000),
        keep,
    };
    let mut work = Work::new(Mode::choose(args.json), bytes_of(from)?);
    let written = whole_or_nothing(&args.out, || {
        let mut written = transfer(from, &args.out, &settings, |bytes| {
            work.advance(bytes, &format!("{}B", si(bytes as f64)), &Event { written_bytes: bytes });
        })?;
        written.bytes = on_disk(&written)?;
        after(&mut written)?;
        Ok(written)
    })?;
    Ok((written, work))
}

fn finish((written, work): (Written, Work), family: Family, args: &Transfer) -> Result<()> {
    let words = format!(
        "{}parameters in {} tensors, {}B, as `{}` in {}",
        si(written.parameters as f64),
        written.tensors,
        si(written.bytes as f64),
        family.name(),
        args.out.display()
    );
    work.finish(&Summary { written, family: family.name() }, &words);
    Ok(())
}

/// Says no to a folder that holds a model, unless `force`: then that model is deleted.
///
/// # Errors
/// [`Error::Usage`] for a folder in use, or one that is read from.
pub(super) fn make_room(out: &Path, read: &[&Path], force: bool) -> Result<()> {
    if out.join("config.json").exists() && !force {
        return Err(Error::Usage(format!(
            "{} already holds a model; choose another folder with --out, or replace it with --force",
            out.display()
        )));
    }
    if read.iter().any(|read| same(read, out)) {
        return Err(Error::Usage("--out must be another folder than the checkpoint".into()));
    }
    if force { clear(out) } else { Ok(()) }
}

/// Deletes what an earlier transfer left: files of weights that the new one may not overwrite would stay beside it.
fn clear(out: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(out) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ours(&name) {
            std::fs::remove_file(entry.path()).map_err(Error::io("delete", entry.path()))?;
        }
    }
    Ok(())
}

/// Files that a transfer writes.
fn ours(name: &str) -> bool {
    let weights = name.starts_with("model") && name.contains(".safetensors");
    weights || ["config.json", CONFIG, OPTIMISER, STATE, TOKENIZER].contains(&name)
}

/// Runs `write`, which fills the folder `out` that [`make_room`] has looked at; where it fails, takes away what it has written
/// there: half a model would be taken for a whole one, and fills a disk that is full already.
pub(super) fn whole_or_nothing<T>(out: &Path, write: impl FnOnce() -> Result<T>) -> Result<T> {
    let names = || -> Option<BTreeSet<String>> {
        let entries = std::fs::read_dir(out).ok()?.flatten();
        Some(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    };
    let before = names();
    let written = write();
    if written.is_err() {
        let kept = before.clone().unwrap_or_default();
        // Failing to tidy up must not hide the error that brought us here.
        let written = |name: &&String| ours(name) || COMPANIONS.contains(&name.as_str());
        for name in names().unwrap_or_default().difference(&kept).filter(written) {
            let _ = std::fs::remove_file(out.join(name));
        }
        if before.is_none() {
            let _ = std::fs::remove_dir(out);
        }
    }
    written
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Bytes of the files of weights that were written, headers too: what the model takes on the disk.
pub(super) fn on_disk(written: &Written) -> Result<u64> {
    let weights = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
    let size = |path: &PathBuf| Ok(std::fs::metadata(path).map_err(Error::io("read", path))?.len());
    written.files.iter().filter(weights).map(size).sum()
}

/// Bytes of a model's weights.
pub(super) fn bytes_of(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "safetensors")
            && entry.file_name() != OPTIMISER
        {
            bytes += entry.metadata().map_err(Error::io("read", entry.path()))?.len();
        }
    }
    Ok(bytes)
}

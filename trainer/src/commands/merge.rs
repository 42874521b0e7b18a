//! `trainer merge`: tuned experts back into the full model.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::transfer::{Event, bytes_of, make_room, on_disk, whole_or_nothing};
use crate::checkpoint::folder;
use crate::checkpoint::state::CONFIG;
use crate::cli::Merge;
use crate::error::{Error, Result};
use crate::progress::{Mode, Work, si};
use crate::replace::copy_whole;
use crate::subset::merge::{Merged, Settings, merge};

/// The last JSON line.
#[derive(Serialize)]
#[serde(tag = "event", rename = "summary")]
struct Summary {
    #[serde(flatten)]
    merged: Merged,
}

/// Merges.
pub fn run(args: &Merge) -> Result<()> {
    let full = folder::find(&args.full)?;
    let tuned: Vec<PathBuf> = args.tuned.iter().map(|path| folder::find(path)).collect::<Result<_>>()?;
    let read: Vec<&Path> = tuned.iter().chain([&full]).map(PathBuf::as_path).collect();
    make_room(&args.out, &read, args.force)?;
    let settings = Settings { take: args.take.iter().copied().collect(), alpha: args.alpha };
    let mut work = Work::new(Mode::choose(args.json), bytes_of(&full)?);
    let merged = whole_or_nothing(&args.out, || {
        let mut merged = merge(&full, &tuned, &args.out, &settings, |bytes| {
            work.advance(bytes, &format!("{}B", si(bytes as f64)), &Event { written_bytes: bytes });
        })?;
        merged.written.bytes = on_disk(&merged.written)?;
        // What the full model's run held out is held out from the merged one too.
        let (from, to) = (full.join(CONFIG), args.out.join(CONFIG));
        if from.exists() {
            copy_whole(&from, &to).map_err(Error::io("write", &to))?;
        }
        Ok(merged)
    })?;
    let words = format!(
        "{} tensors and router rows of {} tuned models taken, {} of them averaged; {}B in {}",
        merged.changed,
        tuned.len(),
        merged.averaged,
        si(merged.written.bytes as f64),
        args.out.display()
    );
    work.finish(&Summary { merged }, &words);
    Ok(())
}

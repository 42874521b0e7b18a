//! `trainer grow`: more experts for a trained model.

use std::path::Path;

use serde::Serialize;

use super::transfer::{Event, bytes_of, make_room, on_disk, whole_or_nothing};
use crate::checkpoint::folder;
use crate::cli::{Grow, NewExperts};
use crate::error::{Error, Result};
use crate::progress::{Mode, Work, si};
use crate::report::RoutingCounts;
use crate::small;
use crate::subset::grow::{Grown, Seeds, Settings, grow};

/// The last JSON line.
#[derive(Serialize)]
#[serde(tag = "event", rename = "summary")]
struct Summary {
    #[serde(flatten)]
    grown: Grown,
}

/// Grows.
pub fn run(args: &Grow) -> Result<()> {
    let checkpoint = folder::find(&args.checkpoint)?;
    let seeds = match args.from {
        NewExperts::Copy => Seeds::InTurn,
        NewExperts::Fresh => Seeds::Fresh,
        NewExperts::Used => Seeds::MostUsed(usage(args, &checkpoint)?),
    };
    make_room(&args.out, &[&checkpoint], args.force)?;
    let settings =
        Settings { experts: args.experts, top_k: args.top_k, seeds, jitter: args.jitter, seed: args.seed };
    let mut work = Work::new(Mode::choose(args.json), bytes_of(&checkpoint)?);
    let grown = whole_or_nothing(&args.out, || {
        let mut grown = grow(&checkpoint, &args.out, &settings, |bytes| {
            work.advance(bytes, &format!("{}B", si(bytes as f64)), &Event { written_bytes: bytes });
        })?;
        grown.written.bytes = on_disk(&grown.written)?;
        Ok(grown)
    })?;
    let mut words = format!(
        "{} experts a layer, {}parameters, in {}",
        args.experts,
        si(grown.written.parameters as f64),
        args.out.display()
    );
    let out = args.out.display();
    match grown.moments {
        true => words.push_str(&format!(
            "\n  go on training with: trainer pretrain {out}/config.toml --set train.init={out} --set \
             train.init_moments=true --out runs/grown"
        )),
        false => words.push_str("\n  without AdamW's moments: the checkpoint has none"),
    }
    work.finish(&Summary { grown }, &words);
    Ok(())
}

/// The counts of the last validation of the checkpoint's run, or those of a file.
fn usage(args: &Grow, checkpoint: &Path) -> Result<RoutingCounts> {
    let of_run = || Some(checkpoint.parent()?.parent()?.join("routing.json"));
    let path = args.usage.clone().or_else(|| of_run().filter(|path| path.exists())).ok_or_else(|| {
        Error::Usage(
            "how much each expert is used is unknown: this checkpoint lies in no run with a routing.json; give one \
             with --usage, or copy experts in turn with --from copy"
                .into(),
        )
    })?;
    let text = small::text(&path).map_err(Error::io("read", &path))?;
    let counts: RoutingCounts =
        serde_json::from_str(&text).map_err(|error| Error::checkpoint(&path, error))?;
    counts.check().map_err(|error| Error::checkpoint(&path, error))?;
    Ok(counts)
}

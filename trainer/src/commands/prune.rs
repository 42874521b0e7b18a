//! `trainer prune`: a smaller checkpoint with some of the experts.

use serde::Serialize;

use super::transfer::{copy, copy_tokenizer};
use crate::checkpoint::state::CONFIG;
use crate::checkpoint::transfer::Written;
use crate::checkpoint::{Family, folder, hf};
use crate::cli::Prune;
use crate::error::{Error, Result};
use crate::model::Layout;
use crate::progress::si;
use crate::replace::copy_whole;
use crate::subset::ExpertSubset;

/// The last JSON line.
#[derive(Serialize)]
#[serde(tag = "event", rename = "summary")]
struct Summary {
    #[serde(flatten)]
    written: Written,
    /// Parameters of the whole model.
    parameters_before: u64,
    /// For each layer with experts: its number, and how many are kept, shared ones included.
    kept: Vec<(usize, usize)>,
}

/// Prunes.
pub fn run(args: &Prune) -> Result<()> {
    let checkpoint = folder::find(&args.checkpoint)?;
    let (config, _) = hf::read_config(&checkpoint)?;
    let subset = ExpertSubset::load_for(&args.experts, &config)?;
    let before = Layout::new(&config)?.len() as u64;
    let out = &args.transfer.out;
    let beside = |written: &mut Written| {
        copy_tokenizer(&checkpoint, out)?;
        // It names the run's text, so that the smaller model is measured on what the whole one held out.
        let (from, to) = (checkpoint.join(CONFIG), out.join(CONFIG));
        if from.exists() {
            copy_whole(&from, &to).map_err(Error::io("write", &to))?;
            written.files.push(to);
        }
        Ok(())
    };
    let (written, work) = copy(&checkpoint, Family::Emo, Some(subset.kept()), &args.transfer, beside)?;
    let words = format!(
        "{}: {}parameters of {}, {}B, in {}",
        subset.words(),
        si(written.parameters as f64),
        si(before as f64),
        si(written.bytes as f64),
        out.display()
    );
    let kept = subset.layers().iter().map(|layer| (layer.layer, layer.kept())).collect();
    work.finish(&Summary { written, parameters_before: before, kept }, &words);
    Ok(())
}

//! `trainer select`: which experts a domain needs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use emo::Backend;
use serde::Serialize;

use super::device::{self, Start, Work};
use crate::checkpoint::{folder, hf, tokenizer};
use crate::cli::Select;
use crate::error::{Error, Result};
use crate::evaluate::text::{run_config, sequence};
use crate::model::{Capacity, ModelConfig};
use crate::progress::{self, Mode};
use crate::small;
use crate::subset::select::source::{Sample, Source};
use crate::subset::select::{self, Choice};
use crate::subset::{LayerSubset, Made};

/// The last line of `--json`.
#[derive(Serialize)]
struct Selected<'a> {
    event: &'static str,
    out: &'a PathBuf,
    made: &'a Made,
    /// For each layer with experts: its number, and how many are kept, shared ones included.
    kept: Vec<(usize, usize)>,
    seconds: f64,
}

/// One line of `--json` on the way.
#[derive(Serialize)]
#[serde(tag = "event", rename = "progress")]
struct Event {
    batches: usize,
    of: usize,
}

/// Selects.
pub fn run(args: &Select) -> Result<()> {
    if args.batch == 0 || args.sequence == Some(0) || args.documents == 0 {
        return Err(Error::Usage("--batch, --sequence and --documents must be positive".into()));
    }
    device::run(args.compute, Selecting(args))
}

struct Selecting<'a>(&'a Select);

impl Work for Selecting<'_> {
    const PEAK: bool = false;

    fn on<B: Backend>(self, backend: B, start: Start) -> Result<()> {
        start.note.iter().for_each(|note| tracing::warn!("{note}"));
        choose(Arc::new(backend), self.0)
    }
}

fn choose<B: Backend>(backend: Arc<B>, args: &Select) -> Result<()> {
    let start = Instant::now();
    let checkpoint = folder::find(&args.checkpoint)?;
    let (config, _) = hf::read_config(&checkpoint)?;
    let routed = args.keep.routed(&config)?;
    let (sample, text) = sample(&checkpoint, &config, args)?;
    let longest = sample.longest();
    let tokens = longest.saturating_mul(args.batch.min(sample.documents.len()));
    let capacity = Capacity { tokens, longest, domains: 0, redundancy: false, backward: false };
    let mut model = hf::load(&checkpoint, backend, capacity)?;
    let mut work = progress::Work::counting(Mode::choose(args.json), 0);
    let choice = Choice { method: args.method, routed: &routed, seed: args.seed };
    let subset = select::select(&mut model, &sample.documents, choice, |batches, of| {
        work.expect(of as u64);
        work.advance(batches as u64, &format!("{batches} of {of} batches"), &Event { batches, of });
    })?;
    let made = Made {
        method: args.method.name().into(),
        domain: args.domain.clone(),
        documents: sample.documents.len(),
        tokens: sample.tokens(),
        seed: args.seed,
        checkpoint: checkpoint.display().to_string(),
        text: Some(text),
    };
    let subset = subset.with_made(made.clone());
    subset.save(&args.out)?;
    let seconds = start.elapsed().as_secs_f64();
    let kept = subset.layers().iter().map(|layer: &LayerSubset| (layer.layer, layer.kept())).collect();
    let selected = Selected { event: "summary", out: &args.out, made: &made, kept, seconds };
    let words = format!(
        "{} by {} from {} documents ({} tokens) in {seconds:.1} s, in {}",
        subset.words(),
        made.method,
        made.documents,
        made.tokens,
        args.out.display()
    );
    work.finish(&selected, &words);
    Ok(())
}

/// The text to choose by, and where it comes from.
fn sample(checkpoint: &std::path::Path, config: &ModelConfig, args: &Select) -> Result<(Sample, String)> {
    let run = run_config(checkpoint)?;
    let longest = sequence(args.sequence, run.as_ref(), config);
    let mut prompts = args.prompt.clone();
    for path in &args.prompt_file {
        prompts.push(small::text(path).map_err(Error::io("read", path))?);
    }
    if !prompts.is_empty() {
        let tokenizer = tokenizer::of(checkpoint, args.tokenizer.as_deref(), config)?;
        return Ok((Sample::prompts(&prompts, &tokenizer, longest)?, "prompt".into()));
    }
    let source = match (&args.data, &run) {
        (Some(path), _) => Source::open(path, config, checkpoint)?,
        (None, Some(run)) => Source::of_run(run, args.split.unwrap_or_default(), config, checkpoint)?,
        (None, None) => {
            return Err(Error::Usage(format!(
                "{} comes from no run of this program, so its text is unknown; give text with --data or --prompt",
                checkpoint.display()
            )));
        }
    };
    let sample = source.sample(args.domain.as_deref(), args.documents, longest, args.seed)?;
    if sample.documents.len() < args.documents {
        let (found, wanted) = (sample.documents.len(), args.documents);
        tracing::warn!("there are only {found} documents of the {wanted} that were asked for");
    }
    Ok((sample, source.name))
}

//! `trainer retention`: what is left of a model's quality in subsets of its experts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use emo::Backend;
use serde::Serialize;

use super::device::{self, Start, Work};
use crate::checkpoint::{folder, hf};
use crate::cli;
use crate::data::{Packing, RoutingBoundary};
use crate::error::{Error, Result};
use crate::evaluate::held_out::HeldOut;
use crate::evaluate::retention::{Grid, MeanRise, Retention};
use crate::evaluate::text::{EvaluationText, run_config, sequence};
use crate::model::Capacity;
use crate::output::out;
use crate::progress::{self, Mode};
use crate::replace::replace_with;
use crate::subset::select::source::{Source, Split};

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    event: &'static str,
    checkpoint: PathBuf,
    seconds: f64,
    means: &'a [MeanRise],
    #[serde(flatten)]
    found: &'a Retention,
}

/// One line of `--json` on the way.
#[derive(Serialize)]
#[serde(tag = "event", rename = "progress")]
struct Event {
    subsets: usize,
    of: usize,
}

/// Measures.
pub fn run(args: &cli::Retention) -> Result<()> {
    if args.rows == 0 || args.batch == 0 || args.sequence == Some(0) || args.documents.contains(&0) {
        return Err(Error::Usage("--rows, --batch, --sequence and --documents must be positive".into()));
    }
    device::run(args.compute, Measuring(args))
}

struct Measuring<'a>(&'a cli::Retention);

impl Work for Measuring<'_> {
    const PEAK: bool = false;

    fn on<B: Backend>(self, backend: B, start: Start) -> Result<()> {
        start.note.iter().for_each(|note| tracing::warn!("{note}"));
        measure(Arc::new(backend), self.0)
    }
}

fn measure<B: Backend>(backend: Arc<B>, args: &cli::Retention) -> Result<()> {
    let start = Instant::now();
    let checkpoint = folder::find(&args.checkpoint)?;
    let (config, _) = hf::read_config(&checkpoint)?;
    let run = run_config(&checkpoint)?;
    let source = match (&args.select_data, &run) {
        (Some(path), _) => Source::open(path, &config, &checkpoint)?,
        (None, Some(run)) => Source::of_run(run, Split::Train, &config, &checkpoint)?,
        (None, None) => {
            return Err(Error::Usage(format!(
                "{} comes from no run of this program, so its text is unknown; give text with --select-data",
                checkpoint.display()
            )));
        }
    };
    let text = EvaluationText::choose(args.data.as_deref(), run.as_ref(), &config, &checkpoint)?;
    let sequence = sequence(args.sequence, run.as_ref(), &config);
    let routing = run.as_ref().map_or(RoutingBoundary::EosCloses, |run| run.packing().routing);
    let across = run.as_ref().is_some_and(|run| run.model.attend_across_documents);
    let packing = Packing { routing, ..Packing::new(args.batch, sequence, 0) };
    let mut held_out = HeldOut::new(text.documents, text.domains, &packing, args.rows, across)?;
    let capacity = Capacity {
        tokens: args.batch * sequence,
        longest: sequence,
        domains: 0,
        redundancy: false,
        backward: false,
    };
    let mut model = hf::load(&checkpoint, backend, capacity)?;
    let default = || ["50%", "25%", "12.5%", "6.25%"].iter().filter_map(|keep| keep.parse().ok()).collect();
    let grid = Grid {
        methods: args.method.clone(),
        documents: args.documents.clone(),
        keep: if args.keep.is_empty() { default() } else { args.keep.clone() },
        longest: sequence,
        seed: args.seed,
        across: args.across,
    };
    let mut work = progress::Work::counting(Mode::choose(args.json), 0);
    let found = Retention::measure(&mut model, &source, &mut held_out, &grid, |subsets, of| {
        work.expect(of as u64);
        work.advance(subsets as u64, &format!("{subsets} of {of} subsets"), &Event { subsets, of });
    })?;
    let means = found.means();
    let seconds = start.elapsed().as_secs_f64();
    let summary = Summary { event: "summary", checkpoint, seconds, means: &means, found: &found };
    if let Some(path) = &args.out {
        let text = serde_json::to_string(&summary).map_err(|error| Error::Usage(error.to_string()))?;
        replace_with(path, text.as_bytes()).map_err(Error::io("write", path))?;
    }
    if !args.json {
        out!("{}", table(&found, &means));
    }
    work.finish(&summary, &format!("{} subsets in {seconds:.1} s", found.subsets.len()));
    Ok(())
}

/// Means for people.
fn table(found: &Retention, means: &[MeanRise]) -> String {
    let mut table = format!("{:<24} {:>10}", "all experts", "bits/byte");
    for full in &found.full {
        table += &format!("\n{:<24} {:>10.4}", full.domain, full.bits_per_byte);
    }
    table += &format!(
        "\n\n{:<17} {:>9} {:>12} {:>11} {:>11}",
        "method", "documents", "experts kept", "mean rise", "worst rise"
    );
    for MeanRise { method, documents, kept: (kept, experts), layers, mean, worst } in means {
        let kept = match layers.iter().all(|layer| layer == kept) {
            true => format!("{kept} of {experts}"),
            false => layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        let (mean, worst) = (100.0 * mean, 100.0 * worst);
        table += &format!("\n{:<17} {documents:>9} {kept:>12} {mean:>+10.2}% {worst:>+10.2}%", method.name());
    }
    table
}

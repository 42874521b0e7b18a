//! `trainer eval`: bits per byte of held-out text, by domain, or benchmarks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use emo::Backend;
use serde::Serialize;

use super::benchmarks;
use super::device::{self, Start, Work};
use crate::checkpoint::{folder, hf};
use crate::cli::Eval;
use crate::data::{Packing, RoutingBoundary};
use crate::error::{Error, Result};
use crate::evaluate::held_out::HeldOut;
use crate::evaluate::text::{EvaluationText, run_config};
use crate::metrics::DomainValid;
use crate::model::Capacity;
use crate::progress::{self, Mode};

/// The last line of `--json`.
#[derive(Serialize)]
struct Evaluated {
    event: &'static str,
    checkpoint: PathBuf,
    sequence: usize,
    seconds: f64,
    /// Each domain's bits per byte, each domain counted once.
    mean_bits_per_byte: f64,
    domains: BTreeMap<String, DomainValid>,
}

/// One line of `--json` on the way.
#[derive(Serialize)]
#[serde(tag = "event", rename = "progress")]
struct Event {
    batches: usize,
    of: usize,
}

/// Evaluates.
pub fn run(args: &Eval) -> Result<()> {
    device::run(args.device, args.storage, args.threads, Evaluating(args))
}

struct Evaluating<'a>(&'a Eval);

impl Work for Evaluating<'_> {
    const PEAK: bool = false;

    fn on<B: Backend>(self, backend: B, start: Start) -> Result<()> {
        start.note.iter().for_each(|note| tracing::warn!("{note}"));
        match self.0.benchmarks.requests[..] {
            [] => evaluate(Arc::new(backend), self.0),
            [..] => benchmarks::run(Arc::new(backend), self.0),
        }
    }
}

fn evaluate<B: Backend>(backend: Arc<B>, args: &Eval) -> Result<()> {
    let start = Instant::now();
    let checkpoint = folder::find(&args.checkpoint)?;
    let (model_config, _) = hf::read_config(&checkpoint)?;
    let run = run_config(&checkpoint)?;
    let text = match (&args.data, &run) {
        (Some(path), _) => EvaluationText::open(path, &model_config)?,
        (None, Some(run)) => EvaluationText::of_run(run)?,
        (None, None) => {
            return Err(Error::Usage(format!(
                "{} comes from no run of this program, so what it held out is unknown; give text with --data",
                checkpoint.display()
            )));
        }
    };
    let wanted = args.sequence.or(run.as_ref().map(|run| run.data.sequence));
    let sequence = wanted.unwrap_or(model_config.max_positions.min(4096));
    if args.rows == 0 || args.batch == 0 {
        return Err(Error::Usage("--rows and --batch must be positive".into()));
    }
    let routing = run.as_ref().map_or(RoutingBoundary::EosCloses, |run| run.packing().routing);
    let packing = Packing { routing, ..Packing::new(args.batch, sequence, 0) };
    let across = run.as_ref().is_some_and(|run| run.model.attend_across_documents);
    let mut held_out = HeldOut::new(text.documents, text.domains, &packing, args.rows, across)?;
    if held_out.batches() == 0 {
        return Err(Error::Usage("there is no text to evaluate on".into()));
    }
    let capacity = Capacity {
        tokens: args.batch * sequence,
        longest: sequence,
        domains: 0,
        redundancy: false,
        backward: false,
    };
    let mut model = hf::load(&checkpoint, backend, capacity)?;
    let of = held_out.batches();
    let mut work = progress::Work::counting(Mode::choose(args.json), of as u64);
    let (domains, _) = held_out.run_with(&mut model, |batches| {
        work.advance(batches as u64, &format!("{batches} of {of} batches"), &Event { batches, of });
    })?;
    let mean = domains.values().map(|domain| domain.bits_per_byte).sum::<f64>() / domains.len() as f64;
    let mut table =
        format!("{:<24} {:>10} {:>12} {:>10} {:>10}", "domain", "bits/byte", "nats/token", "tokens", "bytes");
    for (name, domain) in &domains {
        let DomainValid { bits_per_byte, nats_per_token, tokens, bytes } = domain;
        table +=
            &format!("\n{name:<24} {bits_per_byte:>10.4} {nats_per_token:>12.4} {tokens:>10} {bytes:>10}");
    }
    table += &format!("\n{:<24} {mean:>10.4}", "mean of the domains");
    let seconds = start.elapsed().as_secs_f64();
    let summary =
        Evaluated { event: "summary", checkpoint, sequence, seconds, mean_bits_per_byte: mean, domains };
    if !args.json {
        println!("{table}");
    }
    work.finish(&summary, &format!("{of} batches in {seconds:.1} s"));
    Ok(())
}

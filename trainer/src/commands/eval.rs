//! `trainer eval`: bits per byte of held-out text, by domain, with all experts, some, or document pools; or benchmarks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::ValueEnum;
use emo::Backend;
use serde::Serialize;

use super::benchmarks;
use super::device::{self, Start, Work};
use crate::checkpoint::{folder, hf};
use crate::cli::{Eval, Pool};
use crate::data::{Packing, RoutingBoundary};
use crate::error::{Error, Result};
use crate::evaluate::held_out::{HeldOut, Pools};
use crate::evaluate::text::{EvaluationText, run_config, sequence};
use crate::metrics::DomainValid;
use crate::model::{Capacity, PoolFrom};
use crate::output::out;
use crate::progress::{self, Mode};
use crate::subset::run;

/// The last line of `--json`.
#[derive(Serialize)]
struct Evaluated {
    event: &'static str,
    checkpoint: PathBuf,
    /// The file of the experts in use; none = all.
    experts: Option<PathBuf>,
    /// What chose the pools.
    pool: Option<String>,
    sequence: usize,
    seconds: f64,
    #[serde(flatten)]
    measured: Option<Measured>,
    /// With --pool-sizes: each size, and last all experts on the same tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    sizes: Option<Vec<Measured>>,
}

/// Held-out text in one setting.
#[derive(Serialize)]
struct Measured {
    /// Routed experts of a pool; none = all.
    pool_size: Option<u32>,
    /// Each domain's bits per byte, each domain counted once.
    mean_bits_per_byte: f64,
    domains: BTreeMap<String, DomainValid>,
}

impl Measured {
    fn new(pools: Option<Pools>, domains: BTreeMap<String, DomainValid>) -> Self {
        let sum: f64 = domains.values().map(|domain| domain.bits_per_byte).sum();
        let mean_bits_per_byte = sum / domains.len() as f64;
        Self { pool_size: pools.and_then(|pools| pools.size), mean_bits_per_byte, domains }
    }
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
    device::run(args.compute, Evaluating(args))
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
    let config = run_config(&checkpoint)?;
    let text = EvaluationText::choose(args.data.as_deref(), config.as_ref(), &model_config, &checkpoint)?;
    let sequence = sequence(args.sequence, config.as_ref(), &model_config);
    if args.rows == 0 || args.batch == 0 {
        return Err(Error::Usage("--rows and --batch must be positive".into()));
    }
    let routing = config.as_ref().map_or(RoutingBoundary::EosCloses, |config| config.packing().routing);
    let packing = Packing { routing, ..Packing::new(args.batch, sequence, 0) };
    let across = config.as_ref().is_some_and(|config| config.model.attend_across_documents);
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
    let settings = settings(args)?;
    let mut model = run::load(&checkpoint, args.experts.as_deref(), backend, capacity)?;
    let of = held_out.batches() * settings.len();
    let mut work = progress::Work::counting(Mode::choose(args.json), of as u64);
    let (mut found, mut before) = (Vec::with_capacity(settings.len()), 0);
    for pools in settings {
        held_out.set_pools(pools);
        let (domains, _) = held_out.run_with(&mut model, |batches| {
            let batches = before + batches;
            work.advance(batches as u64, &format!("{batches} of {of} batches"), &Event { batches, of });
        })?;
        before += held_out.batches();
        if domains.is_empty() {
            let prompt = args.pool_prompt;
            return Err(Error::Usage(format!(
                "no document is longer than the {prompt} tokens that choose its pool; give fewer with --pool-prompt"
            )));
        }
        found.push(Measured::new(pools, domains));
    }
    if !args.json {
        out!("{}", if args.pool_sizes.is_empty() { by_domain(&found[0]) } else { by_size(&found) });
    }
    let seconds = start.elapsed().as_secs_f64();
    let pool = args.pool.to_possible_value().map(|value| value.get_name().to_owned());
    let (experts, pool_sizes) = (args.experts.clone(), !args.pool_sizes.is_empty());
    let (measured, sizes) = match pool_sizes {
        true => (None, Some(found)),
        false => (found.pop(), None),
    };
    let summary =
        Evaluated { event: "summary", checkpoint, experts, pool, sequence, seconds, measured, sizes };
    work.finish(&summary, &format!("{of} batches in {seconds:.1} s"));
    Ok(())
}

/// The pools to measure with, one after the other.
fn settings(args: &Eval) -> Result<Vec<Option<Pools>>> {
    let from = match args.pool {
        Pool::None => None,
        Pool::Prompt => Some(PoolFrom::Prefix(args.pool_prompt)),
        Pool::SoFar => Some(PoolFrom::SoFar),
        Pool::Document => Some(PoolFrom::Document),
    };
    let sizes: Vec<u32> = args.pool_size.iter().chain(&args.pool_sizes).copied().collect();
    let Some(from) = from else {
        return match sizes.is_empty() {
            true => Ok(vec![None]),
            false => Err(Error::Usage(
                "--pool-size and --pool-sizes need --pool prompt, so-far or document".into(),
            )),
        };
    };
    if sizes.is_empty() || sizes.contains(&0) || args.pool_prompt == 0 {
        let message = "--pool needs --pool-size or --pool-sizes; these and --pool-prompt must be positive";
        return Err(Error::Usage(message.into()));
    }
    let all = (!args.pool_sizes.is_empty()).then_some(None);
    Ok(sizes.into_iter().map(Some).chain(all).map(|size| Some(Pools { size, from })).collect())
}

/// Domains below each other.
fn by_domain(measured: &Measured) -> String {
    let mut table =
        format!("{:<24} {:>10} {:>12} {:>10} {:>10}", "domain", "bits/byte", "nats/token", "tokens", "bytes");
    for (name, domain) in &measured.domains {
        let DomainValid { bits_per_byte, nats_per_token, tokens, bytes } = domain;
        table +=
            &format!("\n{name:<24} {bits_per_byte:>10.4} {nats_per_token:>12.4} {tokens:>10} {bytes:>10}");
    }
    table + &format!("\n{:<24} {:>10.4}", "mean of the domains", measured.mean_bits_per_byte)
}

/// Bits per byte: domains below each other, pool sizes beside each other.
fn by_size(measured: &[Measured]) -> String {
    let size = |measured: &Measured| measured.pool_size.map_or("all".to_owned(), |size| size.to_string());
    let mut table = format!("{:<24}", "bits/byte, routed experts");
    measured.iter().for_each(|one| table += &format!(" {:>8}", size(one)));
    for name in measured.iter().flat_map(|one| one.domains.keys()).collect::<BTreeSet<_>>() {
        table += &format!("\n{name:<25}");
        for one in measured {
            table += &one
                .domains
                .get(name)
                .map_or(format!(" {:>8}", "-"), |domain| format!(" {:>8.4}", domain.bits_per_byte));
        }
    }
    table += &format!("\n{:<25}", "mean of the domains");
    measured.iter().for_each(|one| table += &format!(" {:>8.4}", one.mean_bits_per_byte));
    table
}

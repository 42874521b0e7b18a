//! `trainer plan`: what a configuration costs, without allocating any of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{device, fit_table};
use crate::cli::Plan as Args;
use crate::cluster::{self, Fit, Job};
use crate::config::Config;
use crate::error::Result;
use crate::model::{Layout, Purpose};
use crate::output::{self, out};
use crate::progress::si;
use crate::train::flops::{Flops, pairs};
use crate::train::optimiser;

/// What a configuration costs.
#[derive(Debug, Serialize)]
pub(super) struct Plan {
    name: String,
    parameters: usize,
    /// Parameters that one token uses.
    active_parameters: usize,
    /// Of these, all but the embedding, which is looked up and not multiplied.
    active_multiplied: usize,
    tokens_per_step: u64,
    steps: u64,
    /// Model FLOP a token, forward and backward, rows of one document.
    flop_per_token: f64,
    /// The usual estimate of it.
    six_n: f64,
    flop_per_step: f64,
    flop_in_all: f64,
    memory_bytes: BTreeMap<&'static str, usize>,
    pub(super) memory_bytes_in_all: usize,
}

/// Prints the plan.
pub fn run(args: &Args) -> Result<()> {
    if args.example_cluster {
        output::print(format_args!("{}", cluster::EXAMPLE));
        return Ok(());
    }
    let config = Config::load(args.source.config.as_deref().unwrap_or("quickstart"), &args.source.set)?;
    // Read before anything is said, so that a slip in it is all that is said.
    let kinds = args.cluster.as_deref().map(cluster::read).transpose()?.unwrap_or_default();
    let plan = Plan::of(&config)?;
    let job = Job::new(&config)?;
    let cluster = kinds.iter().map(|kind| Fit::of(&job, kind)).collect::<Result<Vec<_>>>()?;
    if args.source.json {
        let document = Document { plan: &plan, cluster: &cluster };
        out!("{}", serde_json::to_string(&document).unwrap_or_default());
        return Ok(());
    }
    plan.print();
    cluster.iter().for_each(|fit| fit_table::print(fit, &job));
    Ok(())
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    /// For each kind of devices of `--cluster`.
    #[serde(skip_serializing_if = "<[Fit]>::is_empty")]
    cluster: &'a [Fit],
}

impl Plan {
    pub(super) fn of(config: &Config) -> Result<Self> {
        let model = config.model_config();
        let layout = Layout::new(&model)?;
        let (sequence, batch) = (config.data.sequence, config.train.batch);
        let flops = Flops::of(&model);
        let row = flops.training(sequence as f64, pairs(&[0, sequence as u32]));
        let active = layout.active(&model);
        let active_multiplied = active - layout.embedding.len();
        let entries = cluster::planned(device::cpu(config.run.threads)?, config)?;
        let mut memory = BTreeMap::new();
        for entry in &entries {
            *memory.entry(kind(entry.purpose)).or_insert(0) += entry.bytes;
        }
        memory.insert("optimiser", optimiser::moment_bytes(layout.len()));
        Ok(Self {
            name: config.run.name.clone(),
            parameters: layout.len(),
            active_parameters: active,
            active_multiplied,
            tokens_per_step: config.tokens_per_step(),
            steps: config.train.steps,
            flop_per_token: row / sequence as f64,
            six_n: 6.0 * active_multiplied as f64,
            flop_per_step: row * batch as f64,
            flop_in_all: row * batch as f64 * config.train.steps as f64,
            memory_bytes_in_all: memory.values().sum(),
            memory_bytes: memory,
        })
    }

    fn print(&self) {
        out!("{}", self.name);
        out!("  parameters          {:>14}", thousands(self.parameters));
        out!("  used by a token     {:>14}", thousands(self.active_parameters));
        out!("    without embedding {:>14}", thousands(self.active_multiplied));
        out!("  tokens a step       {:>14}", thousands(self.tokens_per_step as usize));
        out!("  steps               {:>14}", thousands(self.steps as usize));
        out!("\nmodel FLOP, forward and backward (products of matrices; attention over whole rows, causal)");
        out!("  a token             {:>14}", si(self.flop_per_token));
        out!("    6 N for comparison{:>14}", si(self.six_n));
        out!("  a step              {:>14}", si(self.flop_per_step));
        out!("  the whole run       {:>14}", si(self.flop_in_all));
        out!("\nmemory");
        for (kind, bytes) in &self.memory_bytes {
            out!("  {kind:<20}{:>14}", size(*bytes));
        }
        out!("  {:<20}{:>14}", "in all", size(self.memory_bytes_in_all));
    }
}

fn kind(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Parameters => "parameters",
        Purpose::Gradients => "gradients",
        Purpose::Activations => "activations",
        Purpose::Scratch => "workspace",
        Purpose::Inputs => "inputs",
    }
}

/// `1234567` as `1 234 567`.
pub(super) fn thousands(value: usize) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

pub(super) fn size(bytes: usize) -> String {
    format!("{}B", si(bytes as f64))
}

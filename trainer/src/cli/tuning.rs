//! Arguments of the commands that change what experts know: `finetune`, `merge`, `subset`, `grow`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Compute;
use crate::subset::merge::Take;

/// `trainer finetune`.
#[derive(Debug, Args)]
pub struct Finetune {
    /// A run's folder (its last checkpoint), or one checkpoint, full or pruned.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Shards, or a folder of text files with one sub-folder a domain [default: what the run was trained on].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Shards to validate on [default: what the run validated on].
    #[arg(long, value_name = "DIR")]
    pub valid: Option<PathBuf>,
    /// Train on this domain alone; may be repeated. Every domain is validated on.
    #[arg(long, value_name = "NAME")]
    pub domain: Vec<String>,
    /// Of each document train only what follows the last occurrence of this text.
    #[arg(long, value_name = "TEXT")]
    pub answer_after: Option<String>,
    /// What is trained [default: full, and experts with --experts].
    #[arg(long, value_enum)]
    pub tune: Option<Tune>,
    /// Train these routed experts alone: a file of `trainer select` or `trainer subset`.
    #[arg(long, value_name = "FILE")]
    pub experts: Option<PathBuf>,
    /// Train the router too, of --experts their rows alone.
    #[arg(long)]
    pub train_router: bool,
    /// Train the shared experts too.
    #[arg(long)]
    pub train_shared: bool,
    /// Optimiser steps [default: one pass over the text].
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Rows of a step [default: as in training].
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Peak learning rate [default: a tenth of the run's, else 5e-5].
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,
    /// The learning rate after a tenth of the steps as warm-up.
    #[arg(long, value_enum, default_value_t)]
    pub schedule: Fall,
    /// The new run's folder [default: runs/NAME-tuned-SEED].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seed of the order of documents (`run.seed`).
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Set any other key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Delete what an earlier run left in the folder.
    #[arg(long)]
    pub force: bool,
    /// Stop after this step as Ctrl-C would, for time-limited machines.
    #[arg(long, value_name = "STEP")]
    pub stop_after: Option<u64>,
    /// Where and how it computes.
    #[command(flatten)]
    pub compute: Compute,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// What a fine-tuning trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tune {
    /// Everything.
    Full,
    /// Routed experts, all else as it is.
    Experts,
}

/// How the learning rate of a fine-tuning goes on after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Fall {
    /// A straight line to zero.
    #[default]
    Linear,
    /// The peak throughout.
    Constant,
}

/// `trainer merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// The full model: a run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub full: PathBuf,
    /// A model tuned from it or from a part of it, likewise; may be repeated. Of several that changed the same tensor the
    /// mean is taken.
    #[arg(long, value_name = "DIR", required = true)]
    pub tuned: Vec<PathBuf>,
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Share of the tuned values; the rest is the full model's. 1 replaces.
    #[arg(long, value_name = "A", default_value_t = 1.0)]
    pub alpha: f64,
    /// What is taken from the tuned models.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "experts")]
    pub take: Vec<Take>,
    /// Replace the model that --out holds.
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `trainer subset`.
#[derive(Debug, Subcommand)]
pub enum Subset {
    /// Experts that are in any of the subsets.
    #[command(after_help = "Example:\n  trainer subset union maths.json code.json --out both.json")]
    Union(Compose),
    /// Experts that are in all of the subsets.
    #[command(after_help = "Example:\n  trainer subset intersection maths.json code.json --out common.json")]
    Intersection(Compose),
    /// Experts of the first subset that are in none of the others.
    #[command(
        after_help = "Example:\n  trainer subset difference maths.json code.json --out maths-only.json"
    )]
    Difference(Compose),
    /// Experts that are not in the subset: with `prune` or `eval --experts` a model without a capability.
    #[command(after_help = "\
Example, a model without the experts that licences use most:
  trainer select --checkpoint runs/quickstart-0 --domain licences --keep 25% --out licences.json
  trainer subset complement licences.json --out without-licences.json
  trainer eval --checkpoint runs/quickstart-0 --experts without-licences.json")]
    Complement(Compose),
    /// Print what a subset keeps of each layer.
    #[command(after_help = "Example:\n  trainer subset show maths.json")]
    Show(ShowSubset),
}

/// Subsets and where their composition goes.
#[derive(Debug, Args)]
pub struct Compose {
    /// Files of subsets.
    #[arg(value_name = "FILE", required = true)]
    pub subsets: Vec<PathBuf>,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `trainer subset show`.
#[derive(Debug, Args)]
pub struct ShowSubset {
    /// A file of a subset.
    #[arg(value_name = "FILE")]
    pub subset: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `trainer grow`.
#[derive(Debug, Args)]
pub struct Grow {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Experts of a layer afterwards, shared ones included.
    #[arg(long, value_name = "N")]
    pub experts: usize,
    /// Experts a token uses afterwards, shared ones included [default: as before].
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// What the new experts are.
    #[arg(long, value_enum, default_value_t)]
    pub from: NewExperts,
    /// Noise on copied experts, in standard deviations of each tensor's values; breaks ties between copies.
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub jitter: f64,
    /// Seed of noise and fresh experts.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// A routing.json that says how much each expert is used, for --from used [default: the run's].
    #[arg(long, value_name = "FILE")]
    pub usage: Option<PathBuf>,
    /// Replace the model that --out holds.
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// What new experts start as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum NewExperts {
    /// Copies of all experts in turn, from the first.
    #[default]
    Copy,
    /// Copies of the most used experts of each layer.
    Used,
    /// Random weights, as at the start of a training.
    Fresh,
}

//! Arguments of the commands around training: `pretrain`, `plan`, `config`.

use std::path::PathBuf;

use clap::Args;

use super::Device;
use crate::config::Storage;

/// A configuration and what is laid over it.
#[derive(Debug, Args)]
pub struct Source {
    /// A preset's name (see `trainer config --list`) or a TOML file. By default `quickstart`; with --resume the
    /// configuration that the run was started with.
    #[arg(value_name = "CONFIG")]
    pub config: Option<String>,
    /// Set one key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `trainer pretrain`.
#[derive(Debug, Args)]
pub struct Pretrain {
    /// The configuration.
    #[command(flatten)]
    pub source: Source,
    /// The run's folder [default: runs/NAME-SEED].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Optimiser steps of the whole run (`train.steps`).
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Seed of weights, order and pools (`run.seed`).
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Threads (`run.threads`); results do not depend on it.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Device,
    /// What activations and matrices are held in (`train.storage`); checkpoints are f32 in either case.
    #[arg(long, value_enum)]
    pub storage: Option<Storage>,
    /// Continue the run from its last checkpoint, bit for bit; --set may change the learning rate, its schedule and the
    /// clipping from there on.
    #[arg(long)]
    pub resume: bool,
    /// Delete what an earlier run left in the folder.
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
    /// Stop after this step of the run as Ctrl-C would, for time-limited machines.
    #[arg(long, value_name = "STEP")]
    pub stop_after: Option<u64>,
}

/// `trainer plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// The configuration.
    #[command(flatten)]
    pub source: Source,
    /// What fits where on the devices that this TOML file describes, and the least time of a step there: computed from
    /// the file's figures, never measured.
    #[arg(long, value_name = "FILE")]
    pub cluster: Option<PathBuf>,
    /// Print a description of a cluster to fill in.
    #[arg(long, conflicts_with_all = ["cluster", "config", "set", "json"])]
    pub example_cluster: bool,
}

/// `trainer config`.
#[derive(Debug, Args)]
pub struct ShowConfig {
    /// The preset, or a file.
    #[arg(value_name = "PRESET", required_unless_present = "list")]
    pub preset: Option<String>,
    /// Name the presets and say what each is for.
    #[arg(long)]
    pub list: bool,
    /// Print every key, defaults and bases written out, instead of the preset's own text.
    #[arg(long)]
    pub full: bool,
}

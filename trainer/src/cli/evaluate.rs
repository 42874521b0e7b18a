//! Arguments of the commands that run a trained model: `generate` and `eval`.

use std::path::PathBuf;

use clap::Args;

use super::Device;
use crate::config::Storage;

/// `trainer generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The text to continue.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prompt: String,
    /// How many tokens to add at most.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub tokens: usize,
    /// Divides the logits; 0 always takes the likeliest token.
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    pub temperature: f64,
    /// Draw among the likeliest tokens that together have this probability.
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    pub top_p: f64,
    /// Seed of the draws.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Threads; 0 = all cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Device,
    /// What activations and matrices are held in; checkpoints are f32 in either case.
    #[arg(long, value_enum, default_value_t)]
    pub storage: Storage,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `trainer eval`.
#[derive(Debug, Args)]
pub struct Eval {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Shards, or a folder of text files with one sub-folder a domain [default: what the run held out].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Rows of each domain at most, spread evenly over it.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub rows: usize,
    /// Tokens of a row [default: as in training].
    #[arg(long, value_name = "N")]
    pub sequence: Option<usize>,
    /// Rows computed at once.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub batch: usize,
    /// Threads; 0 = all cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Device,
    /// What activations and matrices are held in; checkpoints are f32 in either case.
    #[arg(long, value_enum, default_value_t)]
    pub storage: Storage,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

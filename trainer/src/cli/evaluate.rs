//! Arguments of `trainer eval`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Benchmarks, Compute};

/// After the help.
pub(super) const HELP: &str = "\
Examples:
  trainer eval --checkpoint runs/quickstart-0
  trainer eval --checkpoint runs/mine-0 --data shards/valid --rows 64 --json
  trainer eval --checkpoint runs/mine-0 --experts code.json
  trainer eval --checkpoint runs/mine-0 --pool prompt --pool-sizes 4,8,16,32
  trainer eval --checkpoint runs/mine-0 --requests target/evals/piqa target/evals/lambada --limit 200
A pool is a document's own choice of experts, in each layer those with the largest summed router scores. What chooses it:
  prompt    its first tokens (--pool-prompt); they use all experts, and only what follows them is measured
  so-far    at each token, the document up to that token
  document  the whole document, as in training. It looks ahead: routing depends on the tokens that are to be predicted, so
            that the result is no measure of prediction.";

/// `trainer eval`.
#[derive(Debug, Args)]
pub struct Eval {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Shards, or a folder of text files with one sub-folder a domain [default: what the run held out].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Benchmarks instead of text.
    #[command(flatten)]
    pub benchmarks: Benchmarks,
    /// Rows of each domain at most, spread evenly over it.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub rows: usize,
    /// Tokens of a row [default: as in training].
    #[arg(long, value_name = "N")]
    pub sequence: Option<usize>,
    /// Rows computed at once.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub batch: usize,
    /// Use only these experts, as `trainer select` writes them; only they are loaded.
    #[arg(long, value_name = "FILE")]
    pub experts: Option<PathBuf>,
    /// What chooses a document's pool of experts.
    #[arg(long, value_enum, default_value_t)]
    pub pool: Pool,
    /// Routed experts of a pool; shared ones come on top.
    #[arg(long, value_name = "M", conflicts_with = "pool_sizes")]
    pub pool_size: Option<u32>,
    /// Measure with pools of several sizes, and with all experts on the same tokens.
    #[arg(long, value_name = "M,M,...", value_delimiter = ',')]
    pub pool_sizes: Vec<u32>,
    /// Tokens at the start of a document that choose its pool, for `--pool prompt`.
    #[arg(long, value_name = "P", default_value_t = 64)]
    pub pool_prompt: usize,
    /// Where and how it computes.
    #[command(flatten)]
    pub compute: Compute,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// What chooses a document's pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Pool {
    /// There are no pools.
    #[default]
    None,
    /// The document's first tokens.
    Prompt,
    /// At each token, the document up to it.
    SoFar,
    /// The whole document, later tokens too.
    Document,
}

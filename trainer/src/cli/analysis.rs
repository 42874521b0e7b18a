//! Arguments of the commands that look at what experts do.

use std::path::PathBuf;

use clap::Args;

use super::Compute;

/// After the help of `trainer analyse`.
pub(super) const ANALYSE: &str = "\
Examples:
  trainer analyse --checkpoint runs/quickstart-0 --out analysis/emo
  trainer analyse --checkpoint runs/standard-0 --out analysis/standard --compare analysis/emo/analysis.json
Reads the same number of passages of each domain, without document pools, and writes analysis.json and analysis.html.";

/// After the help of `trainer monitor`.
pub(super) const MONITOR: &str = "\
Examples:
  trainer monitor --checkpoint runs/quickstart-0 src/lib.rs
  trainer monitor --checkpoint runs/quickstart-0 --follow notes.txt
  tail -f notes.txt | trainer monitor --checkpoint runs/quickstart-0 -
On a terminal the bars are drawn in place; elsewhere every update is a line. Text is routed without document pools.";

/// `trainer analyse`.
#[derive(Debug, Args)]
pub struct Analyse {
    /// A run's folder (its last checkpoint, and the earlier ones for stability) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Shards, or a folder of text files with one sub-folder a domain [default: what the run held out].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder for analysis.json and analysis.html.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// An analysis.json of another model, to show beside this one.
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// Passages of each domain at most, of different documents as long as there are any.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub documents: usize,
    /// Tokens of a passage at most [default: as in training].
    #[arg(long, value_name = "N")]
    pub sequence: Option<usize>,
    /// Clusters of tokens; 0 leaves them out.
    #[arg(long, value_name = "K", default_value_t = 32)]
    pub clusters: usize,
    /// Tokens that are clustered at most, evenly spaced among the first ones of every passage.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub cluster_tokens: usize,
    /// How many first tokens of a passage are clustered.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub prefix: usize,
    /// Tokens that every expert is shown to compare what experts compute; 0 leaves this out.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub probe: usize,
    /// Earlier checkpoints of the run that are compared with the last at most; 0 leaves this out.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub earlier: usize,
    /// Seed of k-means and of domains drawn by lot; the default is the paper's.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Passages computed at once.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub batch: usize,
    /// Where and how it computes.
    #[command(flatten)]
    pub compute: Compute,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `trainer monitor`.
#[derive(Debug, Args)]
pub struct Monitor {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The text: a file, or - for the standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// Go on when the file's end is reached, and wait for more text, until Ctrl-C.
    #[arg(long)]
    pub follow: bool,
    /// Tokens that the figures look back on.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub window: usize,
    /// Experts shown of each layer.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub experts: usize,
    /// Tokens between two updates.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub every: usize,
    /// A Hugging Face tokenizer.json, or its folder [default: what the checkpoint holds; bytes].
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
    /// Where and how it computes.
    #[command(flatten)]
    pub compute: Compute,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

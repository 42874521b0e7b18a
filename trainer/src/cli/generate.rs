//! Arguments of `trainer generate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Compute;

/// After the help.
pub(super) const HELP: &str = "\
Examples:
  trainer generate --checkpoint runs/quickstart-0 --prompt 'pub fn ' --tokens 200
  trainer generate --checkpoint downloads/OLMoE-1B-7B --prompt 'The capital of' --temperature 0 --json
  trainer generate --checkpoint runs/mine-0 --experts code.json --prompt 'pub fn '
  trainer generate --checkpoint runs/mine-0 --pool prompt --pool-size 8 --prompt 'pub fn '
Text goes to the standard output as it comes, the time of the prompt and of each token to the standard error. It ends at the
token that ends a document, after --tokens, or where the model's positions end.";

/// `trainer generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The text to continue.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prompt: String,
    /// A Hugging Face tokenizer.json, or its folder [default: what the checkpoint holds; bytes].
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
    /// Use only these experts, as `trainer select` writes them; only they are loaded.
    #[arg(long, value_name = "FILE")]
    pub experts: Option<PathBuf>,
    /// What chooses a pool of experts, in each layer those with the largest summed router scores.
    #[arg(long, value_enum, default_value_t)]
    pub pool: TextPool,
    /// Routed experts of the pool; shared ones come on top.
    #[arg(long, value_name = "M")]
    pub pool_size: Option<u32>,
    /// Tokens after which `--pool so-far` chooses again.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub pool_every: usize,
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
    /// Where and how it computes.
    #[command(flatten)]
    pub compute: Compute,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What chooses the pool of a text that is being written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TextPool {
    /// There is no pool.
    #[default]
    None,
    /// The prompt, once.
    Prompt,
    /// The text so far, again every --pool-every tokens; not where routers smooth over tokens.
    SoFar,
}

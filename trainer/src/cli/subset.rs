//! Arguments of the commands around subsets of experts: `select` and `prune`.

use std::path::PathBuf;

use clap::Args;

use super::{Compute, Transfer};
use crate::subset::Keep;
use crate::subset::select::Method;
use crate::subset::select::source::Split;

/// After the help of `trainer select`.
pub(super) const SELECT: &str = "\
Examples:
  trainer select --checkpoint runs/mine-0 --domain code --keep 12.5% --out code.json
  trainer select --checkpoint runs/mine-0 --domain code --documents 1 --keep 16 --method easy-ep --out code.json
  trainer select --checkpoint runs/mine-0 --prompt 'fn main() {' --keep 8 --out prompt.json
Documents come from the text that the run was trained on, which `trainer eval` never measures on. Use what is chosen:
  trainer eval --checkpoint runs/mine-0 --experts code.json
  trainer prune --checkpoint runs/mine-0 --experts code.json --out models/code";

/// After the help of `trainer prune`.
pub(super) const PRUNE: &str = "\
Example:
  trainer select --checkpoint runs/mine-0 --domain code --keep 12.5% --out code.json
  trainer prune --checkpoint runs/mine-0 --experts code.json --out models/code --dtype bf16
Pruning is for other programs and smaller files: `trainer eval` and `trainer generate` take --experts, and then load only
the kept experts of the whole model.";

/// `trainer select`.
#[derive(Debug, Args)]
pub struct Select {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Experts to keep in each layer, shared ones counted: a number, a share such as 12.5%, or a list with an entry for
    /// each layer with experts.
    #[arg(long, value_name = "K")]
    pub keep: Keep,
    /// How experts are ranked.
    #[arg(long, value_enum, default_value_t)]
    pub method: Method,
    /// The domain whose documents are looked at [default: documents of all domains].
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,
    /// How many documents.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub documents: usize,
    /// Which part of the run's text they come from [default: train].
    #[arg(long, value_enum)]
    pub split: Option<Split>,
    /// Shards, or a folder of text files with one sub-folder a domain, instead of the run's text.
    #[arg(long, value_name = "DIR", conflicts_with = "split")]
    pub data: Option<PathBuf>,
    /// Text to choose by instead of documents; may be repeated.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["domain", "split", "data"])]
    pub prompt: Vec<String>,
    /// A file whose text is a prompt; may be repeated.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["domain", "split", "data"])]
    pub prompt_file: Vec<PathBuf>,
    /// A Hugging Face tokenizer.json for the prompts, or its folder [default: what the checkpoint holds; bytes].
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
    /// Tokens of a document that are looked at, from its start [default: as in training].
    #[arg(long, value_name = "N")]
    pub sequence: Option<usize>,
    /// Documents of that length computed at once.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub batch: usize,
    /// Seed of the draw of documents, and of the method `random`.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Where and how it computes.
    #[command(flatten)]
    pub compute: Compute,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `trainer prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The experts to keep, as `trainer select` writes them.
    #[arg(long, value_name = "FILE")]
    pub experts: PathBuf,
    /// How the copy is to look.
    #[command(flatten)]
    pub transfer: Transfer,
}

//! Arguments of `trainer retention`.

use std::path::PathBuf;

use clap::Args;

use super::Compute;
use crate::subset::Keep;
use crate::subset::select::Method;

/// After the help.
pub(super) const HELP: &str = "\
Examples:
  trainer retention --checkpoint runs/mine-0
  trainer retention --checkpoint runs/mine-0 --keep 25% --keep 12.5% --documents 1,5,100 --method layerwise,random --json
Experts are chosen by documents that the run was trained on (or --select-data) and measured on what it held out (or --data).";

/// `trainer retention`.
#[derive(Debug, Args)]
pub struct Retention {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Experts to keep in each layer, shared ones counted: a number, a share such as 12.5%, or a list with an entry for
    /// each layer with experts. For several sizes repeat it [default: 50%, 25%, 12.5% and 6.25%].
    #[arg(long, value_name = "K")]
    pub keep: Vec<Keep>,
    /// How experts are ranked.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "layerwise")]
    pub method: Vec<Method>,
    /// How many documents experts are chosen by.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "5")]
    pub documents: Vec<usize>,
    /// Measure each subset on every domain, not only on the one it was chosen for.
    #[arg(long)]
    pub across: bool,
    /// Shards, or a folder of text files with one sub-folder a domain, to choose by [default: what the run was trained on].
    #[arg(long, value_name = "DIR")]
    pub select_data: Option<PathBuf>,
    /// The same, to measure on [default: what the run held out].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Rows of each domain at most, spread evenly over it.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub rows: usize,
    /// Tokens of a row [default: as in training].
    #[arg(long, value_name = "N")]
    pub sequence: Option<usize>,
    /// Rows computed at once.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub batch: usize,
    /// Seed of the draws.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Also write the JSON summary to this file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Where and how it computes.
    #[command(flatten)]
    pub compute: Compute,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

//! Arguments of `trainer report`.

use std::path::PathBuf;

use clap::Args;

/// After the help.
pub(super) const HELP: &str = "\
Examples:
  trainer report runs/emo-0 runs/standard-0 runs/dense-0 --out comparison.html
  trainer report runs/emo-0 runs/standard-0 --retention emo.json standard.json --analysis emo/analysis.json standard/analysis.json \
--out report.html
  trainer report runs/quickstart-0
With one run and without --out, the run's own report.html is written again. Models are called after the folders of their runs.";

/// `trainer report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Folders of runs.
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The page to write [default, for one run: its report.html].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// What `trainer retention --out FILE` wrote, one a model: curves of the loss by share of experts kept.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub retention: Vec<PathBuf>,
    /// The analysis.json that `trainer analyse` wrote, of one model or two: heat maps, and the explorer of token clusters.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub analysis: Vec<PathBuf>,
    /// Tokens of context of the n-gram model that each domain is compared with, 1 to 4; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=4))]
    pub ngram: u8,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

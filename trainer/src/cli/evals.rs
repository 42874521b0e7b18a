//! Arguments of `trainer eval` on benchmarks.

use std::path::PathBuf;

use clap::Args;

/// Benchmarks of a `trainer eval`.
#[derive(Debug, Args)]
pub struct Benchmarks {
    /// Answer the requests of these files or folders (requests.jsonl, also .gz); `cargo xtask evals` fetches a collection.
    #[arg(long, value_name = "PATH", num_args = 1.., 
          conflicts_with_all = ["data", "rows", "pool", "pool_size", "pool_sizes", "pool_prompt"])]
    pub requests: Vec<PathBuf>,
    /// The first questions of each benchmark only.
    #[arg(long, value_name = "N", requires = "requests")]
    pub limit: Option<usize>,
    /// Also write answers where requests say how they end, and compare them with the right ones.
    #[arg(long, requires = "requests")]
    pub generate: bool,
    /// A Hugging Face tokenizer.json, or its folder [default: what the checkpoint holds; bytes].
    #[arg(long, value_name = "PATH", requires = "requests")]
    pub tokenizer: Option<PathBuf>,
}

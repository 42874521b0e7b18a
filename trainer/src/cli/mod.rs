//! The command line: what can be said, with an example in every `--help`.

mod analysis;
mod bench;
mod checkpoint;
mod data;
mod device;
mod evals;
mod evaluate;
mod generate;
mod pretrain;
mod report;
mod retention;
mod subset;
mod tuning;

use clap::{Args, Parser, Subcommand};

pub use analysis::{Analyse, Monitor};
pub use bench::{Bench, Versus};
pub use checkpoint::{Dtype, Export, ExportFamily, Import, Inspect, Transfer};
pub use data::{BuildShards, CheckShards, Data, IdType, Inputs, TrainTokenizer};
pub use device::{Compute, Device};
pub use evals::Benchmarks;
pub use evaluate::{Eval, Pool};
pub use generate::{Generate, TextPool};
pub use pretrain::{Plan, Pretrain, ShowConfig, Source};
pub use report::Report;
pub use retention::Retention;
pub use subset::{Prune, Select};
pub use tuning::{Compose, Fall, Finetune, Grow, Merge, NewExperts, ShowSubset, Subset, Tune};

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
    /// Print parameters, FLOPs a token and memory of a configuration, and what of it fits where on a cluster, without
    /// allocating any of it.
    #[command(after_help = "\
Examples:
  trainer plan quickstart
  trainer plan emo-1b14b --json
  trainer plan --example-cluster > cluster.toml
  trainer plan emo-1b14b --set train.storage=bf16 --cluster cluster.toml
With --cluster: memory, work and traffic of a device for each number of devices and of devices that share the experts,
computed from the file's figures and measured nowhere. The trainer itself runs on one device.")]
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
    #[command(after_help = generate::HELP)]
    Generate(Generate),
    /// Measure bits per byte of held-out text, by domain, or answer benchmarks.
    #[command(after_help = evaluate::HELP)]
    Eval(Eval),
    /// Measure how much of a model's quality is left in subsets of its experts.
    #[command(after_help = retention::HELP)]
    Retention(Retention),
    /// Choose the experts that a domain needs, from a few documents or prompts.
    #[command(after_help = subset::SELECT)]
    Select(Select),
    /// Write a smaller checkpoint that keeps only some experts.
    #[command(after_help = subset::PRUNE)]
    Prune(Prune),
    /// Show what the experts of a model do: by domain, layer and token, with clusters, as JSON and as a page.
    #[command(after_help = analysis::ANALYSE)]
    Analyse(Analyse),
    /// Write the page of a run again, or of several runs side by side.
    #[command(after_help = report::HELP)]
    Report(Report),
    /// Watch which experts read a text while it comes in.
    #[command(after_help = analysis::MONITOR)]
    Monitor(Monitor),
    /// Show what a checkpoint, a run or a folder of shards holds.
    #[command(
        after_help = "Examples:\n  trainer inspect runs/quickstart-0 --tensors\n  trainer inspect shards/train --json"
    )]
    Inspect(Inspect),
    /// Train a checkpoint further: all of it, its experts, or some of them alone.
    #[command(after_help = "\
Examples:
  trainer finetune --checkpoint runs/quickstart-0 --domain rust --steps 200
  trainer finetune --checkpoint pruned --data shards/maths --tune experts --train-router --out runs/maths
  trainer finetune --checkpoint runs/quickstart-0 --data shards/maths --experts maths.json --out runs/maths
The run has a folder like any other: `trainer pretrain --resume --out DIR` goes on with it.")]
    Finetune(Finetune),
    /// Put tuned experts back at their places in the full model.
    #[command(after_help = "\
Examples:
  trainer merge --full runs/quickstart-0 --tuned runs/maths --out merged
  trainer merge --full runs/quickstart-0 --tuned runs/maths --tuned runs/code --take experts,router --alpha 0.5 --out merged")]
    Merge(Merge),
    /// Union, intersection, difference and complement of subsets of experts.
    #[command(
        subcommand,
        after_help = "\
Examples:
  trainer subset union maths.json code.json --out both.json
  trainer subset show both.json"
    )]
    Subset(Subset),
    /// Add experts to a trained model, to train it on from there.
    #[command(after_help = "\
Examples, from 31 routed experts and a shared one:
  trainer grow --checkpoint runs/quickstart-0 --experts 63 --top-k 7 --out grown
  trainer grow --checkpoint runs/quickstart-0 --experts 40 --from used --jitter 0.01 --out grown
The first one keeps the function: every routed expert twice, and twice as many of them for a token.")]
    Grow(Grow),
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
    #[command(
        subcommand,
        after_help = "\
Examples:
  trainer data build corpus/train.jsonl --domain-key domain --out shards/train
  trainer data check shards/train"
    )]
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

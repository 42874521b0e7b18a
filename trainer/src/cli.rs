//! The command line: what can be said, with an example in every `--help`.

mod analysis;

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use analysis::{Analyse, Monitor};

use crate::config::Storage;

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
    /// Show what the experts of a model do: by domain, layer and token, with clusters, as JSON and as a page.
    #[command(after_help = "\
Examples:
  trainer analyse --checkpoint runs/quickstart-0 --out analysis/emo
  trainer analyse --checkpoint runs/standard-0 --out analysis/standard --compare analysis/emo/analysis.json")]
    Analyse(Analyse),
    /// Watch which experts read a text while it comes in.
    #[command(after_help = "\
Examples:
  trainer monitor --checkpoint runs/quickstart-0 src/lib.rs
  tail -f notes.txt | trainer monitor --checkpoint runs/quickstart-0 -")]
    Monitor(Monitor),
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

/// A configuration and what is laid over it.
#[derive(Debug, Args)]
pub struct Source {
    /// A preset's name (see `trainer config --list`) or a TOML file. By default `quickstart`; with --resume the
    /// configuration that the run was started with.
    #[arg(value_name = "CONFIG")]
    pub config: Option<String>,
    /// Set one key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `trainer pretrain`.
#[derive(Debug, Args)]
pub struct Pretrain {
    /// The configuration.
    #[command(flatten)]
    pub source: Source,
    /// The run's folder [default: runs/NAME-SEED].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Optimiser steps of the whole run (`train.steps`).
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Seed of weights, order and pools (`run.seed`).
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Threads (`run.threads`); results do not depend on it.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Device,
    /// What activations and matrices are held in (`train.storage`); checkpoints are f32 in either case.
    #[arg(long, value_enum)]
    pub storage: Option<Storage>,
    /// Continue the run from its last checkpoint, bit for bit; --set may change the learning rate, its schedule and the
    /// clipping from there on.
    #[arg(long)]
    pub resume: bool,
    /// Delete what an earlier run left in the folder.
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
    /// Stop after this step of the run as Ctrl-C would, for time-limited machines.
    #[arg(long, value_name = "STEP")]
    pub stop_after: Option<u64>,
}

/// `trainer plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// The configuration.
    #[command(flatten)]
    pub source: Source,
}

/// `trainer generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The text to continue.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prompt: String,
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
    /// Threads; 0 = all cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Device,
    /// What activations and matrices are held in; checkpoints are f32 in either case.
    #[arg(long, value_enum, default_value_t)]
    pub storage: Storage,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `trainer eval`.
#[derive(Debug, Args)]
pub struct Eval {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Shards, or a folder of text files with one sub-folder a domain [default: what the run held out].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Rows of each domain at most, spread evenly over it.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub rows: usize,
    /// Tokens of a row [default: as in training].
    #[arg(long, value_name = "N")]
    pub sequence: Option<usize>,
    /// Rows computed at once.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub batch: usize,
    /// Threads; 0 = all cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Device,
    /// What activations and matrices are held in; checkpoints are f32 in either case.
    #[arg(long, value_enum, default_value_t)]
    pub storage: Storage,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `trainer inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A checkpoint, a run, or a folder of shards.
    #[arg(value_name = "DIR")]
    pub path: PathBuf,
    /// List every parameter tensor.
    #[arg(long)]
    pub tensors: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `trainer completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// How a copy of a checkpoint is to look.
#[derive(Debug, Args)]
pub struct Transfer {
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Type of the tensors.
    #[arg(long, value_enum, default_value_t)]
    pub dtype: Dtype,
    /// Megabytes of a file of weights at most, a larger tensor alone in its own.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub shard_mb: u64,
    /// Replace the model that --out holds.
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `trainer export`.
#[derive(Debug, Args)]
pub struct Export {
    /// A run's folder (its last checkpoint) or one checkpoint.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Whose names and configuration.
    #[arg(long, value_enum, default_value_t)]
    pub family: ExportFamily,
    /// How the copy is to look.
    #[command(flatten)]
    pub transfer: Transfer,
}

/// `trainer import`.
#[derive(Debug, Args)]
pub struct Import {
    /// A folder with config.json and safetensors files: emo, olmoe, flex_olmo, mixtral, qwen3_moe.
    #[arg(value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// How the copy is to look.
    #[command(flatten)]
    pub transfer: Transfer,
}

/// Type of a checkpoint's tensors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// As they are.
    #[default]
    Keep,
    /// 32 bits.
    F32,
    /// The upper 16 of these, rounded to the nearest.
    Bf16,
}

/// A model family to export to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum ExportFamily {
    /// Ai2's EMO: every model of this program.
    #[default]
    Emo,
    /// Softmax routers without shared experts, queries and keys normalised over the full width.
    Olmoe,
    /// The same with the norms after the blocks.
    FlexOlmo,
    /// Softmax routers renormalised over the top k, no QK-norm.
    Mixtral,
    /// Softmax routers, queries and keys normalised per head, dense layers among the others.
    Qwen3Moe,
}

impl From<ExportFamily> for crate::checkpoint::Family {
    fn from(family: ExportFamily) -> Self {
        match family {
            ExportFamily::Emo => Self::Emo,
            ExportFamily::Olmoe => Self::Olmoe,
            ExportFamily::FlexOlmo => Self::FlexOlmo,
            ExportFamily::Mixtral => Self::Mixtral,
            ExportFamily::Qwen3Moe => Self::Qwen3Moe,
        }
    }
}

/// `trainer data`.
#[derive(Debug, Subcommand)]
pub enum Data {
    /// Tokenise JSON lines, Parquet, text and token files into shards that training maps into memory.
    #[command(after_help = "\
Examples:
  trainer data build corpus/train.jsonl.zst --domain-key domain --out shards/train
  trainer data build books/ --tokenizer dolma2/tokenizer.json --out shards/books
  trainer data build part-*.npy --npy-dtype uint32 --tokenizer dolma2/tokenizer.json --out shards/web
Train on them with `data.source = \"shards\"` and `data.path = \"shards/train\"`. An interrupted build goes on with the same
command and gives the same files.")]
    Build(BuildShards),
    /// Train a byte-level BPE tokenizer and write it as a tokenizer.json.
    #[command(
        after_help = "Example:\n  trainer data train-tokenizer corpus/train.jsonl --vocabulary 4096 --out tokenizer.json"
    )]
    TrainTokenizer(TrainTokenizer),
    /// Read shards whole, check them, and say what they hold.
    #[command(after_help = "Example:\n  trainer data check shards/train")]
    Check(CheckShards),
}

/// What text is read, and how.
#[derive(Debug, Args)]
pub struct Inputs {
    /// Files and folders: *.jsonl, *.ndjson, *.json (also .gz, .zst), *.parquet, *.npy; any other file is one document.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Key of a JSON object, or Parquet column, that holds the text.
    #[arg(long, value_name = "KEY", default_value = "text")]
    pub text_key: String,
    /// Key or column that names the domain [default: the first folder below PATH, else the file's name].
    #[arg(long, value_name = "KEY", conflicts_with = "domain")]
    pub domain_key: Option<String>,
    /// One domain for all documents.
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,
    /// Leave out and count records that cannot be read, instead of stopping at the first.
    #[arg(long)]
    pub skip_invalid: bool,
    /// Threads; 0 = all cores. Results do not depend on it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `trainer data build`.
#[derive(Debug, Args)]
pub struct BuildShards {
    /// What is read.
    #[command(flatten)]
    pub inputs: Inputs,
    /// The folder of the shards.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// `bytes`, or a Hugging Face tokenizer.json (or its folder).
    #[arg(long, value_name = "NAME", default_value = "bytes")]
    pub tokenizer: String,
    /// Token that ends a document [default: the usual names, <|endoftext|> and others].
    #[arg(long, value_name = "TOKEN")]
    pub eos: Option<String>,
    /// Type of the ids in *.npy files, which have no header.
    #[arg(long, value_name = "TYPE")]
    pub npy_dtype: Option<IdType>,
    /// Close a shard at so many tokens.
    #[arg(long, value_name = "N", default_value_t = 1 << 27)]
    pub shard_tokens: u64,
    /// Delete the shards that an earlier build left in --out.
    #[arg(long)]
    pub force: bool,
}

/// Type of an id in a token file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IdType {
    /// 16 bits, little-endian.
    Uint16,
    /// 32 bits, little-endian.
    Uint32,
}

/// `trainer data train-tokenizer`.
#[derive(Debug, Args)]
pub struct TrainTokenizer {
    /// What is read.
    #[command(flatten)]
    pub inputs: Inputs,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Tokens of the vocabulary, 256 bytes and the end of a document included.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub vocabulary: usize,
    /// Text to learn from, in bytes: of larger inputs, documents spread over all of them.
    #[arg(long, value_name = "N", default_value_t = 256 << 20)]
    pub sample_bytes: u64,
}

/// `trainer data check`.
#[derive(Debug, Args)]
pub struct CheckShards {
    /// The folder of the shards.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Print the manifest as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `trainer config`.
#[derive(Debug, Args)]
pub struct ShowConfig {
    /// The preset, or a file.
    #[arg(value_name = "PRESET", required_unless_present = "list")]
    pub preset: Option<String>,
    /// Name the presets and say what each is for.
    #[arg(long)]
    pub list: bool,
    /// Print every key, defaults and bases written out, instead of the preset's own text.
    #[arg(long)]
    pub full: bool,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// A GPU where there is one, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("expected `auto`, `cpu`, `cuda` or `cuda:N` for the GPU of number N, found `{text}`");
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Self::Cuda).ok_or_else(refused),
        }
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

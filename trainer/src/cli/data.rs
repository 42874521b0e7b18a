//! Arguments of `trainer data`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

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

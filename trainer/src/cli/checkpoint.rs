//! Arguments of the commands that look at checkpoints and rewrite them: `inspect`, `export`, `import`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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

//! The sections of a configuration file. Every field has a default, so a file states only what differs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[model]`: the decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Model width `d`.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; 0 = as many as `heads`.
    pub kv_heads: usize,
    /// Elements of a head; 0 = `width / heads`.
    pub head_dim: usize,
    /// Tokens of the vocabulary; 0 = what the tokeniser needs.
    pub vocabulary: usize,
    /// Width of an expert.
    pub expert_width: usize,
    /// Width of the feed-forward block of dense layers.
    pub dense_width: usize,
    /// Layers, from 0, whose feed-forward block is dense instead of a mixture of experts.
    pub dense_layers: Vec<usize>,
    /// The experts' non-linearity.
    pub activation: Activation,
    /// Whether experts have a gate: with `silu` this is SwiGLU.
    pub gated: bool,
    /// RMSNorm on queries and keys.
    pub qk_norm: QkNorm,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    pub norm_eps: f64,
    /// Standard deviation of the initial weights, a normal distribution cut at three of them.
    pub init_std: f64,
    /// Let attention cross the documents packed into one row.
    pub attend_across_documents: bool,
    /// Use the embedding table as the head's weight too.
    pub tied_embeddings: bool,
}

/// The non-linearity of an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x sigmoid(x)`.
    Silu,
    /// GELU by the error function.
    Gelu,
    /// GELU by the tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2`.
    ReluSquared,
}

/// RMSNorm on queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// None, as in EMO.
    None,
    /// Over all heads together, as in OLMoE.
    Full,
    /// Over each head, as in Qwen3.
    Head,
}

/// `[router]`: which experts a token uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Router {
    /// Experts of a layer, shared ones included.
    pub experts: usize,
    /// Experts that a token uses, shared ones included.
    pub top_k: usize,
    /// How many of the last experts are shared: every token uses them.
    pub shared: usize,
    /// The weight of a shared expert.
    pub shared_weight: SharedWeight,
    /// How logits become scores.
    pub score: Score,
    /// Divides the logits.
    pub temperature: f64,
    /// Norm that the chosen scores are divided by.
    pub normalise: Normalise,
    /// A learned bias on the logits.
    pub gate_bias: bool,
    /// Step of the score-correction bias (loss-free balancing); 0 turns it off.
    pub loss_free_rate: f64,
    /// Routed experts that every token takes.
    pub always_active: Vec<u32>,
    /// How many experts a document may use in training.
    pub pool: Pool,
    /// What draws a size of its own.
    pub pool_draw: PoolDraw,
    /// Smallest pool, in routed experts.
    pub pool_min: usize,
    /// Largest pool, in routed experts; at or above the number of routed experts nothing is masked. A fixed pool's size.
    pub pool_max: usize,
    /// The last so many routed experts are in every pool.
    pub pool_forced: usize,
    /// Steps over which both bounds fall from all routed experts to their values; 0 = at once.
    pub pool_ramp: u64,
    /// Share of the run's steps that have pools; the steps after it route freely.
    pub pool_until: f64,
    /// Share of the documents that route freely in every layer.
    pub pool_unpooled: f64,
    /// Layers below this one have no pools.
    pub pool_first_layer: usize,
    /// Which routing document an end-of-document token belongs to.
    pub eos: EosSide,
    /// A 1-D convolution over the logits of a document's tokens, starting from equal taps.
    pub smoothing: Smoothing,
    /// Its taps, 1 to 9.
    pub smoothing_width: usize,
    /// Centre the taps on the token instead of ending them there: lets a token see the next ones.
    pub smoothing_centred: bool,
    /// Taps of its own for every expert.
    pub smoothing_depthwise: bool,
    /// Divide by the sum of the taps inside the document.
    pub smoothing_renormalise: bool,
    /// Allow settings that let a token's routing see the next token, which in a language model leaks the target.
    pub allow_noncausal: bool,
}

/// The weight of a shared expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedWeight {
    /// 1 each.
    One,
    /// A softmax over the shared experts' logits.
    Softmax,
}

/// How logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// A softmax over the permitted experts.
    Softmax,
    /// Each expert's own sigmoid.
    Sigmoid,
}

/// Norm that the chosen scores are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// None: OLMoE, EMO.
    None,
    /// Their sum: Mixtral.
    L1,
    /// Their Euclidean norm.
    L2,
}

/// How many experts a document may use in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// All of them: an ordinary mixture of experts.
    None,
    /// Uniform on `pool_min..=pool_max` (EMO).
    Uniform,
    /// The logarithm uniform between those of `pool_min` and `pool_max`: half of the pools are below their geometric mean.
    LogUniform,
    /// Always `pool_max`.
    Fixed,
}

/// What draws a pool size of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolDraw {
    /// Every layer of every document (EMO).
    Layer,
    /// Every document, for all of its layers: as a model whose layers all keep equally few experts.
    Document,
}

/// Which routing document an end-of-document token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EosSide {
    /// The document that it ends, as in attention.
    Ends,
    /// The next one: the released training code's convention (`ai2-compat`).
    OpensNext,
}

/// A 1-D convolution over routing logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Smoothing {
    /// None, as in EMO.
    None,
    /// Equal taps: a moving average.
    Fixed,
    /// Taps that are parameters.
    Learned,
}

/// `[losses]`: weights; 0 turns a loss off. docs/losses.md has the formulas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Losses {
    /// Load balance, divided by the number of mixture layers.
    pub load_balance: f64,
    /// Over which tokens the load is counted.
    pub load_balance_scope: Scope,
    /// Router z-loss, divided by the number of mixture layers.
    pub router_z: f64,
    /// LM-head z-loss.
    pub head_z: f64,
    /// Mean entropy of a token's scores, to be low.
    pub token_entropy: f64,
    /// Entropy of the mean scores, to be high.
    pub marginal_entropy: f64,
    /// Neighbouring tokens of a document route alike.
    pub sequence_consistency: f64,
    /// Documents of one domain route alike.
    pub domain_consistency: f64,
    /// Experts of a layer that compute alike are penalised.
    pub redundancy: f64,
}

/// Over which tokens a load is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of the optimiser step, accumulated micro-batches included.
    Step,
    /// Each micro-batch apart.
    MicroBatch,
}

/// `[data]`: the text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Where tokens come from.
    pub source: Source,
    /// The folder of `source = "folder"`: one sub-folder a domain, one file a document. Of `source = "shards"`: what
    /// `trainer data build` made.
    pub path: PathBuf,
    /// Shards to validate on, of `source = "shards"`.
    pub valid_path: PathBuf,
    /// Read every token of the shards once before training and check it.
    pub verify: bool,
    /// The id that ends a document; left out: as the shards say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos: Option<u32>,
    /// Whether a new run with `source = "registry"` asks cargo for locked packages whose sources are not here yet
    /// (`cargo fetch --locked`).
    pub fetch: bool,
    /// Train on these domains alone; empty = all. Validation keeps every domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// Of each document train only what follows the last occurrence of this text, such as an answer's delimiter; empty, or
    /// where it does not occur: the whole document.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub answer_after: String,
    /// Tokens of a row.
    pub sequence: usize,
    /// Train an end-of-document token to predict the first token of the next document in its row.
    pub predict_across_documents: bool,
    /// Shorter documents are left out, in bytes.
    pub min_document_bytes: usize,
    /// Longer documents are cut at the last line end within this many bytes; 0 = never.
    pub max_document_bytes: usize,
    /// Longer files are left out, in bytes; 0 = none.
    pub max_file_bytes: usize,
    /// Training text of one domain, in bytes; 0 = all of it.
    pub max_domain_bytes: usize,
    /// Share of each domain's text that is held out for validation.
    pub valid_fraction: f64,
    /// At least so much validation text a domain, where that leaves three quarters of it to train on, in bytes.
    pub min_valid_bytes: usize,
    /// A mixture of folders of shards, in the place of `path`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<Mix>,
}

/// `[[data.mix]]`: one source of a mixture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    /// Its folder of shards.
    pub path: PathBuf,
    /// Its share of the rows relative to the other sources'; 0 = by its number of tokens times `epochs`. All sources or none
    /// must give one.
    pub weight: f64,
    /// How often it is read while a source with `epochs = 1` is read once; 0 = 1. Only without `weight`.
    pub epochs: f64,
    /// The run is refused when it would read the source more often than this; 0 = no limit.
    pub max_epochs: f64,
}

/// Where tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The sources of this project's locked dependencies in cargo's registry folder, bytes as tokens.
    Registry,
    /// Text files below `path`, bytes as tokens.
    Folder,
    /// Token shards that `trainer data build` made.
    Shards,
    /// Uniform random tokens, for measuring speed.
    Random,
}

/// `[train]`: the loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Optimiser steps.
    pub steps: u64,
    /// Rows of an optimiser step.
    pub batch: usize,
    /// Rows computed at once; 0 = all of `batch`. Fewer need less memory.
    pub micro_batch: usize,
    /// Global gradient norm above which gradients are scaled down; 0 = never.
    pub clip: f64,
    /// What activations, their gradients and the matrices of products are held in. Sums, the router, parameters, their
    /// gradients and moments, and checkpoints are f32 in either case.
    pub storage: Storage,
    /// A run or a checkpoint whose weights this run starts from, instead of random ones: annealing, fine-tuning.
    pub init: PathBuf,
    /// Take over AdamW's moments from `init` too.
    pub init_moments: bool,
    /// Train whatever model `init` holds, also one that `[model]` and `[router]` cannot describe (pruned, or of another
    /// program); they then only repeat its sizes.
    pub init_model: bool,
    /// The only parameters that are trained; empty = all. Names as `trainer inspect` shows them, `*` for any text, with
    /// rows of the first axis: `layers.3.experts_*[0-2,7]` is four experts.
    pub only: Vec<String>,
    /// Parameters that stay as they are, in the same form.
    pub freeze: Vec<String>,
}

/// What activations and matrices are held in. Masters, moments, gradients of parameters and checkpoints are f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// 4 bytes.
    #[default]
    F32,
    /// 2 bytes: the range of f32 with 8 significant bits.
    Bf16,
}

impl std::fmt::Display for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// `[optimiser]`: AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Optimiser {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay, on everything except the embedding.
    pub weight_decay: f64,
    /// Decay the embedding too.
    pub decay_embedding: bool,
}

/// `[schedule]`: the learning rate over the steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// What follows it.
    pub shape: Shape,
    /// Share of the peak that is left at the last step.
    pub final_fraction: f64,
    /// Share of the steps in which `shape = "wsd"` falls.
    pub decay_fraction: f64,
}

/// The learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Half a cosine wave.
    Cosine,
    /// A straight line.
    Linear,
    /// The peak, then over the last `decay_fraction` of the steps a straight line (warm-up, stable, decay).
    Wsd,
    /// The peak throughout.
    Constant,
}

/// `[validation]`: bits per byte of held-out documents by domain, always without pools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// Steps between validations; 0 = only after the last step, when `rows` allows.
    pub every: u64,
    /// Rows a domain; 0 = no validation at all.
    pub rows: usize,
}

/// `[run]`: the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// Name of the run; its folder is `runs/NAME-SEED` unless `--out` says otherwise.
    pub name: String,
    /// Seeds weights, order of documents and pools.
    pub seed: u64,
    /// Threads; 0 = all cores. Results do not depend on it.
    pub threads: usize,
    /// Steps between checkpoints; 0 = only the last step. Ctrl-C always saves.
    pub checkpoint_every: u64,
    /// How many checkpoints are kept.
    pub keep: usize,
}

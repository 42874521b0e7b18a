//! From a configuration to what each room of the house asks for.

use emo::ops::activation;
use emo::ops::router;

use super::{Config, sections as s};
use crate::data::{ByteTokenizer, Limits, Packing, RoutingBoundary};
use crate::model::{
    Balance, Capacity, Dense, FeedForward, ModelConfig, Moe, NormPlacement, Objective, QkNorm, Smoothing,
};

impl Config {
    /// The decoder.
    #[must_use]
    pub fn model_config(&self) -> ModelConfig {
        let model = &self.model;
        let bytes = matches!(self.data.source, s::Source::Registry | s::Source::Folder);
        let or = |value: usize, otherwise: usize| if value == 0 { otherwise } else { value };
        let vocabulary = or(model.vocabulary, ByteTokenizer::VOCABULARY);
        ModelConfig {
            vocabulary,
            width: model.width,
            heads: model.heads,
            kv_heads: or(model.kv_heads, model.heads),
            head_dim: or(model.head_dim, model.width / model.heads),
            rope_theta: model.rope_theta,
            norm_eps: model.norm_eps,
            norm: NormPlacement::Pre,
            qk_norm: match model.qk_norm {
                s::QkNorm::None => QkNorm::None,
                s::QkNorm::Full => QkNorm::FullWidth,
                s::QkNorm::Head => QkNorm::PerHead,
            },
            clip_qkv: None,
            tied_embeddings: model.tied_embeddings,
            max_positions: self.data.sequence,
            pad_id: bytes.then_some(ByteTokenizer::PAD),
            eos_id: Some(self.eos_id()),
            bos_id: None,
            init_std: model.init_std,
            feed_forward: (0..model.layers)
                .map(|layer| {
                    if model.dense_layers.contains(&layer) {
                        FeedForward::Dense(Dense {
                            hidden: model.dense_width,
                            bias: false,
                            activation: self.activation(),
                        })
                    } else {
                        FeedForward::Moe(self.moe())
                    }
                })
                .collect(),
        }
    }

    /// The token that ends a document: the last one of a random vocabulary.
    #[must_use]
    pub fn eos_id(&self) -> u32 {
        match self.data.source {
            s::Source::Random => self.model.vocabulary.saturating_sub(1) as u32,
            s::Source::Registry | s::Source::Folder => ByteTokenizer::EOS,
            s::Source::Shards => self.data.eos.unwrap_or(0),
        }
    }

    fn activation(&self) -> activation::Activation {
        match self.model.activation {
            s::Activation::Silu => activation::Activation::Silu,
            s::Activation::Gelu => activation::Activation::Gelu,
            s::Activation::GeluTanh => activation::Activation::GeluTanh,
            s::Activation::Relu => activation::Activation::Relu,
            s::Activation::ReluSquared => activation::Activation::ReluSquared,
        }
    }

    fn moe(&self) -> Moe {
        let router = &self.router;
        Moe {
            experts: router.experts,
            top_k: router.top_k,
            shared: router.shared,
            shared_weight: match router.shared_weight {
                s::SharedWeight::One => router::SharedWeight::One,
                s::SharedWeight::Softmax => router::SharedWeight::Softmax,
            },
            score: match router.score {
                s::Score::Softmax => router::Score::Softmax,
                s::Score::Sigmoid => router::Score::Sigmoid,
            },
            temperature: router.temperature,
            normalise: match router.normalise {
                s::Normalise::None => None,
                s::Normalise::L1 => Some(1.0),
                s::Normalise::L2 => Some(2.0),
            },
            always_active: router.always_active.clone(),
            forced: router.pool_forced,
            gate_bias: router.gate_bias,
            selection_bias: router.loss_free_rate > 0.0,
            hidden: self.model.expert_width,
            activation: self.activation(),
            gated: self.model.gated,
            smoothing: (router.smoothing != s::Smoothing::None).then(|| Smoothing {
                width: router.smoothing_width,
                ahead: if router.smoothing_centred { (router.smoothing_width - 1) / 2 } else { 0 },
                learned: router.smoothing == s::Smoothing::Learned,
                depthwise: router.smoothing_depthwise,
                renormalise: router.smoothing_renormalise,
            }),
            kept: None,
        }
    }

    /// What is minimised.
    #[must_use]
    pub fn objective(&self) -> Objective {
        let losses = &self.losses;
        Objective {
            load_balance: losses.load_balance,
            // Without accumulation the step is the micro-batch, and needs no counting pass before it.
            balance: if self.counts_first() { Balance::Step } else { Balance::MicroBatch },
            router_z: losses.router_z,
            head_z: losses.head_z,
            token_entropy: losses.token_entropy,
            marginal_entropy: losses.marginal_entropy,
            sequence_consistency: losses.sequence_consistency,
            domain_consistency: losses.domain_consistency,
            redundancy: losses.redundancy,
        }
    }

    /// Whether the load must be counted over the whole step before the first backward pass.
    #[must_use]
    pub fn counts_first(&self) -> bool {
        self.losses.load_balance > 0.0
            && self.losses.load_balance_scope == s::Scope::Step
            && self.micro_batches() > 1
            && self.mixture_layers().next().is_some()
    }

    /// Micro-batches of an optimiser step.
    #[must_use]
    pub fn micro_batches(&self) -> usize {
        self.train.batch / self.micro_batch()
    }

    /// The memory that a run needs; `domains` only matters with domain consistency.
    #[must_use]
    pub fn capacity(&self, domains: usize) -> Capacity {
        Capacity {
            tokens: self.micro_batch() * self.data.sequence,
            longest: self.data.sequence,
            domains: if self.losses.domain_consistency > 0.0 { domains } else { 0 },
            redundancy: self.losses.redundancy > 0.0,
            backward: true,
        }
    }

    /// How documents become rows.
    #[must_use]
    pub fn packing(&self) -> Packing {
        Packing {
            rows: self.micro_batch(),
            sequence: self.data.sequence,
            seed: self.run.seed,
            predict_across_documents: self.data.predict_across_documents,
            routing: match self.router.eos {
                s::EosSide::Ends => RoutingBoundary::EosCloses,
                s::EosSide::OpensNext => RoutingBoundary::EosOpens,
            },
        }
    }

    /// How much of which text enters the corpus.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let or_all = |bytes: usize| if bytes == 0 { usize::MAX } else { bytes };
        let data = &self.data;
        Limits {
            min_document_bytes: data.min_document_bytes,
            max_document_bytes: or_all(data.max_document_bytes),
            max_file_bytes: or_all(data.max_file_bytes),
            max_domain_bytes: or_all(data.max_domain_bytes),
            valid_fraction: data.valid_fraction,
            min_valid_bytes: data.min_valid_bytes,
        }
    }
}

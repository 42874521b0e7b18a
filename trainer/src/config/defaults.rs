//! Defaults: EMO's recipe in small.

use std::path::PathBuf;

use super::sections::*;

impl Default for Model {
    fn default() -> Self {
        Self {
            width: 128,
            layers: 4,
            heads: 4,
            kv_heads: 0,
            head_dim: 0,
            vocabulary: 0,
            expert_width: 64,
            dense_width: 0,
            dense_layers: Vec::new(),
            activation: Activation::Silu,
            gated: true,
            qk_norm: QkNorm::None,
            rope_theta: 500_000.0,
            norm_eps: 1e-6,
            init_std: 0.02,
            attend_across_documents: false,
            tied_embeddings: false,
        }
    }
}

impl Default for Router {
    fn default() -> Self {
        Self {
            experts: 32,
            top_k: 4,
            shared: 1,
            shared_weight: SharedWeight::One,
            score: Score::Softmax,
            temperature: 1.0,
            normalise: Normalise::None,
            gate_bias: false,
            loss_free_rate: 0.0,
            always_active: Vec::new(),
            pool: Pool::Uniform,
            pool_draw: PoolDraw::Layer,
            pool_min: 4,
            pool_max: 32,
            pool_forced: 0,
            pool_ramp: 0,
            pool_until: 1.0,
            pool_unpooled: 0.0,
            pool_first_layer: 0,
            eos: EosSide::Ends,
            smoothing: Smoothing::None,
            smoothing_width: 3,
            smoothing_centred: false,
            smoothing_depthwise: false,
            smoothing_renormalise: true,
            allow_noncausal: false,
        }
    }
}

impl Default for Losses {
    fn default() -> Self {
        Self {
            load_balance: 0.1,
            load_balance_scope: Scope::Step,
            router_z: 1e-3,
            head_z: 1e-5,
            token_entropy: 0.0,
            marginal_entropy: 0.0,
            sequence_consistency: 0.0,
            domain_consistency: 0.0,
            redundancy: 0.0,
        }
    }
}

impl Default for Data {
    fn default() -> Self {
        Self {
            source: Source::Registry,
            path: PathBuf::new(),
            valid_path: PathBuf::new(),
            verify: true,
            eos: None,
            fetch: true,
            domains: Vec::new(),
            answer_after: String::new(),
            sequence: 256,
            predict_across_documents: true,
            min_document_bytes: 64,
            max_document_bytes: 64 << 10,
            max_file_bytes: 512 << 10,
            max_domain_bytes: 2 << 20,
            valid_fraction: 0.0625,
            min_valid_bytes: 64 << 10,
            mix: Vec::new(),
        }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch: 8,
            micro_batch: 0,
            clip: 1.0,
            storage: Storage::F32,
            init: PathBuf::new(),
            init_moments: false,
            init_model: false,
            only: Vec::new(),
            freeze: Vec::new(),
        }
    }
}

impl Default for Optimiser {
    fn default() -> Self {
        Self { lr: 4e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, decay_embedding: false }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { warmup: 50, shape: Shape::Cosine, final_fraction: 0.1, decay_fraction: 0.2 }
    }
}

impl Default for Validation {
    fn default() -> Self {
        Self { every: 100, rows: 16 }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self { name: String::new(), seed: 0, threads: 0, checkpoint_every: 100, keep: 2 }
    }
}

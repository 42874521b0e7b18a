//! Model FLOP: the multiplications and additions that the model's definition asks for, whatever an implementation does.
//!
//! A product of `[m, k]` and `[k, n]` counts `2 m k n`. Counted are the products with weights (query, key, value, output,
//! router, the experts that a token uses, head) and attention's two products over the pairs of tokens that see each other
//! (`t + 1` for the t-th token of a document). The backward pass counts twice the forward pass; recomputation, norms,
//! softmax and the optimiser count nothing. This is the convention of PaLM (arXiv 2204.02311, appendix B) with causal
//! attention counted once instead of twice.

use crate::model::{FeedForward, ModelConfig};

/// Costs of a model.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Flops {
    /// Forward FLOP of one token in products with weights.
    pub forward_per_token: f64,
    /// Forward FLOP of one pair of tokens in attention, all layers together.
    pub forward_per_pair: f64,
}

impl Flops {
    /// Of the model.
    #[must_use]
    pub fn of(config: &ModelConfig) -> Self {
        let d = config.width as f64;
        let attention = d * config.qkv_width() as f64 + d * config.query_width() as f64;
        let mut weights = d * config.vocabulary as f64;
        for kind in &config.feed_forward {
            weights += attention
                + match kind {
                    FeedForward::Moe(moe) => {
                        d * moe.experts as f64 + (moe.top_k * (moe.pre() + moe.hidden)) as f64 * d
                    }
                    FeedForward::Dense(dense) => 3.0 * d * dense.hidden as f64,
                };
        }
        Self {
            forward_per_token: 2.0 * weights,
            forward_per_pair: 4.0 * (config.layers() * config.query_width()) as f64,
        }
    }

    /// Forward of `tokens` tokens with `pairs` pairs that see each other.
    #[must_use]
    pub fn forward(&self, tokens: f64, pairs: f64) -> f64 {
        self.forward_per_token * tokens + self.forward_per_pair * pairs
    }

    /// Forward and backward of `tokens` tokens with `pairs` pairs that see each other.
    #[must_use]
    pub fn training(&self, tokens: f64, pairs: f64) -> f64 {
        3.0 * self.forward(tokens, pairs)
    }
}

/// Pairs of tokens that see each other in documents with these bounds: `n (n + 1) / 2` each.
#[must_use]
pub fn pairs(offsets: &[u32]) -> f64 {
    let lengths = offsets.windows(2).map(|bounds| f64::from(bounds[1]) - f64::from(bounds[0]));
    lengths.map(|n| n * (n + 1.0) / 2.0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_benchmark_model_costs_48_7_gflop_a_step() {
        let config = Config::load("bench-olmoe", &[]).unwrap();
        let flops = Flops::of(&config.model_config());
        let rows: Vec<u32> = (0..=8).map(|row| row * 256).collect();
        let step = flops.training(2048.0, pairs(&rows));
        assert!((step / 1e9 - 48.7).abs() < 0.05, "{step}");
    }
}

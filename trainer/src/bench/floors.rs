//! What each op of a training step must do at least, all its calls in the step together.

use std::collections::BTreeMap;

use emo::ops::{
    activation, attention, embedding, experts, linear, permutation, rms_norm, rope, router_logits, smoothing,
};

use crate::model::{Dense, FeedForward, ModelConfig, Moe, QkNorm};

// The floors of the tests and of `cargo bench`: one definition of what an op must do.
#[allow(dead_code)]
#[path = "../../../tests/common/floors.rs"]
mod ops;

pub use ops::Floor;

/// Floors by the name of the op.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Floors(BTreeMap<&'static str, Floor>);

impl Floors {
    /// Of forward and backward over `tokens` tokens, of which so many `pairs` see each other.
    #[must_use]
    pub fn of(config: &ModelConfig, tokens: usize, pairs: usize) -> Self {
        let mut all = Self::default();
        let d = config.width;
        let shape = embedding::Shape { rows: tokens, vocabulary: config.vocabulary, width: d };
        all.add(["embedding_forward", "embedding_backward"], ops::embedding(shape));
        all.norm(rms_norm::Shape::rows(tokens, d));
        for kind in &config.feed_forward {
            all.attention(config, tokens, pairs);
            (0..2).for_each(|_| all.norm(rms_norm::Shape::rows(tokens, d)));
            match kind {
                FeedForward::Moe(moe) => all.mixture(moe, d, tokens),
                FeedForward::Dense(dense) => all.dense(dense, d, tokens),
            }
        }
        all.linear(linear::Shape { rows: tokens, inputs: d, outputs: config.vocabulary });
        all.add(["cross_entropy"], [ops::cross_entropy(tokens, config.vocabulary)]);
        all
    }

    /// The same work `times` over.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        for Floor { flops, bytes, stored } in self.0.values_mut() {
            (*flops, *bytes, *stored) = (*flops * times, *bytes * times, *stored * times);
        }
        self
    }

    /// Adds the optimiser's work on so many parameters.
    #[must_use]
    pub fn with_optimiser(mut self, parameters: usize) -> Self {
        self.add(["adamw"], [ops::adamw(parameters)]);
        self.add(["sum_of_squares"], [ops::sum_of_squares(parameters)]);
        self
    }

    /// Of one op; none for those that are too cheap to have one.
    #[must_use]
    pub fn get(&self, op: &str) -> Option<Floor> {
        self.0.get(op).copied()
    }

    /// All ops.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Floor)> + '_ {
        self.0.iter().map(|(op, floor)| (*op, *floor))
    }

    fn add<const N: usize>(&mut self, names: [&'static str; N], floors: [Floor; N]) {
        for (name, floor) in names.into_iter().zip(floors) {
            let sum = self.0.entry(name).or_insert(Floor { flops: 0, bytes: 0, stored: 0 });
            sum.flops += floor.flops;
            sum.bytes += floor.bytes;
            sum.stored += floor.stored;
        }
    }

    fn norm(&mut self, shape: rms_norm::Shape) {
        self.add(["rms_norm_forward", "rms_norm_backward"], ops::rms_norm(shape));
    }

    fn linear(&mut self, shape: linear::Shape) {
        self.add(["linear_forward", "linear_dgrad", "linear_wgrad"], ops::linear(shape));
    }

    fn attention(&mut self, config: &ModelConfig, rows: usize, pairs: usize) {
        let ModelConfig { width, heads, kv_heads, head_dim, .. } = *config;
        let (stride, query) = (config.qkv_width(), config.query_width());
        self.linear(linear::Shape { rows, inputs: width, outputs: stride });
        self.linear(linear::Shape { rows, inputs: query, outputs: width });
        let norms = match config.qk_norm {
            QkNorm::None => vec![],
            QkNorm::FullWidth => vec![(1, query), (1, kv_heads * head_dim)],
            QkNorm::PerHead => vec![(heads, head_dim), (kv_heads, head_dim)],
        };
        for (groups, width) in norms {
            self.norm(rms_norm::Shape { rows, groups, width, stride });
        }
        let turned = rope::Shape { rows, heads: heads + kv_heads, head_dim, stride, positions: 0 };
        (0..2).for_each(|_| self.add(["rope"], [ops::rope(turned)]));
        let shape = attention::Shape { tokens: rows, heads, kv_heads, head_dim, longest: 0 };
        self.add(["attention_forward", "attention_backward"], ops::attention_of_pairs(shape, pairs));
    }

    fn mixture(&mut self, moe: &Moe, width: usize, tokens: usize) {
        let shape = experts::Shape {
            tokens,
            top_k: moe.top_k,
            experts: moe.experts,
            width,
            hidden: moe.hidden,
            gated: moe.gated,
            activation: moe.activation,
        };
        self.add(["experts_forward", "experts_backward"], ops::experts(shape));
        let shape = router_logits::Shape { tokens, width, experts: moe.experts };
        self.add(["router_logits_forward", "router_logits_backward"], ops::router_logits(shape));
        self.add(["router_forward", "router_backward"], ops::router(&moe.router(), tokens, 0));
        if let Some(filter) = moe.smoothing {
            let shape = smoothing::Shape {
                tokens,
                channels: moe.experts,
                width: filter.width,
                ahead: filter.ahead,
                depthwise: filter.depthwise,
                renormalise: filter.renormalise,
            };
            self.add(["smoothing_forward", "smoothing_backward"], ops::smoothing(shape));
        }
        let shape = permutation::Shape { tokens, top_k: moe.top_k, experts: moe.experts };
        let [plan, _, dispatch_backward, combine, _] = ops::moves(shape, width);
        self.add(["plan", "dispatch_backward", "combine_forward"], [plan, dispatch_backward, combine]);
    }

    fn dense(&mut self, dense: &Dense, width: usize, rows: usize) {
        self.linear(linear::Shape { rows, inputs: width, outputs: 2 * dense.hidden });
        self.linear(linear::Shape { rows, inputs: dense.hidden, outputs: width });
        let shape = activation::Shape { rows, width: dense.hidden, gated: true };
        self.add(["activation_forward", "activation_backward"], ops::activation(shape));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::train::flops::Flops;

    #[test]
    fn products_add_up_to_the_model_flop() {
        for preset in ["bench-olmoe", "emo-nano", "emo-nano-dense"] {
            let config = Config::load(preset, &[]).unwrap().model_config();
            let (tokens, pairs) = (96, 1000);
            let floors = Floors::of(&config, tokens, pairs);
            let flops = |op| floors.get(op).map_or(0.0, |floor| floor.flops as f64);
            let sum: f64 = floors
                .0
                .iter()
                .filter(|(op, _)| {
                    ["linear", "experts", "router_logits"].iter().any(|kind| op.starts_with(kind))
                })
                .map(|(_, floor)| floor.flops as f64)
                .sum();
            // Attention's backward pass computes the scores again: five products for the model's four.
            let attention = flops("attention_forward") + flops("attention_backward") * 4.0 / 5.0;
            let model = Flops::of(&config).training(tokens as f64, pairs as f64);
            assert!((sum + attention - model).abs() < 1e-9 * model, "{preset}: {} {model}", sum + attention);
        }
    }
}

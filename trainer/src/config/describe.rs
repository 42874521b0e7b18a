//! From a model back to the sections that describe it, as far as they can.

use emo::ops::activation;
use emo::ops::router;

use super::{Config, sections as s};
use crate::model::{FeedForward, ModelConfig, QkNorm};

impl Config {
    /// Lets `[model]` and `[router]` repeat `model`, without document pools. What they have no words for (sizes that differ
    /// from layer to layer, norms after the blocks) is left out: that is what `train.init_model` is for.
    pub fn describe(&mut self, model: &ModelConfig) {
        let dense = model.feed_forward.iter().find_map(|kind| match kind {
            FeedForward::Dense(dense) => Some(dense.hidden),
            FeedForward::Moe(_) => None,
        });
        let largest = model.moe_layers().map(|(_, moe)| moe).max_by_key(|moe| moe.experts);
        let dense_layers = model.feed_forward.iter().enumerate();
        self.model = s::Model {
            width: model.width,
            layers: model.layers(),
            heads: model.heads,
            kv_heads: model.kv_heads,
            head_dim: model.head_dim,
            vocabulary: model.vocabulary,
            expert_width: largest.map_or(0, |moe| moe.hidden),
            dense_width: dense.unwrap_or(0),
            dense_layers: dense_layers
                .filter(|(_, kind)| matches!(kind, FeedForward::Dense(_)))
                .map(|(layer, _)| layer)
                .collect(),
            activation: largest.map_or(self.model.activation, |moe| match moe.activation {
                activation::Activation::Silu => s::Activation::Silu,
                activation::Activation::Gelu => s::Activation::Gelu,
                activation::Activation::GeluTanh => s::Activation::GeluTanh,
                activation::Activation::Relu => s::Activation::Relu,
                activation::Activation::ReluSquared => s::Activation::ReluSquared,
            }),
            gated: dense.is_some() || largest.is_none_or(|moe| moe.gated),
            qk_norm: match model.qk_norm {
                QkNorm::None => s::QkNorm::None,
                QkNorm::FullWidth => s::QkNorm::Full,
                QkNorm::PerHead => s::QkNorm::Head,
            },
            rope_theta: model.rope_theta,
            norm_eps: model.norm_eps,
            init_std: model.init_std,
            attend_across_documents: self.model.attend_across_documents,
            tied_embeddings: model.tied_embeddings,
        };
        let router = s::Router { pool: s::Pool::None, eos: self.router.eos, ..s::Router::default() };
        self.router = match largest {
            None => router,
            Some(moe) => s::Router {
                experts: moe.experts,
                top_k: moe.top_k,
                shared: moe.shared,
                shared_weight: match moe.shared_weight {
                    router::SharedWeight::One => s::SharedWeight::One,
                    router::SharedWeight::Softmax => s::SharedWeight::Softmax,
                },
                score: match moe.score {
                    router::Score::Softmax => s::Score::Softmax,
                    router::Score::Sigmoid => s::Score::Sigmoid,
                },
                temperature: moe.temperature,
                normalise: match moe.normalise {
                    None => s::Normalise::None,
                    Some(1.0) => s::Normalise::L1,
                    Some(_) => s::Normalise::L2,
                },
                gate_bias: moe.gate_bias,
                always_active: moe.always_active.clone(),
                smoothing: match moe.smoothing {
                    None => s::Smoothing::None,
                    Some(smoothing) if smoothing.learned => s::Smoothing::Learned,
                    Some(_) => s::Smoothing::Fixed,
                },
                smoothing_width: moe.smoothing.map_or(router.smoothing_width, |taps| taps.width),
                smoothing_centred: moe.smoothing.is_some_and(|taps| taps.ahead > 0),
                smoothing_depthwise: moe.smoothing.is_some_and(|taps| taps.depthwise),
                smoothing_renormalise: moe.smoothing.is_none_or(|taps| taps.renormalise),
                allow_noncausal: moe.smoothing.is_some_and(|taps| taps.ahead > 0),
                ..router
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::presets;

    #[test]
    fn every_presets_model_is_described_as_it_is() {
        let extremes = [
            "router.smoothing=learned",
            "router.gate_bias=true",
            "router.score=sigmoid",
            "router.normalise=l2",
            "model.qk_norm=head",
            "model.dense_layers=[1]",
            "model.dense_width=48",
        ]
        .map(str::to_owned);
        let presets = presets::names().map(|name| (name, &[][..]));
        for (name, overrides) in presets.chain([("tiny", &extremes[..])]) {
            let config = Config::load(name, overrides).unwrap();
            let mut model = config.model_config();
            let mut described = config.clone();
            (described.model, described.router) = Default::default();
            described.describe(&model);
            described.check().unwrap();
            for kind in &mut model.feed_forward {
                // What only training with pools uses.
                if let FeedForward::Moe(moe) = kind {
                    (moe.forced, moe.selection_bias) = (0, false);
                }
            }
            assert_eq!(described.model_config(), model, "{name}");
        }
    }
}

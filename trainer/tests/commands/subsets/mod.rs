//! Subsets of experts: a model that is told to use some computes the bits of a model that has no others, whether it was
//! cut down on disk, while it was read, or for one request.

mod choice;
mod commands;
mod masks;
mod retention;

use std::sync::Arc;

use emo::backend::Backend;
use emo::ops::activation::Activation;
use emo::ops::router::{Score, SharedWeight};
use trainer::model::{
    Capacity, Dense, FeedForward, Inputs, Model, ModelConfig, Moe, NormPlacement, QkNorm, Segments, Smoothing,
};

const CAPACITY: Capacity =
    Capacity { tokens: 150, longest: 50, domains: 0, redundancy: false, backward: false };

fn config(moes: [Moe; 2]) -> ModelConfig {
    let [first, second] = moes.map(FeedForward::Moe);
    let dense = FeedForward::Dense(Dense { hidden: 40, bias: false, activation: Activation::Silu });
    ModelConfig {
        vocabulary: 61,
        width: 40,
        heads: 4,
        kv_heads: 2,
        head_dim: 10,
        rope_theta: 10_000.0,
        norm_eps: 1e-6,
        norm: NormPlacement::Pre,
        qk_norm: QkNorm::None,
        clip_qkv: None,
        tied_embeddings: false,
        max_positions: 64,
        pad_id: None,
        eos_id: Some(0),
        bos_id: None,
        // Large, so that experts differ in what they do.
        init_std: 0.3,
        feed_forward: vec![first, dense, second],
    }
}

/// Routers of every kind that slicing has to get right.
fn configs() -> Vec<(&'static str, ModelConfig)> {
    let smoothing = Smoothing { width: 3, ahead: 0, learned: true, depthwise: true, renormalise: true };
    let emo = Moe::emo(37, 5, 1, 24);
    let sigmoid = Moe {
        score: Score::Sigmoid,
        normalise: Some(1.0),
        temperature: 0.7,
        gate_bias: true,
        selection_bias: true,
        ..Moe::emo(19, 4, 1, 17)
    };
    let forced = Moe { forced: 4, gated: false, activation: Activation::Gelu, ..Moe::emo(23, 6, 0, 16) };
    let fixed = Moe { smoothing: Some(Smoothing { learned: false, ..smoothing }), ..emo.clone() };
    let shared = Moe {
        shared_weight: SharedWeight::Softmax,
        smoothing: Some(Smoothing { depthwise: false, ..smoothing }),
        ..Moe::emo(20, 5, 2, 16)
    };
    let active = Moe { always_active: vec![2, 9], ..Moe::emo(21, 6, 0, 16) };
    vec![
        ("emo", config([emo.clone(), emo.clone()])),
        ("sigmoid, corrected", config([sigmoid, emo.clone()])),
        ("smoothed", config([Moe { smoothing: Some(smoothing), ..emo }, fixed])),
        ("forced, several shared", config([forced, shared.clone()])),
        ("always active", config([active, shared])),
    ]
}

fn model<B: Backend>(backend: B, config: &ModelConfig) -> Model<B> {
    let mut model = Model::new(Arc::new(backend), config.clone(), CAPACITY).expect("a model");
    model.initialise(7).expect("weights");
    for (ordinal, (_, moe)) in config.moe_layers().enumerate() {
        let bias: Vec<f64> = (0..moe.routed()).map(|expert| 0.02 * ((expert * 5) % 7) as f64).collect();
        model.set_selection_bias(ordinal, &bias).expect("a bias");
    }
    model
}

/// Routed experts `first..` in steps of three, with those that must be there.
fn kept(config: &ModelConfig, count: usize) -> Vec<Vec<u32>> {
    let layer = |(ordinal, (_, moe)): (usize, (usize, &Moe))| {
        let mut kept = moe.always_active.clone();
        let others = (0..moe.routed() as u32).map(|i| (i * 11 + ordinal as u32) % moe.routed() as u32);
        for expert in others {
            if kept.len() < count && !kept.contains(&expert) {
                kept.push(expert);
            }
        }
        kept.sort_unstable();
        kept
    };
    config.moe_layers().enumerate().map(layer).collect()
}

/// Several documents in rows of different length.
fn inputs(tokens: usize) -> Inputs {
    let ids: Vec<u32> = (0..tokens as u32).map(|token| (token * token * 7 + token / 5) % 61).collect();
    let mut inputs = Inputs::rows(ids, 1, tokens);
    let ends: Vec<u32> =
        [0, 31, 32, 60, 100].into_iter().filter(|&end| end < tokens as u32).chain([tokens as u32]).collect();
    inputs.positions = ends.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect();
    (inputs.attention, inputs.routing) = (Segments { offsets: ends.clone() }, Segments { offsets: ends });
    inputs
}

fn logits<B: Backend>(model: &mut Model<B>, inputs: &Inputs) -> Vec<f64> {
    model.forward(inputs).expect("a forward pass");
    model.logits(0..inputs.tokens()).expect("logits")
}

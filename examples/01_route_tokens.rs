//! Routes a few tokens with three routers that differ only in their configuration.
//!
//! Buffers are ordinary slices: on the CPU backend a view is `&[f32]` and every output belongs to the caller.

use emo::backend::Backend;
use emo::cpu::Cpu;
use emo::ops::router::{Forward, KeepMask, Normalise, RouterConfig, SharedWeight};

fn main() -> emo::Result<()> {
    let cpu = Cpu::all_cores()?;
    println!("{}", cpu.describe());

    // OLMoE keeps the top scores as they are, Mixtral divides them by their sum, EMO adds a shared expert of weight 1.
    let olmoe = RouterConfig::softmax(8, 3);
    let mixtral = RouterConfig { normalise: Normalise::Lp(1.0), ..RouterConfig::softmax(8, 2) };
    let emo = RouterConfig { shared: 1, shared_weight: SharedWeight::One, ..RouterConfig::softmax(8, 3) };

    let logits: Vec<f32> = (0..4 * 8).map(|i| ((i * 7 % 11) as f32 - 5.0) * 0.4).collect();
    for (name, config) in [("olmoe", olmoe), ("mixtral", mixtral), ("emo", emo)] {
        let (tokens, k) = (4, config.top_k);
        let mut probs = vec![0.0; tokens * config.routed()];
        let (mut weights, mut indices) = (vec![0.0; tokens * k], vec![0; tokens * k]);
        let (mut counts, mut lse) = (vec![0; config.experts], vec![0.0; tokens]);
        cpu.router_forward(Forward {
            config: &config,
            tokens,
            logits: &logits,
            bias: None,
            selection_bias: None,
            keep: KeepMask::All,
            probs: &mut probs,
            weights: &mut weights,
            indices: &mut indices,
            counts: &mut counts,
            lse: &mut lse,
        })?;
        println!("\n{name}: slots per expert {counts:?}");
        for (experts, weights) in indices.chunks(k).zip(weights.chunks(k)) {
            println!("  experts {experts:?} with weights {weights:.3?}");
        }
    }
    Ok(())
}

//! Document pools, the heart of EMO: each document keeps the experts its tokens like best, and its tokens route inside.

use emo::backend::Backend;
use emo::cpu::Cpu;
use emo::ops::pool::{Keep, draw_size};
use emo::ops::router::{Forward, KeepMask, RouterConfig};
use emo::ops::segments::Segments;

fn main() -> emo::Result<()> {
    let cpu = Cpu::all_cores()?;
    let (tokens, experts, k) = (10, 16, 2);
    // Two documents: the first prefers the lower experts, the second the upper ones; single tokens disagree.
    let offsets = [0, 6, 10];
    let of_token: Vec<u32> = (0..tokens).map(|t| u32::from(t >= 6)).collect();
    let logits: Vec<f32> = (0..tokens * experts)
        .map(|i| {
            let (token, expert) = (i / experts, i % experts);
            let liked = (expert < 8) == (token < 6);
            f32::from(liked) * 1.5 + ((i * 37 % 23) as f32 - 11.0) * 0.12
        })
        .collect();

    // The size of a pool depends on (seed, step, layer, document) alone: not on batching, threads or resuming.
    let sizes = [draw_size(0, 1, 0, 1001, 4, 8), draw_size(0, 1, 0, 1002, 4, 8)];
    let (mut keep, mut scores) = (vec![0u8; 2 * experts], vec![0.0; 2 * experts]);
    let mut entropy = [0.0; 2];
    cpu.pool_keep(Keep {
        tokens,
        experts,
        routed: experts,
        forced: 0,
        segments: Segments { offsets: &offsets, of_token: &of_token },
        logits: &logits,
        bias: None,
        temperature: 1.0,
        sizes: &sizes,
        keep: &mut keep,
        scores: &mut scores,
        entropy: Some(&mut entropy),
    })?;
    for (document, keep) in keep.chunks(experts).enumerate() {
        let pool: Vec<usize> = (0..experts).filter(|&expert| keep[expert] == 1).collect();
        println!("document {document}: pool of {} experts {pool:?}", sizes[document]);
        // As many experts as would have the same entropy with equal scores.
        println!("  which look like {:.1} equally liked ones", entropy[document].exp());
    }

    let config = RouterConfig::softmax(experts, k);
    let mut probs = vec![0.0; tokens * experts];
    let (mut weights, mut indices) = (vec![0.0; tokens * k], vec![0; tokens * k]);
    let (mut counts, mut lse) = (vec![0; experts], vec![0.0; tokens]);
    cpu.router_forward(Forward {
        config: &config,
        tokens,
        logits: &logits,
        bias: None,
        selection_bias: None,
        keep: KeepMask::<Cpu>::PerSegment(&keep, Segments { offsets: &offsets, of_token: &of_token }),
        probs: &mut probs,
        weights: &mut weights,
        indices: &mut indices,
        counts: &mut counts,
        lse: &mut lse,
    })?;
    for (token, experts_of_token) in indices.chunks(k).enumerate() {
        println!("token {token} of document {}: experts {experts_of_token:?}", of_token[token]);
        let pool = &keep[of_token[token] as usize * experts..][..experts];
        assert!(experts_of_token.iter().all(|&expert| pool[expert as usize] == 1));
    }
    Ok(())
}

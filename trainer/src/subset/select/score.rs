//! What a batch adds to the scores of a layer's experts.

use emo::Backend;

use crate::error::{Error, Result};
use crate::model::{Model, Routing};

/// Routing of a layer with experts, which there is for every ordinal below their number.
pub(super) fn routing<B: Backend>(model: &Model<B>, ordinal: usize) -> Result<Routing> {
    model
        .routing(ordinal)?
        .ok_or_else(|| Error::Usage(format!("there is no layer with experts number {ordinal}")))
}

/// `scores_i += sum_t p_ti`, the router's scores. Every token counts the same, so the sum ranks as the mean does.
pub(super) fn router(routing: &Routing, scores: &mut [f64]) {
    for token in routing.scores.chunks_exact(scores.len()) {
        scores.iter_mut().zip(token).for_each(|(sum, score)| *sum += score);
    }
}

/// `scores_i += sum_t g_ti`, the weights of the selected experts.
pub(super) fn mass(routing: &Routing, scores: &mut [f64]) {
    for (&expert, weight) in routing.indices.iter().zip(&routing.weights) {
        // Shared experts lie beyond the routed ones.
        if let Some(sum) = scores.get_mut(expert as usize) {
            *sum += weight;
        }
    }
}

/// `scores_i += sum_t s_t g_ti |E_i(h_t)|_2` with `s_t = max(0, 1 - cos(h_t, h_t + y_t))`, `y_t = sum_j g_tj E_j(h_t)` over
/// all experts of the token, shared ones too. `outputs` is `[tokens, top_k, d]`.
pub(super) fn easy_ep(routing: &Routing, outputs: &[f64], scores: &mut [f64]) {
    let top_k = routing.top_k();
    let d = outputs.len() / routing.indices.len().max(1);
    let tokens = routing.input.chunks_exact(d).zip(outputs.chunks_exact(top_k * d));
    let slots = routing.indices.chunks_exact(top_k).zip(routing.weights.chunks_exact(top_k));
    for ((h, outputs), (indices, weights)) in tokens.zip(slots) {
        let mut changed = h.to_vec();
        for (output, weight) in outputs.chunks_exact(d).zip(weights) {
            changed.iter_mut().zip(output).for_each(|(sum, value)| *sum += weight * value);
        }
        let product = norm(h) * norm(&changed);
        // Without a direction there is no angle to speak of.
        let cosine = if product > 0.0 { dot(h, &changed) / product } else { 1.0 };
        let change = (1.0 - cosine).max(0.0);
        for ((&expert, weight), output) in indices.iter().zip(weights).zip(outputs.chunks_exact(d)) {
            if let Some(sum) = scores.get_mut(expert as usize) {
                *sum += change * weight * norm(output);
            }
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tokens, two routed experts and a shared one (index 2), top-2, d = 2.
    fn example() -> Routing {
        Routing {
            layer: 0,
            input: vec![1.0, 0.0, 0.0, 2.0],
            logits: vec![0.0; 6],
            scores: vec![0.75, 0.25, 0.5, 0.5],
            weights: vec![0.75, 1.0, 0.5, 1.0],
            indices: vec![0, 2, 1, 2],
            counts: vec![1, 1, 2],
            pools: None,
        }
    }

    #[test]
    fn sums_are_those_of_the_formulas() {
        let (mut by_router, mut by_mass, mut by_effect) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        router(&example(), &mut by_router);
        assert_eq!(by_router, [1.25, 0.75]);
        mass(&example(), &mut by_mass);
        assert_eq!(by_mass, [0.75, 0.5]);
        // Token 0: h = (1, 0), y = 0.75 (0, 4) + (-1, 0): orthogonal, so s = 1; |E_0| = 4.
        // Token 1: h = (0, 2), y = 0.5 (0, 6) + (0, 1) = (0, 4), the same direction: s = 0.
        let outputs = [0.0, 4.0, -1.0, 0.0, 0.0, 6.0, 0.0, 1.0];
        easy_ep(&example(), &outputs, &mut by_effect);
        assert!((by_effect[0] - 3.0).abs() < 1e-12 && by_effect[1] == 0.0, "{by_effect:?}");
    }
}

//! Expert use over the last tokens of a text that comes in.

use std::collections::VecDeque;

use serde::Serialize;

use super::locality::{changed, effective_experts};

/// One layer's experts of the last tokens.
#[derive(Debug, Clone)]
pub struct LayerWindow {
    layer: usize,
    top_k: usize,
    size: usize,
    tokens: VecDeque<Vec<u32>>,
    counts: Vec<u32>,
}

/// What a [`LayerWindow`] shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerView {
    /// Index of the layer in the model.
    pub layer: usize,
    /// The most used experts, with their shares of the slots.
    pub experts: Vec<ExpertShare>,
    /// `exp` of the entropy of all experts' shares.
    pub effective_experts: f64,
    /// Mean share of a token's experts that the token before did not have.
    pub jitter: f64,
}

/// One expert's part of the slots.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ExpertShare {
    /// Index of the expert.
    pub expert: usize,
    /// Its slots over all slots.
    pub share: f64,
}

impl LayerWindow {
    /// An empty window of `size` tokens over a layer of `experts` routed experts, `top_k` of them a token.
    #[must_use]
    pub fn new(layer: usize, experts: usize, top_k: usize, size: usize) -> Self {
        Self { layer, top_k, size: size.max(1), tokens: VecDeque::new(), counts: vec![0; experts] }
    }

    /// Takes in the experts of further tokens, `top_k` each; the oldest tokens leave.
    pub fn push(&mut self, chosen: &[u32]) {
        for token in chosen.chunks_exact(self.top_k.max(1)) {
            token.iter().for_each(|&expert| self.counts[expert as usize] += 1);
            self.tokens.push_back(token.to_vec());
            if self.tokens.len() > self.size {
                let left = self.tokens.pop_front().unwrap_or_default();
                left.iter().for_each(|&expert| self.counts[expert as usize] -= 1);
            }
        }
    }

    /// The `most` most used experts and the figures of the window; ties go to the lower index.
    #[must_use]
    pub fn view(&self, most: usize) -> LayerView {
        let slots = (self.tokens.len() * self.top_k).max(1) as f64;
        let mut order: Vec<usize> =
            (0..self.counts.len()).filter(|&expert| self.counts[expert] > 0).collect();
        order.sort_by_key(|&expert| (std::cmp::Reverse(self.counts[expert]), expert));
        let share = |expert| ExpertShare { expert, share: f64::from(self.counts[expert]) / slots };
        let pairs = self.tokens.len().saturating_sub(1).max(1) as f64;
        let next = self.tokens.iter().skip(1);
        LayerView {
            layer: self.layer,
            experts: order.into_iter().take(most).map(share).collect(),
            effective_experts: effective_experts(&self.counts),
            jitter: self.tokens.iter().zip(next).map(|(a, b)| changed(a, b)).sum::<f64>() / pairs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_what_has_left_it() {
        let mut window = LayerWindow::new(5, 4, 2, 2);
        window.push(&[0, 1, 2, 3]);
        let view = window.view(3);
        assert_eq!(
            view.experts.iter().map(|e| (e.expert, e.share)).collect::<Vec<_>>(),
            [(0, 0.25), (1, 0.25), (2, 0.25)]
        );
        assert!((view.effective_experts - 4.0).abs() < 1e-12 && view.jitter == 1.0 && view.layer == 5);
        window.push(&[2, 3]);
        let view = window.view(9);
        assert_eq!(view.experts, [2, 3].map(|expert| ExpertShare { expert, share: 0.5 }));
        assert_eq!(view.jitter, 0.0);
        assert_eq!(LayerWindow::new(0, 4, 2, 8).view(3).experts, []);
    }
}

//! Losses on routing. Each adds its weighted value to `loss[0]` and its gradient to `dprobs`, so that
//! [`super::router::Backward`] applies the score function's Jacobian once for all of them.
//! docs/losses.md has each formula, gradient and source.

use super::check::{length, optional, positive, require};
use super::segments::Segments;
use crate::Result;
use crate::backend::{Backend, Indices, Stored, StoredMut, View, ViewMut};

/// `loss += coefficient * sum_i counts_i * sum_t valid_t p_ti`, `dprobs_ti += coefficient * counts_i * valid_t`.
///
/// The caller's coefficient carries weight, `E_r/k_r`, `1/T` and the divisor: every published normalisation is a value
/// of it. `counts` may come from this micro-batch or from the whole optimiser step, and carry no gradient.
/// Source: Lepikhin et al. 2020 (arXiv 2006.16668), emo.md 3.
pub struct LoadBalance<'a, B: Backend> {
    /// Rows (tokens).
    pub tokens: usize,
    /// Routed experts.
    pub routed: usize,
    /// See above.
    pub coefficient: f64,
    /// `[E_r]` slots per expert, as reals; 0 leaves an expert out.
    pub counts: View<'a, B>,
    /// Optional `[tokens]`, 0 = left out.
    pub valid: Option<B::View<'a, u8>>,
    /// `[tokens, E_r]`.
    pub probs: View<'a, B>,
    /// `[tokens, E_r]`, accumulated.
    pub dprobs: ViewMut<'a, B>,
    /// `[1]`, accumulated.
    pub loss: B::ViewMut<'a, f64>,
}

impl<B: Backend> LoadBalance<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "load_balance";
        positive(OP, "routed", self.routed)?;
        length(OP, "counts", &self.counts, &[self.routed])?;
        optional(OP, "valid", &self.valid, &[self.tokens])?;
        length(OP, "probs", &self.probs, &[self.tokens, self.routed])?;
        length(OP, "dprobs", &self.dprobs, &[self.tokens, self.routed])?;
        length(OP, "loss", &self.loss, &[1])
    }
}

/// `loss += token_weight * H(E|t) - marginal_weight * H(E)` over valid tokens, with `log(p + 1e-10)`:
/// each token decides (low entropy), all experts are used (high marginal entropy).
/// Source: ModuleFormer (arXiv 2306.04640) in the form of the vectors' README.
pub struct MutualInformation<'a, B: Backend> {
    /// Rows (tokens).
    pub tokens: usize,
    /// Routed experts.
    pub routed: usize,
    /// Weight of the mean entropy of a token's scores.
    pub token_weight: f64,
    /// Weight of the entropy of the mean scores.
    pub marginal_weight: f64,
    /// Optional `[tokens]`, 0 = left out.
    pub valid: Option<B::View<'a, u8>>,
    /// `[tokens, E_r]`.
    pub probs: View<'a, B>,
    /// `[tokens, E_r]`, accumulated.
    pub dprobs: ViewMut<'a, B>,
    /// `[1]`, accumulated.
    pub loss: B::ViewMut<'a, f64>,
}

impl<B: Backend> MutualInformation<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "mutual_information";
        positive(OP, "routed", self.routed)?;
        optional(OP, "valid", &self.valid, &[self.tokens])?;
        length(OP, "probs", &self.probs, &[self.tokens, self.routed])?;
        length(OP, "dprobs", &self.dprobs, &[self.tokens, self.routed])?;
        length(OP, "loss", &self.loss, &[1])
    }
}

/// `loss += coefficient / pairs * sum |p_t - p_{t-1}|^2` over the `pairs` neighbouring tokens inside a segment:
/// adjacent tokens of a document route alike. No pair, no loss.
pub struct SequenceConsistency<'a, B: Backend> {
    /// Rows (tokens).
    pub tokens: usize,
    /// Routed experts.
    pub routed: usize,
    /// Weight.
    pub coefficient: f64,
    /// Documents.
    pub segments: Segments<'a, B>,
    /// `[tokens, E_r]`.
    pub probs: View<'a, B>,
    /// `[tokens, E_r]`, accumulated.
    pub dprobs: ViewMut<'a, B>,
    /// `[1]`, accumulated.
    pub loss: B::ViewMut<'a, f64>,
}

impl<B: Backend> SequenceConsistency<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "sequence_consistency";
        positive(OP, "routed", self.routed)?;
        self.segments.check(OP, self.tokens)?;
        length(OP, "probs", &self.probs, &[self.tokens, self.routed])?;
        length(OP, "dprobs", &self.dprobs, &[self.tokens, self.routed])?;
        length(OP, "loss", &self.loss, &[1])
    }
}

/// `loss += coefficient * sum_D n_D/T |mean_{t in D} p_t - mean_{t in domain(D)} p_t|^2`: documents of one domain route
/// alike, with no expert assigned by hand. `n_D` tokens in document D, `T` in all; domain means over the batch;
/// the gradient passes through both means.
pub struct DomainConsistency<'a, B: Backend> {
    /// Rows (tokens).
    pub tokens: usize,
    /// Routed experts.
    pub routed: usize,
    /// How many domains there are.
    pub domains: usize,
    /// Weight.
    pub coefficient: f64,
    /// Documents.
    pub segments: Segments<'a, B>,
    /// Domain of each segment, `[segments]`, below `domains`.
    pub domain: Indices<'a, B>,
    /// `[tokens, E_r]`.
    pub probs: View<'a, B>,
    /// `[tokens, E_r]`, accumulated.
    pub dprobs: ViewMut<'a, B>,
    /// `[1]`, accumulated.
    pub loss: B::ViewMut<'a, f64>,
    /// At least `(segments + domains) * E_r` elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> DomainConsistency<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "domain_consistency";
        positive(OP, "routed", self.routed)?;
        self.segments.check(OP, self.tokens)?;
        length(OP, "domain", &self.domain, &[self.segments.count()])?;
        length(OP, "probs", &self.probs, &[self.tokens, self.routed])?;
        length(OP, "dprobs", &self.dprobs, &[self.tokens, self.routed])?;
        length(OP, "loss", &self.loss, &[1])?;
        let means = super::check::product(
            OP,
            "workspace",
            &[self.segments.count().saturating_add(self.domains), self.routed],
        )?;
        super::check::at_least(OP, "workspace", &self.workspace, means)
    }
}

/// `loss += coefficient/T * sum_t 2/(k_r (k_r - 1)) sum_{i<j} cos^2(y_ti, y_tj)` over the outputs of the routed experts
/// that a token chose: experts of a layer that compute alike are penalised. Gradient on the output rows.
pub struct Redundancy<'a, B: Backend> {
    /// Rows (tokens).
    pub tokens: usize,
    /// Slots of a token, shared ones included.
    pub top_k: usize,
    /// The first slots, which count (`top_k - shared`).
    pub routed_k: usize,
    /// Model width.
    pub width: usize,
    /// Weight.
    pub coefficient: f64,
    /// Row of each slot: [`super::permutation::Plan`]'s `inverse`, `[tokens * top_k]`.
    pub inverse: Indices<'a, B>,
    /// Expert outputs in plan order `[tokens * top_k, width]`.
    pub rows: Stored<'a, B>,
    /// Gradient of the rows, **overwritten** (shared rows get 0).
    pub drows: StoredMut<'a, B>,
    /// `[1]`, accumulated.
    pub loss: B::ViewMut<'a, f64>,
}

impl<B: Backend> Redundancy<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "redundancy";
        positive(OP, "width", self.width)?;
        positive(OP, "top_k", self.top_k)?;
        require(
            self.routed_k <= self.top_k,
            OP,
            "routed_k",
            format_args!("at most {}", self.top_k),
            self.routed_k,
        )?;
        require(self.top_k <= 64, OP, "top_k", "at most 64", self.top_k)?;
        length(OP, "inverse", &self.inverse, &[self.tokens, self.top_k])?;
        length(OP, "rows", &self.rows, &[self.tokens, self.top_k, self.width])?;
        length(OP, "drows", &self.drows, &[self.tokens, self.top_k, self.width])?;
        length(OP, "loss", &self.loss, &[1])
    }
}

//! Router configuration. A router is a composition of independent choices:
//! score function x temperature and bias x keep mask x top-k x normalisation x shared experts.
//! Switch, GShard, Mixtral, OLMoE, DeepSeek-style loss-free balancing and EMO are values of [`RouterConfig`].

use super::check::{length, optional, require};
use super::segments::Segments;
use crate::Result;
use crate::backend::{Backend, Indices, IndicesMut, View, ViewMut};

/// How logits become scores over the routed experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Score {
    /// `softmax` over the kept routed experts.
    Softmax,
    /// Element-wise `sigmoid`; experts outside the keep mask score 0.
    Sigmoid,
}

/// How the `k` selected scores become weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalise {
    /// Keep the scores as they are (OLMoE, EMO).
    None,
    /// Divide by the L_p norm of the selected scores: 1 for Mixtral and Qwen3, 2 for unit length.
    Lp(f64),
}

/// The weight a shared expert takes. Shared experts are the last ones and every token uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SharedWeight {
    /// Exactly 1 each; the router rows of shared experts get no gradient (EMO training, emo.md 2.1).
    One,
    /// A softmax over the shared experts' own logits (the Hugging Face `emo` code with two or more shared experts).
    Softmax,
}

/// A router, as a composition of choices. See [`RouterConfig::validate`] for what fits together.
///
/// With `E = experts`, `E_s = shared` and `E_r = E - E_s` routed experts, a token with logits `z` gets
/// `z' = (z + bias) / temperature`, scores `p = score(z')` over the kept routed experts, the `forced` experts and then the
/// `top_k - E_s - forced` best others by `p + selection_bias` (ties: lower index), weights `normalise(p[selected])`, and
/// last the shared experts.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterConfig {
    /// All experts of the layer, shared ones included.
    pub experts: usize,
    /// Experts a token uses, shared and always-active ones included.
    pub top_k: usize,
    /// How many of the last experts are shared.
    pub shared: usize,
    /// The weight of a shared expert.
    pub shared_weight: SharedWeight,
    /// Score function.
    pub score: Score,
    /// Divides the (biased) logits; 1 leaves them.
    pub temperature: f64,
    /// Normalisation of the selected routed scores.
    pub normalise: Normalise,
    /// Routed experts that every token takes, first and in this order, with their ordinary score as weight
    /// (`always_active_experts` of the Hugging Face `emo` code).
    pub always_active: Vec<u32>,
}

impl RouterConfig {
    /// Experts that compete for a token: all but the shared ones.
    pub fn routed(&self) -> usize {
        self.experts - self.shared
    }

    /// Slots filled from the routed experts: `top_k - shared`.
    pub fn routed_k(&self) -> usize {
        self.top_k - self.shared
    }
}

impl RouterConfig {
    /// A plain softmax router: `top_k` of `experts`, weights as they are, nothing shared.
    pub fn softmax(experts: usize, top_k: usize) -> Self {
        Self {
            experts,
            top_k,
            shared: 0,
            shared_weight: SharedWeight::One,
            score: Score::Softmax,
            temperature: 1.0,
            normalise: Normalise::None,
            always_active: Vec::new(),
        }
    }

    /// Whether the choices fit together; the error names the field.
    pub fn validate(&self) -> Result<()> {
        const OP: &str = "router";
        require(self.experts > 0, OP, "experts", "positive", self.experts)?;
        require(
            self.shared < self.experts,
            OP,
            "shared",
            format!("below experts = {}", self.experts),
            self.shared,
        )?;
        require(
            self.top_k > self.shared && self.top_k <= self.experts,
            OP,
            "top_k",
            format!("above shared = {} and at most experts = {}", self.shared, self.experts),
            self.top_k,
        )?;
        require(
            self.temperature.is_finite() && self.temperature > 0.0,
            OP,
            "temperature",
            "positive and finite",
            self.temperature,
        )?;
        if let Normalise::Lp(p) = self.normalise {
            require(p.is_finite() && p > 0.0, OP, "normalise", "a positive and finite p", p)?;
        }
        require(
            self.always_active.len() <= self.routed_k(),
            OP,
            "always_active",
            format!("at most top_k - shared = {} experts", self.routed_k()),
            self.always_active.len(),
        )?;
        for (position, &expert) in self.always_active.iter().enumerate() {
            require(
                (expert as usize) < self.routed() && !self.always_active[..position].contains(&expert),
                OP,
                "always_active",
                format!("distinct routed experts below {}", self.routed()),
                expert,
            )?;
        }
        Ok(())
    }
}

/// Which experts a token may use.
pub enum KeepMask<'a, B: Backend> {
    /// All of them.
    All,
    /// `[tokens, E_r]`, 0 = forbidden.
    PerToken(B::View<'a, u8>),
    /// `[segments, E_r]`, 0 = forbidden: what [`crate::ops::pool`] writes. One row serves all tokens of a segment.
    PerSegment(B::View<'a, u8>, Segments<'a, B>),
}

impl<B: Backend> Clone for KeepMask<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for KeepMask<'_, B> {}

impl<B: Backend> KeepMask<'_, B> {
    fn check(&self, op: &'static str, tokens: usize, routed: usize) -> Result<()> {
        match self {
            Self::All => Ok(()),
            Self::PerToken(keep) => length(op, "keep", keep, &[tokens, routed]),
            Self::PerSegment(keep, segments) => {
                segments.check(op, tokens)?;
                length(op, "keep", keep, &[segments.count(), routed])
            }
        }
    }
}

/// The fused router: mask, score, top-k, normalise, shared experts, counts, in one pass over the logits.
///
/// With `z = logits + bias`, kept experts only: `p = score(z / temperature)`, `lse = logsumexp(z)`. Forbidden experts
/// score 0 and are chosen last, lowest index first, with weight 0. Ties of `p (+ selection_bias)` go to the lower index.
/// A token whose every routed expert is forbidden has `p = 0`, `lse = 0`.
pub struct Forward<'a, B: Backend> {
    /// The composition.
    pub config: &'a RouterConfig,
    /// Rows (tokens).
    pub tokens: usize,
    /// `[tokens, experts]`.
    pub logits: View<'a, B>,
    /// Gate bias `[experts]`, part of the logits.
    pub bias: Option<View<'a, B>>,
    /// Score-correction bias `[E_r]`: decides who is chosen, not the weight (loss-free balancing, arXiv 2408.15664).
    pub selection_bias: Option<View<'a, B>>,
    /// Which experts may be used.
    pub keep: KeepMask<'a, B>,
    /// Output `[tokens, E_r]`.
    pub probs: ViewMut<'a, B>,
    /// Output `[tokens, top_k]`: always-active experts, then routed ones by descending score, then shared ones.
    pub weights: ViewMut<'a, B>,
    /// Output `[tokens, top_k]`, expert indices below `experts`.
    pub indices: IndicesMut<'a, B>,
    /// Output `[experts]`, slots that each expert serves.
    pub counts: IndicesMut<'a, B>,
    /// Output `[tokens]`.
    pub lse: ViewMut<'a, B>,
}

impl<B: Backend> Forward<'_, B> {
    /// Configuration and lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "router_forward";
        let config = self.config;
        config.validate()?;
        length(OP, "logits", &self.logits, &[self.tokens, config.experts])?;
        optional(OP, "bias", &self.bias, &[config.experts])?;
        optional(OP, "selection_bias", &self.selection_bias, &[config.routed()])?;
        self.keep.check(OP, self.tokens, config.routed())?;
        length(OP, "probs", &self.probs, &[self.tokens, config.routed()])?;
        length(OP, "weights", &self.weights, &[self.tokens, config.top_k])?;
        length(OP, "indices", &self.indices, &[self.tokens, config.top_k])?;
        length(OP, "counts", &self.counts, &[config.experts])?;
        length(OP, "lse", &self.lse, &[self.tokens])
    }
}

/// Gradient of [`Forward`] and of every loss on its outputs, in one pass:
/// `dlogits = J^T (dprobs + scatter(dweights through normalise)) + 2 z_coefficient lse softmax(z)`,
/// with `J` the Jacobian of the score function at `z / temperature`. Selection carries no gradient (emo.md 2.2).
pub struct Backward<'a, B: Backend> {
    /// The composition.
    pub config: &'a RouterConfig,
    /// Rows (tokens).
    pub tokens: usize,
    /// The forward logits.
    pub logits: View<'a, B>,
    /// The forward gate bias.
    pub bias: Option<View<'a, B>>,
    /// The forward mask.
    pub keep: KeepMask<'a, B>,
    /// The forward scores.
    pub probs: View<'a, B>,
    /// The forward weights.
    pub weights: View<'a, B>,
    /// The forward indices.
    pub indices: Indices<'a, B>,
    /// The forward log-sum-exp.
    pub lse: View<'a, B>,
    /// Gradient of the weights `[tokens, top_k]`.
    pub dweights: View<'a, B>,
    /// Gradient that losses put on the scores `[tokens, E_r]`.
    pub dprobs: Option<View<'a, B>>,
    /// Weight of `sum_t lse_t^2` (router z-loss), divisor included.
    pub z_coefficient: f64,
    /// Output `[tokens, experts]`, overwritten.
    pub dlogits: ViewMut<'a, B>,
    /// Gradient of the gate bias `[experts]`, accumulated.
    pub dbias: Option<ViewMut<'a, B>>,
}

impl<B: Backend> Backward<'_, B> {
    /// Configuration and lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "router_backward";
        let config = self.config;
        config.validate()?;
        length(OP, "logits", &self.logits, &[self.tokens, config.experts])?;
        optional(OP, "bias", &self.bias, &[config.experts])?;
        self.keep.check(OP, self.tokens, config.routed())?;
        length(OP, "probs", &self.probs, &[self.tokens, config.routed()])?;
        length(OP, "weights", &self.weights, &[self.tokens, config.top_k])?;
        length(OP, "indices", &self.indices, &[self.tokens, config.top_k])?;
        length(OP, "lse", &self.lse, &[self.tokens])?;
        length(OP, "dweights", &self.dweights, &[self.tokens, config.top_k])?;
        optional(OP, "dprobs", &self.dprobs, &[self.tokens, config.routed()])?;
        length(OP, "dlogits", &self.dlogits, &[self.tokens, config.experts])?;
        optional(OP, "dbias", &self.dbias, &[config.experts])
    }
}

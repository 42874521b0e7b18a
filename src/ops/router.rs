//! Router configuration. A router is a composition of independent choices:
//! score function x temperature and bias x keep mask x top-k x normalisation x shared experts.
//! Switch, GShard, Mixtral, OLMoE, DeepSeek-style loss-free balancing and EMO are values of [`RouterConfig`].

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
    Lp(f32),
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
    pub temperature: f32,
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

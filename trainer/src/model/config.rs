//! What a model is: one composition that covers EMO and the Hugging Face families that the trainer reads.

use emo::ops::activation::Activation;
use emo::ops::router::{Normalise, RouterConfig, Score, SharedWeight};
use emo::{Error, Result};
use serde::{Deserialize, Serialize};

/// More experts than all layers of a model have together: a larger number in a file is damage.
pub(crate) const MOST_EXPERTS: usize = 1 << 17;

/// A decoder-only transformer with a mixture of experts or a dense feed-forward layer in each block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Model width `d`.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a head; even.
    pub head_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in every RMSNorm.
    pub norm_eps: f64,
    /// Where the norms of a block sit.
    pub norm: NormPlacement,
    /// Norm of queries and keys.
    pub qk_norm: QkNorm,
    /// Clamps queries, keys and values to `[-c, c]` before rotation.
    pub clip_qkv: Option<f64>,
    /// Whether the head shares the embedding's weight.
    pub tied_embeddings: bool,
    /// The longest row the model is meant for.
    pub max_positions: usize,
    /// Token whose embedding row takes no gradient.
    pub pad_id: Option<u32>,
    /// Token that ends a document.
    pub eos_id: Option<u32>,
    /// Token that starts a document.
    pub bos_id: Option<u32>,
    /// Standard deviation of the initial weights, cut at three deviations (emo.md 1.4).
    pub init_std: f64,
    /// One entry a layer.
    pub feed_forward: Vec<FeedForward>,
}

/// Where the norms of a block sit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    /// `x + f(norm(x))` (EMO, OLMoE, Mixtral, Qwen3).
    Pre,
    /// `x + norm(f(x))` (OLMo 2, FlexOlmo).
    Post,
}

/// RMSNorm of queries and keys before rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// None.
    None,
    /// Over all heads of a row together (OLMoE, FlexOlmo).
    FullWidth,
    /// Over each head, one weight shared by all heads (Qwen3).
    PerHead,
}

/// The feed-forward part of a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedForward {
    /// A mixture of experts.
    Moe(Moe),
    /// One MLP for all tokens.
    Dense(Dense),
}

/// A mixture-of-experts layer: router and experts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moe {
    /// All experts, shared ones included.
    pub experts: usize,
    /// Experts that a token uses, shared ones included.
    pub top_k: usize,
    /// How many of the last experts every token uses.
    pub shared: usize,
    /// Weight of the shared experts.
    #[serde(with = "SharedWeightName")]
    pub shared_weight: SharedWeight,
    /// Score function.
    #[serde(with = "ScoreName")]
    pub score: Score,
    /// Divides the logits.
    pub temperature: f64,
    /// Divide the selected scores by their L_p norm.
    pub normalise: Option<f64>,
    /// Routed experts that every token takes, with their ordinary score as weight.
    pub always_active: Vec<u32>,
    /// The last `forced` routed experts are in every document pool.
    pub forced: usize,
    /// Whether the router has a learned bias, part of the logits. The document pool does not see it.
    pub gate_bias: bool,
    /// Whether a score-correction bias takes part in the selection (loss-free balancing, arXiv 2408.15664).
    pub selection_bias: bool,
    /// Expert width `h`.
    pub hidden: usize,
    /// The experts' non-linearity.
    #[serde(with = "ActivationName")]
    pub activation: Activation,
    /// Whether an expert has a gate.
    pub gated: bool,
    /// Convolution of the router logits over the tokens of a document.
    pub smoothing: Option<Smoothing>,
    /// Which experts of a larger layer these are, where the model was cut out of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// The origin of a pruned layer's experts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Routed experts of the original layer.
    pub of: usize,
    /// For each routed expert its index in the original layer, ascending.
    pub experts: Vec<u32>,
}

/// Sequence smoothing of router logits, starting from equal taps ("box").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smoothing {
    /// Taps, 1 to 9.
    pub width: usize,
    /// Tokens that the last tap looks ahead: 0 is causal.
    pub ahead: usize,
    /// Whether the taps are parameters.
    pub learned: bool,
    /// Whether each expert has taps of its own.
    pub depthwise: bool,
    /// Divide by the sum of the taps inside the document.
    pub renormalise: bool,
}

/// A gated dense MLP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// Width of the hidden row.
    pub hidden: usize,
    /// Whether the three products have a bias.
    pub bias: bool,
    /// The non-linearity.
    #[serde(with = "ActivationName")]
    pub activation: Activation,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SharedWeight", rename_all = "snake_case")]
enum SharedWeightName {
    One,
    Softmax,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Score", rename_all = "snake_case")]
enum ScoreName {
    Softmax,
    Sigmoid,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Activation", rename_all = "snake_case")]
enum ActivationName {
    Silu,
    Gelu,
    GeluTanh,
    Relu,
    ReluSquared,
}

impl Moe {
    /// SwiGLU experts under a plain softmax router, the last `shared` of them used by every token with weight 1:
    /// the layer of the released EMO.
    pub fn emo(experts: usize, top_k: usize, shared: usize, hidden: usize) -> Self {
        Self {
            experts,
            top_k,
            shared,
            shared_weight: SharedWeight::One,
            score: Score::Softmax,
            temperature: 1.0,
            normalise: None,
            always_active: Vec::new(),
            forced: 0,
            gate_bias: false,
            selection_bias: false,
            hidden,
            activation: Activation::Silu,
            gated: true,
            smoothing: None,
            kept: None,
        }
    }

    /// The layer that has only these of the routed experts (ascending, at least one, every always-active one among them)
    /// beside the shared ones: `top_k` becomes at most what is left, and each expert remembers its original index.
    pub fn keep(&self, experts: &[u32]) -> Self {
        let place = |expert: &u32| experts.binary_search(expert).ok().map(|place| place as u32);
        let total = experts.len() + self.shared;
        let first_forced = (self.routed() - self.forced) as u32;
        let kept = match &self.kept {
            None => Kept { of: self.routed(), experts: experts.to_vec() },
            Some(Kept { of, experts: origin }) => {
                Kept { of: *of, experts: experts.iter().map(|&expert| origin[expert as usize]).collect() }
            }
        };
        Self {
            experts: total,
            top_k: self.top_k.min(total),
            always_active: self.always_active.iter().filter_map(place).collect(),
            forced: experts.iter().filter(|&&expert| expert >= first_forced).count(),
            kept: Some(kept),
            ..self.clone()
        }
    }

    /// Whether [`Moe::keep`] can keep these routed experts.
    pub fn check_keep(&self, experts: &[u32]) -> Result<()> {
        let ascending = experts.windows(2).all(|pair| pair[0] < pair[1]);
        let below = experts.last().is_some_and(|&last| (last as usize) < self.routed());
        let active = self.always_active.iter().all(|active| experts.contains(active));
        require(
            ascending && below && active,
            "experts",
            format!(
                "at least one, ascending, each below {}, and among them {:?}",
                self.routed(),
                self.always_active
            ),
            format!("{experts:?}"),
        )
    }

    /// The router as the library's composition.
    pub fn router(&self) -> RouterConfig {
        RouterConfig {
            experts: self.experts,
            top_k: self.top_k,
            shared: self.shared,
            shared_weight: self.shared_weight,
            score: self.score,
            temperature: self.temperature,
            normalise: self.normalise.map_or(Normalise::None, Normalise::Lp),
            always_active: self.always_active.clone(),
        }
    }

    /// Experts that compete for a token.
    pub fn routed(&self) -> usize {
        self.experts - self.shared
    }

    /// Rows of an expert's input projection: `2h` gated, else `h`.
    pub fn pre(&self) -> usize {
        if self.gated { 2 * self.hidden } else { self.hidden }
    }

    /// Elements of the smoothing taps.
    pub fn taps(&self) -> usize {
        self.smoothing.map_or(0, |s| if s.depthwise { s.width * self.experts } else { s.width })
    }

    fn validate(&self) -> Result<()> {
        self.router().validate()?;
        require(
            self.forced <= self.routed(),
            "forced",
            format!("at most {} routed experts", self.routed()),
            self.forced,
        )?;
        if let Some(Kept { of, experts }) = &self.kept {
            let ascending = experts.windows(2).all(|pair| pair[0] < pair[1]);
            let below = experts.last().is_none_or(|&last| (last as usize) < *of);
            require(
                ascending && below && experts.len() == self.routed(),
                "kept_experts",
                format!("{} original indices, ascending, each below {of}", self.routed()),
                format!("{experts:?}"),
            )?;
        }
        if let Some(smoothing) = self.smoothing {
            require((1..=9).contains(&smoothing.width), "smoothing.width", "1 to 9", smoothing.width)?;
            require(
                smoothing.ahead < smoothing.width,
                "smoothing.ahead",
                format!("below the width {}", smoothing.width),
                smoothing.ahead,
            )?;
        }
        Ok(())
    }
}

fn require(condition: bool, arg: &'static str, expected: impl ToString, found: impl ToString) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::argument("model", arg, expected, found)) }
}

impl ModelConfig {
    /// How many layers.
    pub fn layers(&self) -> usize {
        self.feed_forward.len()
    }

    /// Width of all query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads.
    pub fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of a packed `[q | k | v]` row.
    pub fn qkv_width(&self) -> usize {
        self.query_width() + 2 * self.key_width()
    }

    /// The layers with experts, in order: `(layer, its configuration)`.
    pub fn moe_layers(&self) -> impl Iterator<Item = (usize, &Moe)> {
        self.feed_forward.iter().enumerate().filter_map(|(layer, kind)| match kind {
            FeedForward::Moe(moe) => Some((layer, moe)),
            FeedForward::Dense(_) => None,
        })
    }

    /// The model that has only these routed experts, a list for each layer with experts; see [`Moe::keep`].
    ///
    /// # Errors
    /// Lists that [`Moe::check_keep`] refuses, or another number of them.
    pub fn keep(&self, kept: &[Vec<u32>]) -> Result<Self> {
        require(kept.len() == self.moe_layers().count(), "experts", "a list for each layer", kept.len())?;
        let (mut config, mut lists) = (self.clone(), kept.iter());
        for kind in &mut config.feed_forward {
            let FeedForward::Moe(moe) = kind else { continue };
            let Some(experts) = lists.next() else { continue };
            moe.check_keep(experts)?;
            *moe = moe.keep(experts);
        }
        Ok(config)
    }

    /// Whether the routing of some layer depends on later tokens (centred smoothing).
    pub fn routes_ahead(&self) -> bool {
        self.moe_layers().any(|(_, moe)| moe.smoothing.is_some_and(|smoothing| smoothing.ahead > 0))
    }

    /// Whether the sizes fit together; the error names the field.
    pub fn validate(&self) -> Result<()> {
        for (field, size) in [
            ("vocabulary", self.vocabulary),
            ("width", self.width),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("max_positions", self.max_positions),
            ("feed_forward", self.layers()),
        ] {
            require((1..=1 << 31).contains(&size), field, "positive and below 2^31", size)?;
        }
        require(
            self.heads.is_multiple_of(self.kv_heads),
            "kv_heads",
            format!("a divisor of heads = {}", self.heads),
            self.kv_heads,
        )?;
        require(self.head_dim.is_multiple_of(2), "head_dim", "even", self.head_dim)?;
        require(self.rope_theta > 0.0, "rope_theta", "positive", self.rope_theta)?;
        require(self.norm_eps >= 0.0, "norm_eps", "zero or more", self.norm_eps)?;
        require(
            self.init_std.is_finite() && self.init_std >= 0.0,
            "init_std",
            "zero or more",
            self.init_std,
        )?;
        if let Some(limit) = self.clip_qkv {
            require(limit > 0.0, "clip_qkv", "positive", limit)?;
        }
        for (field, id) in [("pad_id", self.pad_id), ("eos_id", self.eos_id), ("bos_id", self.bos_id)] {
            if let Some(id) = id {
                require(
                    (id as usize) < self.vocabulary,
                    field,
                    format!("below vocabulary = {}", self.vocabulary),
                    id,
                )?;
            }
        }
        let hidden = |size: usize| require((1..=1 << 31).contains(&size), "hidden", "1 to 2^31", size);
        // Every expert has tensors of its own: their names alone would fill the memory.
        let experts = self.moe_layers().fold(0usize, |sum, (_, moe)| sum.saturating_add(moe.experts));
        require(
            experts <= MOST_EXPERTS,
            "experts",
            format!("at most {MOST_EXPERTS} in all layers"),
            experts,
        )?;
        self.feed_forward.iter().try_for_each(|kind| match kind {
            FeedForward::Moe(moe) => moe.validate().and_then(|()| hidden(moe.hidden)),
            FeedForward::Dense(dense) => hidden(dense.hidden),
        })
    }
}

//! Where each parameter lies in the one flat arena that holds them all. Gradients and optimiser moments use the same
//! ranges, so a step of the optimiser is a loop over a few long ranges.

use std::ops::Range;

use emo::{Error, Result};

use super::config::{FeedForward, ModelConfig, NormPlacement, QkNorm};

/// How a tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with the model's `init_std`, cut at three deviations.
    Normal,
    /// This value everywhere.
    Constant(f64),
}

/// One tensor of the arena.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Name, for example `layers.3.experts_in`.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Elements in the arena.
    pub range: Range<usize>,
    /// Whether weight decay applies: to everything but the embedding, biases and smoothing taps (emo.md 4).
    pub decay: bool,
    /// How it starts.
    pub init: Init,
}

/// The parts of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Norm before (or after) attention `[d]`.
    pub attention_norm: Range<usize>,
    /// Query, key and value weights, one matrix `[(heads + 2 kv_heads) head_dim, d]`.
    pub qkv: Range<usize>,
    /// Query norm.
    pub q_norm: Option<Range<usize>>,
    /// Key norm.
    pub k_norm: Option<Range<usize>>,
    /// Output weight `[d, heads head_dim]`.
    pub output: Range<usize>,
    /// Norm before (or after) the feed-forward part `[d]`.
    pub feed_forward_norm: Range<usize>,
    /// The feed-forward part.
    pub feed_forward: FeedForwardLayout,
}

/// Parameters of a feed-forward part.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedForwardLayout {
    /// A mixture of experts.
    Moe {
        /// Router weight `[E, d]`.
        router: Range<usize>,
        /// Router bias `[E]`.
        bias: Option<Range<usize>>,
        /// Smoothing taps, learned or fixed (fixed ones are not in the arena).
        taps: Option<Range<usize>>,
        /// `[E, 2h, d]`: each expert's gate rows, then its up rows; `[E, h, d]` without gate.
        w_in: Range<usize>,
        /// `[E, d, h]`.
        w_out: Range<usize>,
    },
    /// One MLP.
    Dense {
        /// `[2h, d]`: gate rows, then up rows.
        w_in: Range<usize>,
        /// `[2h]`.
        bias_in: Option<Range<usize>>,
        /// `[d, h]`.
        w_out: Range<usize>,
        /// `[d]`.
        bias_out: Option<Range<usize>>,
    },
}

/// The whole arena.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Every tensor, in arena order, without gaps.
    pub tensors: Vec<Tensor>,
    /// Embedding table `[V, d]`.
    pub embedding: Range<usize>,
    /// Blocks.
    pub layers: Vec<Layer>,
    /// Norm before the head `[d]`.
    pub final_norm: Range<usize>,
    /// Head `[V, d]`; the embedding's range where tied.
    pub head: Range<usize>,
}

struct Builder {
    tensors: Vec<Tensor>,
    end: usize,
}

impl Builder {
    fn add(&mut self, name: String, shape: &[usize], decay: bool, init: Init) -> Result<Range<usize>> {
        let size = shape
            .iter()
            .try_fold(1usize, |size, &n| size.checked_mul(n))
            .and_then(|size| self.end.checked_add(size))
            .filter(|&end| end <= isize::MAX as usize / 8)
            .ok_or_else(|| {
                Error::argument("model", "shape", "a size that fits in memory", format!("{shape:?}"))
            })?;
        let range = self.end..size;
        self.end = size;
        self.tensors.push(Tensor { name, shape: shape.to_vec(), range: range.clone(), decay, init });
        Ok(range)
    }
}

impl Layout {
    /// The arena of a model.
    pub fn new(config: &ModelConfig) -> Result<Self> {
        config.validate()?;
        let d = config.width;
        let mut arena = Builder { tensors: Vec::new(), end: 0 };
        let ones = Init::Constant(1.0);
        let embedding = arena.add("embedding".into(), &[config.vocabulary, d], false, Init::Normal)?;
        let mut layers = Vec::with_capacity(config.layers());
        for (index, kind) in config.feed_forward.iter().enumerate() {
            let name = |part: &str| format!("layers.{index}.{part}");
            let (q_norm, k_norm) = match config.qk_norm {
                QkNorm::None => (None, None),
                QkNorm::FullWidth => (Some(config.query_width()), Some(config.key_width())),
                QkNorm::PerHead => (Some(config.head_dim), Some(config.head_dim)),
            };
            layers.push(Layer {
                attention_norm: arena.add(name("attention_norm"), &[d], true, ones)?,
                qkv: arena.add(name("qkv"), &[config.qkv_width(), d], true, Init::Normal)?,
                q_norm: q_norm.map(|width| arena.add(name("q_norm"), &[width], true, ones)).transpose()?,
                k_norm: k_norm.map(|width| arena.add(name("k_norm"), &[width], true, ones)).transpose()?,
                output: arena.add(name("output"), &[d, config.query_width()], true, Init::Normal)?,
                feed_forward_norm: arena.add(name("feed_forward_norm"), &[d], true, ones)?,
                feed_forward: feed_forward(&mut arena, kind, d, &name)?,
            });
        }
        let final_norm = arena.add("final_norm".into(), &[d], true, ones)?;
        let head = if config.tied_embeddings {
            embedding.clone()
        } else {
            arena.add("head".into(), &[config.vocabulary, d], true, Init::Normal)?
        };
        Ok(Self { tensors: arena.tensors, embedding, layers, final_norm, head })
    }

    /// How many parameters.
    pub fn len(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.range.end)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Parameters that one token uses: of the experts, `top_k` of `experts`.
    pub fn active(&self, config: &ModelConfig) -> usize {
        let idle: usize = config
            .moe_layers()
            .map(|(_, moe)| (moe.experts - moe.top_k) * (moe.pre() + moe.hidden) * config.width)
            .sum();
        self.len() - idle
    }

    /// Neighbouring tensors merged by weight decay: what one optimiser call each works on.
    pub fn decay_groups(&self) -> Vec<(Range<usize>, bool)> {
        let mut groups: Vec<(Range<usize>, bool)> = Vec::new();
        for tensor in &self.tensors {
            match groups.last_mut() {
                Some((range, decay)) if *decay == tensor.decay => range.end = tensor.range.end,
                _ => groups.push((tensor.range.clone(), tensor.decay)),
            }
        }
        groups
    }
}

fn feed_forward(
    arena: &mut Builder,
    kind: &FeedForward,
    d: usize,
    name: &dyn Fn(&str) -> String,
) -> Result<FeedForwardLayout> {
    let zeros = Init::Constant(0.0);
    Ok(match kind {
        FeedForward::Moe(moe) => FeedForwardLayout::Moe {
            router: arena.add(name("router"), &[moe.experts, d], true, Init::Normal)?,
            bias: if moe.gate_bias {
                Some(arena.add(name("router_bias"), &[moe.experts], false, zeros)?)
            } else {
                None
            },
            taps: match moe.smoothing.filter(|smoothing| smoothing.learned) {
                Some(smoothing) => {
                    let shape = [moe.taps() / smoothing.width, smoothing.width];
                    let box_filter = Init::Constant(1.0 / smoothing.width as f64);
                    Some(arena.add(name("smoothing_taps"), &shape, false, box_filter)?)
                }
                None => None,
            },
            w_in: arena.add(name("experts_in"), &[moe.experts, moe.pre(), d], true, Init::Normal)?,
            w_out: arena.add(name("experts_out"), &[moe.experts, d, moe.hidden], true, Init::Normal)?,
        },
        FeedForward::Dense(dense) => {
            let bias = |part: &str, len: usize, arena: &mut Builder| {
                dense.bias.then(|| arena.add(name(part), &[len], false, zeros)).transpose()
            };
            FeedForwardLayout::Dense {
                w_in: arena.add(name("dense_in"), &[2 * dense.hidden, d], true, Init::Normal)?,
                bias_in: bias("dense_in_bias", 2 * dense.hidden, arena)?,
                w_out: arena.add(name("dense_out"), &[d, dense.hidden], true, Init::Normal)?,
                bias_out: bias("dense_out_bias", d, arena)?,
            }
        }
    })
}

impl NormPlacement {
    /// Whether the norm comes before the branch.
    pub fn is_pre(self) -> bool {
        self == Self::Pre
    }
}

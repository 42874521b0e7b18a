//! Causal multi-head attention inside segments, grouped-query layout.

use super::check::{at_least, length, positive, require};
use super::segments::Segments;
use crate::Result;
use crate::backend::{Backend, Indices, Stored, StoredMut, View, ViewMut};

/// Sizes of an attention op. A row of `qkv` is packed `[q: heads*head_dim | k: kv_heads*head_dim | v: kv_heads*head_dim]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows (tokens) of all sequences together.
    pub tokens: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`, each serves `heads / kv_heads` neighbouring query heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// The longest segment there can be, for sizing the workspace.
    pub longest: usize,
}

impl Shape {
    /// Elements of a packed row.
    pub fn row(&self) -> usize {
        self.kv_heads.saturating_mul(2).saturating_add(self.heads).saturating_mul(self.head_dim)
    }

    /// Elements of an output row.
    pub fn out(&self) -> usize {
        self.heads.saturating_mul(self.head_dim)
    }

    /// Elements of a token's keys and values.
    pub fn cache_row(&self) -> usize {
        self.kv_heads.saturating_mul(2).saturating_mul(self.head_dim)
    }

    fn check(&self, op: &'static str) -> Result<()> {
        positive(op, "head_dim", self.head_dim)?;
        positive(op, "heads", self.heads)?;
        require(
            self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            op,
            "kv_heads",
            format_args!("a divisor of heads = {}", self.heads),
            self.kv_heads,
        )
    }
}

/// `o_t = sum_{s <= t, same segment} softmax_s(q_t . k_s / sqrt(head_dim)) v_s`, keeping `lse` for the backward pass.
pub struct Forward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Attention never crosses a segment.
    pub segments: Segments<'a, B>,
    /// Packed, rotated `[tokens, row]`.
    pub qkv: Stored<'a, B>,
    /// Output `[tokens, heads * head_dim]`.
    pub out: StoredMut<'a, B>,
    /// Output: log-sum-exp of the scaled scores `[tokens, heads]`.
    pub lse: ViewMut<'a, B>,
    /// At least [`Backend::attention_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Forward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "attention_forward";
        self.shape.check(OP)?;
        self.segments.check(OP, self.shape.tokens)?;
        length(OP, "qkv", &self.qkv, &[self.shape.tokens, self.shape.row()])?;
        length(OP, "out", &self.out, &[self.shape.tokens, self.shape.out()])?;
        length(OP, "lse", &self.lse, &[self.shape.tokens, self.shape.heads])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

/// [`Forward`] for tokens that continue sequences, whose earlier keys and values lie in a cache, which takes theirs too:
/// decoding. Token `i` of segment `s` is token `t = past_s + i` of the sequence in place `c = slots_s` of the cache:
/// `cache[c, t] = [k_i | v_i]`, then `o_i = sum_{u <= t} softmax_u(q_i . k_{c,u} / sqrt(head_dim)) v_{c,u}`.
///
/// There is no backward pass. A backend without it says so in [`Backend::CACHED_ATTENTION`].
pub struct Cached<'a, B: Backend> {
    /// Shape; `tokens` are the new ones, `longest` the tokens that a sequence has room for in the cache.
    pub shape: Shape,
    /// Places in the cache.
    pub places: usize,
    /// The new tokens of each sequence.
    pub segments: Segments<'a, B>,
    /// Place of each sequence in the cache, `[segments]`, no two alike.
    pub slots: Indices<'a, B>,
    /// Tokens of each sequence that the cache holds already, `[segments]`.
    pub past: Indices<'a, B>,
    /// Packed, rotated `[tokens, row]` of the new tokens.
    pub qkv: Stored<'a, B>,
    /// `[places, longest, 2 * kv_heads * head_dim]`, a row is `[k | v]`; rows of new tokens are written.
    pub cache: StoredMut<'a, B>,
    /// Output `[tokens, heads * head_dim]`.
    pub out: StoredMut<'a, B>,
    /// At least [`Backend::attention_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Cached<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "attention_cached";
        self.shape.check(OP)?;
        self.segments.check(OP, self.shape.tokens)?;
        length(OP, "slots", &self.slots, &[self.segments.count()])?;
        length(OP, "past", &self.past, &[self.segments.count()])?;
        length(OP, "qkv", &self.qkv, &[self.shape.tokens, self.shape.row()])?;
        length(OP, "cache", &self.cache, &[self.places, self.shape.longest, self.shape.cache_row()])?;
        length(OP, "out", &self.out, &[self.shape.tokens, self.shape.out()])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

/// Gradient of [`Forward`]: recomputes the probabilities from `qkv` and `lse`, overwrites `dqkv`.
pub struct Backward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// The forward segments.
    pub segments: Segments<'a, B>,
    /// The forward input.
    pub qkv: Stored<'a, B>,
    /// The forward output.
    pub out: Stored<'a, B>,
    /// The forward log-sum-exp.
    pub lse: View<'a, B>,
    /// Gradient of the output `[tokens, heads * head_dim]`.
    pub dout: Stored<'a, B>,
    /// Gradient of the packed input `[tokens, row]`.
    pub dqkv: StoredMut<'a, B>,
    /// At least [`Backend::attention_workspace`] elements.
    pub workspace: ViewMut<'a, B>,
}

impl<B: Backend> Backward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self, workspace: usize) -> Result<()> {
        const OP: &str = "attention_backward";
        self.shape.check(OP)?;
        self.segments.check(OP, self.shape.tokens)?;
        length(OP, "qkv", &self.qkv, &[self.shape.tokens, self.shape.row()])?;
        length(OP, "dqkv", &self.dqkv, &[self.shape.tokens, self.shape.row()])?;
        length(OP, "out", &self.out, &[self.shape.tokens, self.shape.out()])?;
        length(OP, "dout", &self.dout, &[self.shape.tokens, self.shape.out()])?;
        length(OP, "lse", &self.lse, &[self.shape.tokens, self.shape.heads])?;
        at_least(OP, "workspace", &self.workspace, workspace)
    }
}

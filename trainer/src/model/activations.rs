//! All memory of a training step that grows with the batch, planned at start-up: no op allocates. What a step reports (losses, counts
//! of each layer) is a few kilobytes of its own.
//!
//! What is kept from the forward pass, for each layer and token: the residual stream before attention and before the
//! feed-forward part, the packed queries, keys and values, attention's output and log-sum-exp, router logits, scores,
//! weights and plan, and the experts' pre-activations. Norm outputs and activated rows are recomputed in the backward pass and live
//! once, in [`Scratch`]; so do expert outputs, which are kept only where the redundancy loss needs them.

use emo::Result;
use emo::backend::{Backend, Element, Real};

use super::config::{FeedForward, ModelConfig, NormPlacement};
use super::layers::{attention, dense, head, moe};

/// What a buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Trained values and the state saved with them.
    Parameters,
    /// Their gradients.
    Gradients,
    /// Kept from the forward for the backward pass.
    Activations,
    /// Used again by every layer.
    Scratch,
    /// Token ids, labels, segments, pool sizes.
    Inputs,
}

/// One planned buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is for.
    pub purpose: Purpose,
    /// Name, for example `layers.3.attention.qkv`.
    pub name: String,
    /// How many elements.
    pub elements: usize,
    /// How many bytes.
    pub bytes: usize,
}

/// How large a batch the memory is planned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Tokens of a micro-batch, all rows together.
    pub tokens: usize,
    /// The longest row; positions are below it.
    pub longest: usize,
    /// Domains of the domain consistency loss, 0 where it is off.
    pub domains: usize,
    /// Whether the redundancy loss is on: it needs the gradient of every expert row.
    pub redundancy: bool,
    /// Whether there is a backward pass.
    pub backward: bool,
}

/// Hands out buffers and writes them down. A dry planner writes down the same table without allocating.
pub struct Planner<'a, B: Backend> {
    backend: &'a B,
    dry: bool,
    entries: Vec<Entry>,
}

impl<'a, B: Backend> Planner<'a, B> {
    /// A planner; `dry` hands out empty buffers.
    pub fn new(backend: &'a B, dry: bool) -> Self {
        Self { backend, dry, entries: Vec::new() }
    }

    /// A zeroed buffer of `elements`.
    pub fn buffer<T: Element>(
        &mut self,
        purpose: Purpose,
        name: impl Into<String>,
        elements: usize,
    ) -> Result<B::Buffer<T>> {
        let bytes = elements.saturating_mul(size_of::<T>());
        self.entries.push(Entry { purpose, name: name.into(), elements, bytes });
        self.backend.alloc(if self.dry { 0 } else { elements })
    }

    /// A zeroed buffer of the type the backend computes in: statistics, router values, losses, workspaces.
    pub fn real(
        &mut self,
        purpose: Purpose,
        name: impl Into<String>,
        elements: usize,
    ) -> Result<B::Buffer<B::Real>> {
        self.buffer(purpose, name, elements)
    }

    /// A zeroed buffer of the type the backend stores activations and their gradients in.
    pub fn stored(
        &mut self,
        purpose: Purpose,
        name: impl Into<String>,
        elements: usize,
    ) -> Result<B::Buffer<B::Storage>> {
        self.buffer(purpose, name, elements)
    }

    /// The backend that is asked for workspace sizes.
    pub fn backend(&self) -> &'a B {
        self.backend
    }

    /// The table so far.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}

/// What one block keeps for its backward pass.
pub(crate) struct LayerCache<B: Backend> {
    pub attention_rstd: B::Buffer<B::Real>,
    pub attention: attention::Cache<B>,
    /// Output of the attention branch before its norm, where the norm comes after.
    pub attention_out: Option<B::Buffer<B::Storage>>,
    pub feed_forward_rstd: B::Buffer<B::Real>,
    pub feed_forward: FeedForwardCache<B>,
    /// Output of the feed-forward branch before its norm, where the norm comes after.
    pub feed_forward_out: Option<B::Buffer<B::Storage>>,
}

/// The cache of either kind of feed-forward part.
pub(crate) enum FeedForwardCache<B: Backend> {
    Moe(moe::Cache<B>),
    Dense(dense::Cache<B>),
}

/// Buffers that every layer uses in turn.
pub(crate) struct Scratch<B: Backend> {
    /// Input of a branch after its norm; in the backward pass recomputed.
    pub normed: B::Buffer<B::Storage>,
    /// Output of a branch; in the backward pass the gradient of its input.
    pub branch: B::Buffer<B::Storage>,
    /// Gradient of a branch's output, where the norm comes after.
    pub dbranch: Option<B::Buffer<B::Storage>>,
    /// Gradient of the residual stream.
    pub dresidual: B::Buffer<B::Storage>,
    pub attention: attention::Scratch<B>,
    pub dense: Option<dense::Scratch<B>>,
    pub moe: Option<moe::Scratch<B>>,
    pub head: head::Scratch<B>,
    /// The largest workspace any op asks for.
    pub workspace: B::Buffer<B::Real>,
}

/// Everything between the parameters and the losses.
pub(crate) struct Activations<B: Backend> {
    /// The residual stream: embeddings, then after each attention and each feed-forward part, `2 layers + 1` times.
    pub residual: Vec<B::Buffer<B::Storage>>,
    pub layers: Vec<LayerCache<B>>,
    pub final_rstd: B::Buffer<B::Real>,
    pub scratch: Scratch<B>,
    /// Rotary tables.
    pub cos: B::Buffer<B::Real>,
    pub sin: B::Buffer<B::Real>,
}

impl<B: Backend> Activations<B> {
    pub fn plan(plan: &mut Planner<'_, B>, config: &ModelConfig, capacity: &Capacity) -> Result<Self> {
        use Purpose::Activations as Keep;
        let (tokens, d) = (capacity.tokens, config.width);
        let post = config.norm == NormPlacement::Post;
        let mut residual = vec![plan.stored(Keep, "embedded", tokens * d)?];
        let mut layers = Vec::with_capacity(config.layers());
        for (index, kind) in config.feed_forward.iter().enumerate() {
            let name = |part: &str| format!("layers.{index}.{part}");
            let optional = |plan: &mut Planner<'_, B>, part: &str| {
                post.then(|| plan.stored(Keep, name(part), tokens * d)).transpose()
            };
            layers.push(LayerCache {
                attention_rstd: plan.real(Keep, name("attention_norm.rstd"), tokens)?,
                attention: attention::Cache::plan(plan, config, tokens, &name("attention"))?,
                attention_out: optional(plan, "attention.out")?,
                feed_forward_rstd: plan.real(Keep, name("feed_forward_norm.rstd"), tokens)?,
                feed_forward: match kind {
                    FeedForward::Moe(moe) => {
                        FeedForwardCache::Moe(moe::Cache::plan(plan, moe, d, capacity, &name("moe"))?)
                    }
                    FeedForward::Dense(dense) => {
                        FeedForwardCache::Dense(dense::Cache::plan(plan, dense, tokens, &name("dense"))?)
                    }
                },
                feed_forward_out: optional(plan, "feed_forward.out")?,
            });
            residual.push(plan.stored(Keep, name("attention.residual"), tokens * d)?);
            residual.push(plan.stored(Keep, name("feed_forward.residual"), tokens * d)?);
        }
        let final_rstd = plan.real(Keep, "final_norm.rstd", tokens)?;
        let scratch = Scratch::plan(plan, config, capacity)?;
        let table = capacity.longest * config.head_dim / 2;
        let cos = plan.real(Purpose::Inputs, "rope.cos", table)?;
        let sin = plan.real(Purpose::Inputs, "rope.sin", table)?;
        Ok(Self { residual, layers, final_rstd, scratch, cos, sin })
    }
}

impl<B: Backend> Scratch<B> {
    fn plan(plan: &mut Planner<'_, B>, config: &ModelConfig, capacity: &Capacity) -> Result<Self> {
        use Purpose::Scratch as Use;
        let rows = capacity.tokens * config.width;
        let post = config.norm == NormPlacement::Post;
        let backward = if capacity.backward { rows } else { 0 };
        Ok(Self {
            normed: plan.stored(Use, "normed", rows)?,
            branch: plan.stored(Use, "branch", rows)?,
            dbranch: (post && capacity.backward).then(|| plan.stored(Use, "dbranch", rows)).transpose()?,
            dresidual: plan.stored(Use, "dresidual", backward)?,
            attention: attention::Scratch::plan(plan, config, capacity)?,
            dense: dense::Scratch::plan(plan, config, capacity)?,
            moe: moe::Scratch::plan(plan, config, capacity)?,
            head: head::Scratch::plan(plan, config, capacity)?,
            workspace: {
                let elements = workspace(plan.backend(), config, capacity);
                plan.real(Use, "workspace", elements)?
            },
        })
    }
}

fn workspace<B: Backend>(backend: &B, config: &ModelConfig, capacity: &Capacity) -> usize {
    let norm = emo::ops::rms_norm::Shape::rows(capacity.tokens, config.width);
    [
        backend.rms_norm_workspace(norm),
        attention::workspace(backend, config, capacity),
        dense::workspace(backend, config, capacity),
        moe::workspace(backend, config, capacity),
        head::workspace(backend, config, capacity),
    ]
    .into_iter()
    .max()
    .unwrap_or(0)
}

/// The first `len` elements of a buffer.
pub(crate) fn read<'a, B: Backend, T: Element>(
    backend: &B,
    buffer: &'a B::Buffer<T>,
    len: usize,
) -> Result<B::View<'a, T>> {
    backend.view(buffer, 0..len)
}

/// The first `len` elements of a buffer, writable.
pub(crate) fn write<'a, B: Backend, T: Element>(
    backend: &B,
    buffer: &'a mut B::Buffer<T>,
    len: usize,
) -> Result<B::ViewMut<'a, T>> {
    backend.view_mut(buffer, 0..len)
}

/// Uploads `f64` values, rounded to the buffer's type.
pub(crate) fn upload<B: Backend, T: Real>(
    backend: &B,
    values: &[f64],
    buffer: &mut B::Buffer<T>,
    start: usize,
) -> Result<()> {
    let values: Vec<T> = values.iter().map(|&value| T::from_f64(value)).collect();
    backend.upload(&values, backend.view_mut(buffer, start..start + values.len())?)
}

/// Downloads values as `f64`.
pub(crate) fn download<B: Backend, T: Real>(
    backend: &B,
    buffer: &B::Buffer<T>,
    range: std::ops::Range<usize>,
) -> Result<Vec<f64>> {
    let mut values = vec![T::from_f64(0.0); range.len()];
    backend.download(backend.view(buffer, range)?, &mut values)?;
    Ok(values.into_iter().map(Real::to_f64).collect())
}

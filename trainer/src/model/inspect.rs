//! Looking into a model after a forward pass: routing for reports and tests, and where a number went wrong.

use emo::Result;
use emo::backend::{Backend, Element};

use super::activations::{FeedForwardCache, download, read};
use super::{FeedForward, Model, NormPlacement, PoolFrom};

/// Routing of one layer with experts, of the last forward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// Layer.
    pub layer: usize,
    /// Router input `[tokens, d]`.
    pub input: Vec<f64>,
    /// Logits of the router's product `[tokens, E]`, before smoothing and bias.
    pub logits: Vec<f64>,
    /// Scores `[tokens, E_r]`.
    pub scores: Vec<f64>,
    /// `[tokens, top_k]`.
    pub weights: Vec<f64>,
    /// `[tokens, top_k]`.
    pub indices: Vec<u32>,
    /// Slots of each expert `[E]`.
    pub counts: Vec<u32>,
    /// Pools `[segments, E_r]`, 1 = may be used, or `[tokens, E_r]` where they look back only; none where there were none.
    pub pools: Option<Vec<u8>>,
}

impl Routing {
    /// Experts that each token uses, shared ones included.
    #[must_use]
    pub fn top_k(&self) -> usize {
        let tokens = if self.counts.is_empty() { 0 } else { self.logits.len() / self.counts.len() };
        self.indices.len() / tokens.max(1)
    }
}

impl<B: Backend> Model<B> {
    /// Routing of the `ordinal`-th layer with experts, in the numbering of the whole layer. Experts that
    /// [`Model::set_experts`] leaves out have the logit `-inf`, the score 0 and no slot.
    pub fn routing(&self, ordinal: usize) -> Result<Option<Routing>> {
        let Some((layer, moe)) = self.config.moe_layers().nth(ordinal) else { return Ok(None) };
        let FeedForwardCache::Moe(cache) = &self.memory.layers[layer].feed_forward else { return Ok(None) };
        let tokens = self.batch.tokens;
        let logits = cache.raw_logits.as_ref().unwrap_or(&cache.logits);
        let kept = self.experts[ordinal].1.kept.as_ref();
        let all = moe;
        let moe = kept.map_or(moe, |kept| &kept.moe);
        let rows = match self.batch.pool_from {
            PoolFrom::Document => self.batch.routing_count(),
            PoolFrom::Prefix(_) | PoolFrom::SoFar => tokens,
        };
        let pools = rows * moe.routed();
        let found = Routing {
            layer,
            input: self.router_input(layer)?,
            logits: download::<B, _>(&self.backend, logits, 0..tokens * moe.experts)?,
            scores: download::<B, _>(&self.backend, &cache.probs, 0..tokens * moe.routed())?,
            weights: download::<B, _>(&self.backend, &cache.weights, 0..tokens * moe.top_k)?,
            indices: self.fetch(&cache.indices, tokens * moe.top_k)?,
            counts: self.fetch(&cache.counts, moe.experts)?,
            pools: self.batch.pools.then(|| self.fetch(&cache.keep, pools)).transpose()?,
        };
        let Some(kept) = kept else { return Ok(Some(found)) };
        let (experts, routed) = (moe.experts, moe.routed());
        let place = |index: u32| kept.experts[index as usize];
        Ok(Some(Routing {
            logits: kept.spread(&found.logits, experts, all.experts, f64::NEG_INFINITY),
            scores: kept.spread(&found.scores, routed, all.routed(), 0.0),
            indices: found.indices.into_iter().map(place).collect(),
            counts: kept.spread(&found.counts, experts, all.experts, 0),
            pools: found.pools.map(|pools| kept.spread(&pools, routed, all.routed(), 0)),
            ..found
        }))
    }

    /// Outputs `[tokens, top_k, d]` of the experts that each token of the last batch used, before their weights, in the
    /// order of [`Routing::indices`]. Only of the layer that was computed last, so that it is asked for after
    /// [`Model::forward_blocks`] up to it: the memory serves every layer in turn.
    pub fn expert_outputs(&self, ordinal: usize) -> Result<Vec<f64>> {
        let Some((cache, moe)) = self.moe_caches().nth(ordinal) else { return Ok(Vec::new()) };
        let Some(scratch) = &self.memory.scratch.moe else { return Ok(Vec::new()) };
        let moe = self.experts[ordinal].1.kept.as_ref().map_or(moe, |kept| &kept.moe);
        let (slots, d) = (self.batch.tokens * moe.top_k, self.config.width);
        let rows = cache.rows.as_ref().unwrap_or(&scratch.rows);
        let rows = download::<B, _>(&self.backend, rows, 0..slots * d)?;
        let row = |&row: &u32| &rows[row as usize * d..][..d];
        Ok(self.fetch(&cache.inverse, slots)?.iter().flat_map(row).copied().collect())
    }

    fn fetch<T: Element + Default>(&self, buffer: &B::Buffer<T>, len: usize) -> Result<Vec<T>> {
        let mut values = vec![T::default(); len];
        self.backend.download(read(&*self.backend, buffer, len)?, &mut values)?;
        Ok(values)
    }

    /// The normed row that the router sees, from what the forward pass keeps.
    fn router_input(&self, layer: usize) -> Result<Vec<f64>> {
        let d = self.config.width;
        let mut rows = self.residual(2 * layer + 1)?;
        if self.config.norm == NormPlacement::Pre {
            let weight = self.get_parameters(self.layout.layers[layer].feed_forward_norm.clone())?;
            let rstd = &self.memory.layers[layer].feed_forward_rstd;
            let rstd = download::<B, _>(&self.backend, rstd, 0..self.batch.tokens)?;
            for (row, rstd) in rows.chunks_mut(d).zip(rstd) {
                row.iter_mut().zip(&weight).for_each(|(x, w)| *x *= w * rstd);
            }
        }
        Ok(rows)
    }

    fn residual(&self, index: usize) -> Result<Vec<f64>> {
        download::<B, _>(
            &self.backend,
            &self.memory.residual[index],
            0..self.batch.tokens * self.config.width,
        )
    }

    /// The residual stream `[tokens, d]` after `layers` blocks; 0 is the embedding.
    pub fn hidden(&self, layers: usize) -> Result<Vec<f64>> {
        self.residual(2 * layers.min(self.config.layers()))
    }

    /// What the head sees `[tokens, d]`, after a forward pass.
    pub fn final_hidden(&self) -> Result<Vec<f64>> {
        let elements = self.batch.tokens * self.config.width;
        download::<B, _>(&self.backend, &self.memory.scratch.normed, 0..elements)
    }

    /// Names the first tensor, in the order of computation, that holds a NaN or an infinity: parameters, then the
    /// activations of the last forward pass, then gradients, which are computed from the head back to the embedding.
    pub fn first_non_finite(&self) -> Result<Option<String>> {
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        for tensor in &self.layout.tensors {
            if !finite(&self.get_parameters(tensor.range.clone())?) {
                return Ok(Some(format!("parameter {}", tensor.name)));
            }
        }
        for index in 0..=2 * self.config.layers() {
            if !finite(&self.residual(index)?) {
                return Ok(Some(match (index.checked_sub(1).map(|i| (i / 2, i % 2)), &self.config) {
                    (None, _) => "the embedded tokens".into(),
                    (Some((layer, 0)), _) => format!("layer {layer}, output of attention"),
                    (Some((layer, _)), config) => match config.feed_forward[layer] {
                        FeedForward::Moe(_) => format!("layer {layer}, output of the experts"),
                        FeedForward::Dense(_) => format!("layer {layer}, output of the dense MLP"),
                    },
                }));
            }
        }
        if !finite(&self.token_losses()?) {
            return Ok(Some("the logits or the cross-entropy".into()));
        }
        if self.capacity.backward {
            for tensor in self.layout.tensors.iter().rev() {
                if !finite(&self.get_gradients(tensor.range.clone())?) {
                    return Ok(Some(format!("gradient of {}", tensor.name)));
                }
            }
        }
        Ok(None)
    }
}

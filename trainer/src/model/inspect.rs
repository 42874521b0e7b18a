//! Looking into a model after a forward pass: routing for reports and tests, and where a number went wrong.

use emo::Result;
use emo::backend::{Backend, Element};

use super::activations::{FeedForwardCache, download, read};
use super::{FeedForward, Model, NormPlacement};

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
    /// Pools `[segments, E_r]`, 1 = may be used; none where there were no pools.
    pub pools: Option<Vec<u8>>,
}

impl<B: Backend> Model<B> {
    /// Routing of the `ordinal`-th layer with experts.
    pub fn routing(&self, ordinal: usize) -> Result<Option<Routing>> {
        let Some((layer, moe)) = self.config.moe_layers().nth(ordinal) else { return Ok(None) };
        let FeedForwardCache::Moe(cache) = &self.memory.layers[layer].feed_forward else { return Ok(None) };
        let tokens = self.batch.tokens;
        let logits = cache.raw_logits.as_ref().unwrap_or(&cache.logits);
        let pools = self.batch.routing_count() * moe.routed();
        Ok(Some(Routing {
            layer,
            input: self.router_input(layer)?,
            logits: download::<B, _>(&self.backend, logits, 0..tokens * moe.experts)?,
            scores: download::<B, _>(&self.backend, &cache.probs, 0..tokens * moe.routed())?,
            weights: download::<B, _>(&self.backend, &cache.weights, 0..tokens * moe.top_k)?,
            indices: self.fetch(&cache.indices, tokens * moe.top_k)?,
            counts: self.fetch(&cache.counts, moe.experts)?,
            pools: self.batch.pools.then(|| self.fetch(&cache.keep, pools)).transpose()?,
        }))
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

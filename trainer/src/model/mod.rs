//! The language model: parameters in one arena, activations planned at start-up, forward and backward by hand.
//!
//! [`Model`] runs a micro-batch ([`Inputs`]) forward, and with an [`Objective`] backward; parameter gradients add up
//! over calls until [`Model::zero_gradients`]. Every layer's forward and backward stand side by side in `layers/`.

pub(crate) mod activations;
mod balance;
mod block;
mod config;
mod init;
mod inputs;
mod inspect;
mod layers;
mod layout;
mod objective;
mod parameters;
mod past;
mod probe;

use std::ops::Range;
use std::sync::Arc;

use emo::backend::{Backend, Len};
use emo::ops::rope;
use emo::ops::router::RouterConfig;
use emo::{Error, Result};

pub use activations::{Capacity, Entry, Planner, Purpose};
pub(crate) use config::MOST_EXPERTS;
pub use config::{Dense, FeedForward, Kept, ModelConfig, Moe, NormPlacement, QkNorm, Smoothing};
pub(crate) use init::fill as initial_values;
pub use inputs::{Inputs, PoolFrom, Segments};
pub use inspect::Routing;
pub use layout::{FeedForwardLayout, Init, Layer, Layout, Tensor};
pub use objective::{Balance, LayerLosses, Losses, Objective};
pub use parameters::Parameters;
pub use past::Piece;

use activations::{Activations, FeedForwardCache, download, read, upload, write};
use block::{Gradients, Part, Surroundings};
use inputs::Batch;
use layers::moe_kept::KeptRouter;
use layers::{Context, embedding, head, moe, moe_losses, norm, whole};
use objective::{Coefficients, Setting};
use past::Past;

/// A model on a backend, with the memory for batches up to a planned size.
pub struct Model<B: Backend> {
    backend: Arc<B>,
    config: ModelConfig,
    layout: Layout,
    capacity: Capacity,
    params: Parameters<B>,
    grads: B::Buffer<B::Real>,
    /// For each layer with experts, in order.
    experts: Vec<(RouterConfig, moe::State<B>)>,
    memory: Activations<B>,
    batch: Batch<B>,
    /// Loss values: [`LayerLosses::COUNT`] for each layer with experts, then the head's.
    losses: B::Buffer<f64>,
    /// What is remembered of sequences that grow, see [`Model::remember`].
    past: Option<Past<B>>,
}

impl<B: Backend> Model<B> {
    /// A model with all parameters zero; see [`Model::initialise`] and the checkpoints.
    ///
    /// # Errors
    /// Sizes that do not fit together, or memory that the backend cannot give.
    pub fn new(backend: Arc<B>, config: ModelConfig, capacity: Capacity) -> Result<Self> {
        let shared = Arc::clone(&backend);
        let mut plan = Planner::new(&*shared, false);
        let mut model = Self::build(backend, &mut plan, config, capacity)?;
        let backend = &*model.backend;
        let (cos, sin) = rope::table(capacity.longest, model.config.head_dim, model.config.rope_theta);
        upload::<B, _>(backend, &cos, &mut model.memory.cos, 0)?;
        upload::<B, _>(backend, &sin, &mut model.memory.sin, 0)?;
        for ((_, state), (_, moe)) in model.experts.iter_mut().zip(model.config.moe_layers()) {
            state.fill(backend, moe)?;
        }
        Ok(model)
    }

    /// The table of every buffer that [`Model::new`] allocates, without allocating.
    pub fn plan(backend: Arc<B>, config: ModelConfig, capacity: Capacity) -> Result<Vec<Entry>> {
        let shared = Arc::clone(&backend);
        let mut plan = Planner::new(&*shared, true);
        Self::build(backend, &mut plan, config, capacity)?;
        Ok(plan.into_entries())
    }

    fn build(
        backend: Arc<B>,
        plan: &mut Planner<'_, B>,
        config: ModelConfig,
        capacity: Capacity,
    ) -> Result<Self> {
        let layout = Layout::new(&config)?;
        let params = Parameters::plan(plan, layout.len())?;
        let gradients = if capacity.backward { layout.len() } else { 0 };
        let grads = plan.real(Purpose::Gradients, "gradients", gradients)?;
        let experts = config
            .moe_layers()
            .map(|(index, moe)| {
                Ok((moe.router(), moe::State::plan(plan, moe, &format!("layers.{index}.moe"))?))
            })
            .collect::<Result<Vec<_>>>()?;
        let memory = Activations::plan(plan, &config, &capacity)?;
        let batch = Batch::plan(plan, &config, &capacity)?;
        let slots = experts.len() * LayerLosses::COUNT + 1;
        let losses = plan.buffer(Purpose::Scratch, "losses", slots)?;
        Ok(Self {
            backend,
            config,
            layout,
            capacity,
            params,
            grads,
            experts,
            memory,
            batch,
            losses,
            past: None,
        })
    }

    /// Draws the initial weights (emo.md 1.4).
    pub fn initialise(&mut self, seed: u64) -> Result<()> {
        let mut values = Vec::new();
        for tensor in &self.layout.tensors {
            values.resize(tensor.range.len(), 0.0);
            init::fill(tensor, seed, self.config.init_std, &mut values);
            self.params.set(&self.backend, tensor.range.start, &values)?;
        }
        Ok(())
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<B> {
        &self.backend
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where each parameter lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The batch size that the memory is planned for.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// All parameters.
    pub fn parameters(&self) -> &Parameters<B> {
        &self.params
    }

    /// All gradients, with the ranges of the parameters.
    pub fn gradients(&self) -> &B::Buffer<B::Real> {
        &self.grads
    }

    /// Parameters to update and their gradients: what an optimiser step needs.
    pub fn parameters_and_gradients(&mut self) -> (&mut Parameters<B>, &B::Buffer<B::Real>) {
        (&mut self.params, &self.grads)
    }

    /// Overwrites parameters from `start` on.
    pub fn set_parameters(&mut self, start: usize, values: &[f64]) -> Result<()> {
        self.params.set(&self.backend, start, values)
    }

    /// Parameters of a range.
    pub fn get_parameters(&self, range: Range<usize>) -> Result<Vec<f64>> {
        self.params.get(&self.backend, range)
    }

    /// Gradients of a range.
    pub fn get_gradients(&self, range: Range<usize>) -> Result<Vec<f64>> {
        download::<B, _>(&self.backend, &self.grads, range)
    }

    /// Gradients are summed over micro-batches until this.
    pub fn zero_gradients(&mut self) -> Result<()> {
        self.backend.zero(whole::<B>(&self.backend, &mut self.grads)?)
    }

    /// Score-correction bias `[E_r]` of each layer with experts that has one, by its ordinal among them.
    pub fn selection_bias(&self, ordinal: usize) -> Result<Option<Vec<f64>>> {
        let bias = self.experts.get(ordinal).and_then(|(_, state)| state.selection_bias.as_ref());
        bias.map(|bias| download::<B, _>(&self.backend, bias, 0..bias.len())).transpose()
    }

    /// Overwrites a score-correction bias; layers without one ignore it.
    pub fn set_selection_bias(&mut self, ordinal: usize, values: &[f64]) -> Result<()> {
        match self.experts.get_mut(ordinal).and_then(|(_, state)| state.selection_bias.as_mut()) {
            Some(bias) => upload::<B, _>(&self.backend, values, bias, 0),
            None => Ok(()),
        }
    }

    /// Loss-free balancing after an optimiser step: `b_i += gamma sign(mean(counts) - counts_i)`, with the counts of
    /// the whole step as in [`Inputs::balance_counts`] (arXiv 2408.15664).
    pub fn update_selection_bias(&mut self, counts: &[Vec<f64>], gamma: f64) -> Result<()> {
        for (ordinal, counts) in counts.iter().enumerate() {
            let Some(mut bias) = self.selection_bias(ordinal)? else { continue };
            let mean = counts.iter().sum::<f64>() / counts.len().max(1) as f64;
            for (bias, &count) in bias.iter_mut().zip(counts) {
                // f64::signum(0) is 1: an expert exactly at the mean must not move.
                *bias += if count == mean { 0.0 } else { gamma * (mean - count).signum() };
            }
            self.set_selection_bias(ordinal, &bias)?;
        }
        Ok(())
    }

    /// Lets the following requests use only some routed experts, ascending, for each layer with experts in order, beside
    /// the shared ones: as if the others did not exist, so that the CPU computes the bits of a model cut down to them.
    /// None lets them use all. Routing and counts keep the numbers of the whole model; there is no backward pass until
    /// all experts may be used again. Parameters that are set later do not reach the routers of kept experts.
    ///
    /// # Errors
    /// Another number of layers; a layer without experts left or with experts out of order, or without one that is
    /// always active.
    pub fn set_experts(&mut self, kept: Option<&[Vec<u32>]>) -> Result<()> {
        let moes: Vec<(usize, &Moe)> = self.config.moe_layers().collect();
        if let Some(kept) = kept {
            if kept.len() != moes.len() {
                let expected = format!("one list for each of {} layers with experts", moes.len());
                return Err(Error::argument("model", "experts", expected, kept.len().to_string()));
            }
            moes.iter().zip(kept).try_for_each(|((_, moe), kept)| moe.check_keep(kept))?;
        }
        for (ordinal, (layer, moe)) in moes.into_iter().enumerate() {
            let routed = kept.map(|kept| &kept[ordinal]).filter(|kept| kept.len() < moe.routed());
            let state = &self.experts[ordinal].1;
            let layout = &self.layout.layers[layer].feed_forward;
            let kept = match routed {
                Some(routed) => KeptRouter::new(&*self.backend, moe, layout, &self.params, state, routed)?,
                None => None,
            };
            self.experts[ordinal].1.kept = kept;
        }
        // Remembered logits are those of the experts that were asked before.
        if let Some(past) = self.past.as_mut().filter(|past| past.growth.smooths()) {
            past.growth.seen.fill(0);
        }
        Ok(())
    }

    /// Runs the blocks: after it, logits, losses per token and routing can be asked for.
    pub fn forward(&mut self, inputs: &Inputs) -> Result<()> {
        self.forward_blocks(inputs, self.config.layers())
    }

    /// [`Model::forward`] through the first `blocks` blocks only, for their routing.
    pub fn forward_blocks(&mut self, inputs: &Inputs, blocks: usize) -> Result<()> {
        self.batch.upload(&self.backend, &self.config, &self.capacity, inputs)?;
        self.run_blocks(blocks, false)
    }

    /// Whether sequences of this model can grow without being computed again: the backend attends to cached keys, and
    /// routing does not look ahead.
    pub fn remembers(&self) -> bool {
        B::CACHED_ATTENTION && !self.config.routes_ahead()
    }

    /// Makes room to remember `sequences` sequences, see [`Model::extend`]; what was remembered is forgotten.
    ///
    /// # Errors
    /// Where [`Model::remembers`] says no, and when the device has no memory left.
    pub fn remember(&mut self, sequences: usize) -> Result<()> {
        if !self.remembers() {
            let expected = "a backend that attends to cached keys, and routing that does not look ahead";
            return Err(Error::argument("model", "remember", expected, self.backend.describe()));
        }
        self.past = None;
        let backend = Arc::clone(&self.backend);
        let mut plan = Planner::new(&*backend, false);
        self.past = Some(Past::plan(&mut plan, &self.config, &self.capacity, sequences)?);
        Ok(())
    }

    /// Runs the blocks on tokens that continue remembered sequences, and remembers them. Each sequence is one document, and
    /// no two pieces continue the same one.
    ///
    /// # Errors
    /// Without [`Model::remember`], and for pieces that do not fit or continue what is not remembered: routers that smooth
    /// forget all sequences when [`Model::set_experts`] is called.
    pub fn extend(&mut self, pieces: &[Piece<'_>]) -> Result<()> {
        let refuse = |expected: &str, found: usize| Err(Error::argument("model", "pieces", expected, found));
        let Some(past) = self.past.as_mut().filter(|past| pieces.len() <= past.growth.places) else {
            return refuse("as many as sequences are remembered", pieces.len());
        };
        if let Some(piece) = pieces.iter().find(|piece| piece.place >= past.growth.places) {
            return refuse("of sequences that are remembered", piece.place);
        }
        let longest = self.capacity.longest;
        if let Some(piece) = pieces.iter().find(|piece| piece.past > past.growth.seen[piece.place]) {
            return refuse("whose past is remembered", piece.past);
        }
        if let Some(piece) = pieces.iter().find(|piece| piece.ids.len() > longest - piece.past) {
            return refuse(
                "that end within the model's positions",
                piece.past.saturating_add(piece.ids.len()),
            );
        }
        self.batch.upload(&self.backend, &self.config, &self.capacity, &past::inputs(pieces))?;
        past.growth.begin(&self.backend, pieces)?;
        self.run_blocks(self.config.layers(), true)?;
        if let Some(past) = &mut self.past {
            pieces.iter().for_each(|piece| past.growth.seen[piece.place] = piece.past + piece.ids.len());
        }
        Ok(())
    }

    fn run_blocks(&mut self, blocks: usize, remembering: bool) -> Result<()> {
        let Self { backend, config, layout, params, experts, memory, batch, capacity, past, .. } = self;
        let cx = Context { backend: &**backend, config, params, batch };
        let Activations { residual, layers, final_rstd, scratch, cos, sin } = memory;
        embedding::forward(&cx, &layout.embedding, &mut residual[0])?;
        let mut past = past.as_mut().filter(|_| remembering);
        let mut ordinals = experts.iter().enumerate();
        for (index, cache) in layers.iter_mut().enumerate().take(blocks) {
            let block = surroundings(config, layout, index, &mut ordinals, capacity.longest, cos, sin)?;
            let [x, u, y] = &mut residual[2 * index..2 * index + 3] else { continue };
            let past = past.as_mut().map(|past| (&mut past.growth, &mut past.layers[index]));
            block::forward(&cx, &block, [x, u, y], cache, scratch, past)?;
        }
        let last = &residual[2 * config.layers()];
        norm::forward(&cx, &layout.final_norm, last, &mut scratch.normed, final_rstd)
    }

    /// Slots of each routed expert for each layer with experts, of the last forward pass.
    pub fn counts(&self) -> Result<Vec<Vec<u32>>> {
        let counts = |(cache, moe): (&moe::Cache<B>, &Moe), kept: &Option<KeptRouter<B>>| {
            let mut counts = vec![0u32; kept.as_ref().map_or(moe, |kept| &kept.moe).routed()];
            self.backend.download(read(&*self.backend, &cache.counts, counts.len())?, &mut counts)?;
            Ok(match kept {
                Some(kept) => kept.spread(&counts, counts.len(), moe.routed(), 0),
                None => counts,
            })
        };
        self.moe_caches().zip(&self.experts).map(|(layer, (_, state))| counts(layer, &state.kept)).collect()
    }

    /// A forward pass of the blocks for its counts: what [`Balance::Step`] sums over micro-batches beforehand.
    pub fn count(&mut self, inputs: &Inputs) -> Result<Vec<Vec<u32>>> {
        self.forward(inputs)?;
        self.counts()
    }

    fn moe_caches(&self) -> impl Iterator<Item = (&moe::Cache<B>, &Moe)> {
        let caches = self.memory.layers.iter().filter_map(|layer| match &layer.feed_forward {
            FeedForwardCache::Moe(cache) => Some(cache),
            FeedForwardCache::Dense(_) => None,
        });
        caches.zip(self.config.moe_layers().map(|(_, moe)| moe))
    }

    /// Forward pass and cross-entropy of each token in nats, 0 where it has no label.
    pub fn evaluate(&mut self, inputs: &Inputs) -> Result<Vec<f64>> {
        self.forward(inputs)?;
        self.head_pass(inputs, 0.0, false)?;
        self.token_losses()
    }

    /// Cross-entropy of each token, after [`Model::evaluate`] or [`Model::loss_and_backward`].
    pub fn token_losses(&self) -> Result<Vec<f64>> {
        download::<B, _>(&self.backend, &self.memory.scratch.head.loss, 0..self.batch.tokens)
    }

    /// Forward and backward pass of one micro-batch; parameter gradients are added up.
    pub fn loss_and_backward(&mut self, inputs: &Inputs, objective: &Objective) -> Result<Losses> {
        if self.experts.iter().any(|(_, state)| state.kept.is_some()) {
            return Err(Error::argument("model", "experts", "all of them in a backward pass", "a subset"));
        }
        let setting = Setting::new(self.config.layers(), self.experts.len(), inputs);
        let coefficients: Vec<Coefficients> =
            self.config.moe_layers().map(|(_, moe)| objective.coefficients(moe, &setting)).collect();
        self.forward(inputs)?;
        if objective.load_balance != 0.0 {
            self.prepare_balance(inputs, objective.balance)?;
        }
        let slots = self.losses.len();
        self.backend.zero(write(&*self.backend, &mut self.losses, slots)?)?;
        self.head_pass(inputs, objective.head_z, true)?;
        self.backward_blocks(&coefficients)?;
        self.collect(inputs, objective, &coefficients)
    }

    /// Cross-entropy, and where `backward` the gradient of the residual stream.
    fn head_pass(&mut self, inputs: &Inputs, z_weight: f64, backward: bool) -> Result<()> {
        let Self { backend, config, layout, params, grads, memory, batch, losses, .. } = self;
        let cx = Context { backend: &**backend, config, params, batch };
        let Activations { residual, final_rstd, scratch, .. } = memory;
        let activations::Scratch { normed, branch, dresidual, workspace, head: chunks, .. } = scratch;
        let slot = losses.len() - 1;
        let task = head::Task {
            head: &layout.head,
            scale: 1.0 / inputs.loss_tokens,
            z_weight,
            x: normed,
            gradients: backward.then_some((&mut *branch, &mut *grads)),
        };
        head::cross_entropy(&cx, task, chunks, (losses, slot), workspace)?;
        if !backward {
            return Ok(());
        }
        let last = &residual[2 * config.layers()];
        let weight = &layout.final_norm;
        norm::backward(&cx, weight, last, final_rstd, branch, dresidual, false, grads, workspace)
    }

    fn backward_blocks(&mut self, coefficients: &[Coefficients]) -> Result<()> {
        let Self { backend, config, layout, params, grads, experts, memory, batch, losses, capacity, .. } =
            self;
        let cx = Context { backend: &**backend, config, params, batch };
        let Activations { residual, layers, scratch, cos, sin, .. } = memory;
        let mut gradients = Gradients { grads, losses };
        let mut ordinals = experts.iter().enumerate().rev();
        for (index, cache) in layers.iter_mut().enumerate().rev() {
            let block = surroundings(config, layout, index, &mut ordinals, capacity.longest, cos, sin)?;
            let weights = match &block.part {
                Part::Moe(layer) => coefficients.get(layer.ordinal),
                Part::Dense(..) => None,
            };
            let inputs = [&residual[2 * index], &residual[2 * index + 1]];
            block::backward(&cx, &block, weights, capacity.domains, inputs, cache, &mut gradients, scratch)?;
        }
        embedding::backward(&cx, &layout.embedding, &scratch.dresidual, gradients.grads)
    }

    fn collect(
        &self,
        inputs: &Inputs,
        objective: &Objective,
        coefficients: &[Coefficients],
    ) -> Result<Losses> {
        let mut slots = vec![0.0; self.losses.len()];
        self.backend.download(read(&*self.backend, &self.losses, slots.len())?, &mut slots)?;
        let layers = slots.chunks_exact(LayerLosses::COUNT).zip(coefficients);
        Ok(Losses {
            cross_entropy: self.token_losses()?.iter().sum::<f64>() / inputs.loss_tokens,
            head_z: objective.head_z * slots.last().copied().unwrap_or(0.0) / inputs.loss_tokens,
            layers: layers.map(|(slots, weights)| moe_losses::collect(slots, weights.router_z)).collect(),
        })
    }

    /// Logits `[rows, vocabulary]` of some tokens of the last forward pass.
    pub fn logits(&mut self, rows: Range<usize>) -> Result<Vec<f64>> {
        let Self { backend, config, layout, params, memory, batch, .. } = self;
        let cx = Context { backend: &**backend, config, params, batch };
        let activations::Scratch { normed, workspace, head: chunks, .. } = &mut memory.scratch;
        let mut all = Vec::with_capacity(rows.len() * config.vocabulary);
        for start in rows.clone().step_by(chunks.chunk()) {
            let part = start..rows.end.min(start + chunks.chunk());
            let elements = part.len() * config.vocabulary;
            head::logits(&cx, &layout.head, part, normed, chunks, workspace)?;
            all.extend(download::<B, _>(backend, &chunks.logits, 0..elements)?);
        }
        Ok(all)
    }
}

/// One block's parameters and surroundings; `ordinals` walks over the layers with experts in step with the blocks.
fn surroundings<'a, B: Backend>(
    config: &'a ModelConfig,
    layout: &'a Layout,
    index: usize,
    ordinals: &mut dyn Iterator<Item = (usize, &'a (RouterConfig, moe::State<B>))>,
    longest: usize,
    cos: &'a B::Buffer<B::Real>,
    sin: &'a B::Buffer<B::Real>,
) -> Result<Surroundings<'a, B>> {
    let kind = &config.feed_forward[index];
    let layer = &layout.layers[index];
    let experts = match kind {
        FeedForward::Moe(_) => ordinals.next().map(|(ordinal, (router, state))| (router, state, ordinal)),
        FeedForward::Dense(_) => None,
    };
    let part = Part::new(kind, &layer.feed_forward, experts)?;
    Ok(Surroundings { layer, part, longest, cos, sin })
}

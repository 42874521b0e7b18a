//! A run in memory: weights, moments, data position; one call a step.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use emo::Backend;

use super::flops::{Flops, pairs};
use super::inputs::Filler;
use super::optimiser::Optimiser;
use super::schedule;
use super::text::Text;
use crate::checkpoint::folder::{self, Writer};
use crate::checkpoint::state::{CONFIG, OPTIMISER, STATE, State};
use crate::checkpoint::{first_difference, hf};
use crate::config::Config;
use crate::data::shard::manifest::TOKENIZER;
use crate::data::{Batch, BatchStream, Tokenizer};
use crate::error::{Error, Result};
use crate::model::{Inputs, Losses, Model, ModelConfig, Objective};

/// Everything that a step changes.
pub struct Session<B: Backend> {
    /// What was asked for.
    pub config: Config,
    /// Weights, gradients and activations.
    pub model: Model<B>,
    /// Steps done.
    pub step: u64,
    /// Tokens read.
    pub tokens: u64,
    /// Steps that AdamW's moments had behind them when this run took them over.
    carried: u64,
    flops: Flops,
    optimiser: Optimiser<B>,
    objective: Objective,
    stream: BatchStream,
    batches: Vec<Batch>,
    filler: Filler,
    inputs: Inputs,
    tokenizer: Tokenizer,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Values of the objective.
    pub losses: Losses,
    /// Learning rate.
    pub lr: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// Tokens.
    pub tokens: u64,
    /// Model FLOP.
    pub flop: f64,
    /// Slots of each routed expert, for each mixture layer.
    pub counts: Vec<Vec<u64>>,
    /// Seconds in which batches were read, packed and given their segments and pools, before any op.
    pub loading: f64,
}

impl<B: Backend> Session<B> {
    /// A fresh model before its first step.
    ///
    /// # Errors
    /// When the device has no memory left, or the data no text.
    pub fn new(backend: Arc<B>, config: Config, text: &Text) -> Result<Self> {
        let init = &config.train.init;
        if !init.as_os_str().is_empty() {
            return Self::starting_from(&folder::find(init)?, backend, config, text);
        }
        let mut model = Model::new(backend, config.model_config(), config.capacity(text.domains.len()))?;
        model.initialise(config.run.seed)?;
        Self::with(model, config, text)
    }

    /// The weights of a checkpoint, before the first step of another run.
    fn starting_from(path: &Path, backend: Arc<B>, config: Config, text: &Text) -> Result<Self> {
        let (mut expected, (found, family)) = (config.model_config(), hf::read_config(path)?);
        if config.train.init_model {
            if let Some(eos) = found.eos_id.filter(|&eos| eos != config.eos_id()) {
                let message = format!(
                    "ends documents with token {eos}, the text with {}: it was trained with another tokenizer",
                    config.eos_id()
                );
                return Err(Error::checkpoint(path, message));
            }
            let max_positions = found.max_positions.max(config.data.sequence);
            expected = ModelConfig { max_positions, ..found };
        } else {
            same_model(path, &found, &expected)?;
        }
        let model = hf::load_as(path, expected, family, backend, config.capacity(text.domains.len()))?;
        let moments = config.train.init_moments;
        let mut session = Self::with(model, config, text)?;
        if moments {
            let (backend, layout) = (&**session.model.backend(), session.model.layout());
            session.optimiser.read(backend, layout, &path.join(OPTIMISER))?;
            let state = State::read(path)?;
            session.carried = state.carried + state.step;
        }
        Ok(session)
    }

    /// The state of a checkpoint whose bytes were verified.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for one of another model, [`Error::Data`] for one of other data.
    pub fn restore(backend: Arc<B>, config: Config, text: &Text, path: &Path) -> Result<Self> {
        let state = State::read(path)?;
        let model = hf::load(path, backend, config.capacity(text.domains.len()))?;
        if !config.train.init_model && *model.config() != config.model_config() {
            return Err(Error::checkpoint(path, "holds another model than the configuration describes"));
        }
        let mut session = Self::with(model, config, text)?;
        session.stream.resume(state.data)?;
        session.optimiser.read(&**session.model.backend(), session.model.layout(), &path.join(OPTIMISER))?;
        (session.step, session.tokens, session.carried) = (state.step, state.tokens, state.carried);
        Ok(session)
    }

    fn with(model: Model<B>, config: Config, text: &Text) -> Result<Self> {
        Ok(Self {
            flops: Flops::of(model.config()),
            optimiser: Optimiser::new(&**model.backend(), &config, model.layout())?,
            objective: config.objective(),
            stream: text.stream(&config)?,
            batches: vec![Batch::default(); config.micro_batches()],
            filler: Filler::new(&config),
            inputs: Inputs::default(),
            tokenizer: text.tokenizer.clone(),
            step: 0,
            tokens: 0,
            carried: 0,
            model,
            config,
        })
    }

    /// One optimiser step: all micro-batches forward and backward, then AdamW on gradients of clipped norm.
    ///
    /// # Errors
    /// [`Error::NonFinite`] names the first tensor that is NaN or infinite; the weights are those before the step.
    pub fn step(&mut self) -> Result<Outcome> {
        let backend = Arc::clone(self.model.backend());
        backend.enter(|| self.entered_step())
    }

    fn entered_step(&mut self) -> Result<Outcome> {
        let step = self.step + 1;
        let lr =
            self.config.optimiser.lr * schedule::factor(&self.config.schedule, step, self.config.train.steps);
        let mut outcome = Outcome { lr, ..Outcome::default() };
        let micro_batches = self.batches.len() as u64;
        let start = Instant::now();
        self.stream.check()?;
        for (index, batch) in self.batches.iter_mut().enumerate() {
            self.stream.fill(self.step * micro_batches + index as u64, batch);
            outcome.tokens += batch.ids.len() as u64;
        }
        outcome.loading = start.elapsed().as_secs_f64();
        let loss_tokens = self.batches.iter().map(Batch::targets).sum();
        self.inputs.balance_counts = None;
        if self.config.counts_first() {
            self.inputs.balance_counts = Some(self.count(step, loss_tokens)?);
        }
        self.model.zero_gradients()?;
        for batch in &self.batches {
            let start = Instant::now();
            self.filler.train(batch, step, loss_tokens, &mut self.inputs);
            outcome.loading += start.elapsed().as_secs_f64();
            let losses = self.model.loss_and_backward(&self.inputs, &self.objective)?;
            if !losses.total().is_finite() {
                return Err(self.not_finite(step, "loss of", losses.total())?);
            }
            add_losses(&mut outcome.losses, losses);
            add_counts(&mut outcome.counts, self.model.counts()?);
            let pairs = pairs(&self.inputs.attention.offsets);
            outcome.flop += self.flops.training(batch.ids.len() as f64, pairs);
        }
        let backend = Arc::clone(self.model.backend());
        outcome.grad_norm = self.optimiser.gradient_norm(&*backend, self.model.gradients())?;
        if !outcome.grad_norm.is_finite() {
            return Err(self.not_finite(step, "gradient norm of", outcome.grad_norm)?);
        }
        let (params, grads) = self.model.parameters_and_gradients();
        self.optimiser.step(&*backend, params, grads, self.carried + step, lr, outcome.grad_norm)?;
        if self.config.router.loss_free_rate > 0.0 {
            let counts: Vec<Vec<f64>> = outcome
                .counts
                .iter()
                .map(|layer| layer.iter().map(|&count| count as f64).collect())
                .collect();
            self.model.update_selection_bias(&counts, self.config.router.loss_free_rate)?;
        }
        self.step = step;
        self.tokens += outcome.tokens;
        Ok(outcome)
    }

    /// Slots of each routed expert over the whole step, for a load balance that must know them before the first
    /// backward pass.
    fn count(&mut self, step: u64, loss_tokens: usize) -> Result<Vec<Vec<f64>>> {
        let mut counts = Vec::new();
        for batch in &self.batches {
            self.filler.train(batch, step, loss_tokens, &mut self.inputs);
            add_counts(&mut counts, self.model.count(&self.inputs)?);
        }
        Ok(counts.iter().map(|layer| layer.iter().map(|&count| count as f64).collect()).collect())
    }

    fn not_finite(&self, step: u64, what: &str, value: f64) -> Result<Error> {
        let place = self.model.first_non_finite()?.unwrap_or_else(|| "a value that was not kept".into());
        Ok(Error::NonFinite(format!(
            "the {what} step {step} is {value}. The first tensor that is not finite: {place}. \
             Common remedies: a lower `optimiser.lr`, a longer `schedule.warmup`, a lower `train.clip`"
        )))
    }

    /// Writes a checkpoint; byte for byte the same for the same state.
    ///
    /// # Errors
    /// [`Error::Io`] names the file, [`Error::NonFinite`] the weight that an update has made NaN or infinite; earlier
    /// checkpoints are untouched.
    pub fn save(&mut self, root: &Path) -> Result<PathBuf> {
        let backend = Arc::clone(self.model.backend());
        let norm = self.optimiser.weight_norm(&*backend, self.model.parameters().masters())?;
        if !norm.is_finite() {
            return Err(self.not_finite(self.step, "norm of the weights after", norm)?);
        }
        let writer = Writer::begin(root, self.step)?;
        hf::save(writer.path(), &self.model)?;
        let (backend, layout) = (&**self.model.backend(), self.model.layout());
        self.optimiser.write(backend, layout, &writer.path().join(OPTIMISER))?;
        let next = self.step * self.batches.len() as u64;
        let state = State {
            step: self.step,
            tokens: self.tokens,
            carried: self.carried,
            data: self.stream.position(next),
        };
        writer.text(STATE, &state.to_json()?)?;
        writer.text(CONFIG, &self.config.to_toml()?)?;
        if let Some(file) = self.tokenizer.file() {
            writer.file(TOKENIZER, file)?;
        }
        writer.finish()
    }
}

/// Whether the model in `path` is the one that the configuration describes.
fn same_model(path: &Path, found: &ModelConfig, expected: &ModelConfig) -> Result<()> {
    // How far positions reach, and what ids mean to a tokenizer, is no property of the weights.
    let weights = |model: &ModelConfig| ModelConfig {
        max_positions: 0,
        pad_id: None,
        eos_id: None,
        bos_id: None,
        init_std: 0.0,
        ..model.clone()
    };
    match first_difference(&weights(found), &weights(expected)) {
        None => Ok(()),
        Some((setting, there, here)) => {
            let message = format!(
                "`train.init` holds another model than the configuration describes: `{setting}` is {there} there and {here} here"
            );
            Err(Error::checkpoint(path, message))
        }
    }
}

fn add_losses(sum: &mut Losses, losses: Losses) {
    sum.cross_entropy += losses.cross_entropy;
    sum.head_z += losses.head_z;
    sum.layers.resize(losses.layers.len(), Default::default());
    for (sum, layer) in sum.layers.iter_mut().zip(losses.layers) {
        sum.load_balance += layer.load_balance;
        sum.router_z += layer.router_z;
        sum.mutual_information += layer.mutual_information;
        sum.sequence_consistency += layer.sequence_consistency;
        sum.domain_consistency += layer.domain_consistency;
        sum.redundancy += layer.redundancy;
    }
}

/// Adds the counts of one micro-batch to those of the step.
fn add_counts(sum: &mut Vec<Vec<u64>>, counts: Vec<Vec<u32>>) {
    sum.resize(counts.len(), Vec::new());
    for (sum, counts) in sum.iter_mut().zip(counts) {
        sum.resize(counts.len(), 0);
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(count));
    }
}

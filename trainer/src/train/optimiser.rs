//! AdamW over the parameter arena, with clipping by the global gradient norm.

use std::ops::Range;
use std::path::Path;

use emo::Backend;
use emo::backend::{Len, Real};
use emo::ops::adamw::{Hyper, Step, SumOfSquares};

use super::freeze;
use crate::checkpoint::safetensors::{self, Planned, Reader};
use crate::config::{Config, Optimiser as Settings};
use crate::error::Result;
use crate::model::{Layout, Parameters, Tensor};

const FIRST: &str = "first";
const SECOND: &str = "second";

/// Moments and groups.
pub struct Optimiser<B: Backend> {
    settings: Settings,
    clip: f64,
    /// First moments, laid out as the parameters.
    first: B::Buffer<B::Real>,
    /// Second moments.
    second: B::Buffer<B::Real>,
    groups: Vec<(Range<usize>, bool)>,
    /// What is trained: the arena without what is frozen.
    trained: Vec<Range<usize>>,
    sum: B::Buffer<f64>,
}

/// Bytes of the two f32 moments of so many parameters.
#[must_use]
pub fn moment_bytes(parameters: usize) -> usize {
    2 * parameters * size_of::<f32>()
}

impl<B: Backend> Optimiser<B> {
    /// Zero moments for the parameters of `layout`. Weight decay applies to everything except the embedding, biases and
    /// smoothing taps, as in the released recipe (emo.md 4.1), and to the embedding too where the configuration says so.
    ///
    /// # Errors
    /// When the device has no memory left, and for a pattern of `train.only` or `train.freeze` that names no parameter.
    pub fn new(backend: &B, config: &Config, layout: &Layout) -> Result<Self> {
        let trained = freeze::trained(&config.train, layout)?;
        let mut groups = layout.decay_groups();
        for (range, decay) in &mut groups {
            *decay |= config.optimiser.decay_embedding && range.start == layout.embedding.start;
        }
        let groups = freeze::cut(&groups, &trained);
        Ok(Self {
            settings: config.optimiser.clone(),
            clip: config.train.clip,
            first: backend.alloc(layout.len())?,
            second: backend.alloc(layout.len())?,
            groups,
            trained,
            sum: backend.alloc(1)?,
        })
    }

    /// L2 norm of all weights together.
    ///
    /// # Errors
    /// When the device fails.
    pub fn weight_norm(&mut self, backend: &B, weights: &B::Buffer<B::Real>) -> Result<f64> {
        Ok(self.sum_of_squares(backend, weights, 0..weights.len())?.sqrt())
    }

    /// L2 norm of the gradients of everything that is trained.
    ///
    /// # Errors
    /// When the device fails.
    pub fn gradient_norm(&mut self, backend: &B, gradients: &B::Buffer<B::Real>) -> Result<f64> {
        let mut sum = 0.0;
        for index in 0..self.trained.len() {
            sum += self.sum_of_squares(backend, gradients, self.trained[index].clone())?;
        }
        Ok(sum.sqrt())
    }

    fn sum_of_squares(
        &mut self,
        backend: &B,
        arena: &B::Buffer<B::Real>,
        range: Range<usize>,
    ) -> Result<f64> {
        let out = backend.view_mut(&mut self.sum, 0..1)?;
        backend.sum_of_squares(SumOfSquares { x: backend.view(arena, range)?, out })?;
        let mut sum = [0.0];
        backend.download(backend.view(&self.sum, 0..1)?, &mut sum)?;
        Ok(sum[0])
    }

    /// Step `step` of the moments (from 1) at the learning rate `lr`, gradients of norm `norm` scaled down to the clipping threshold.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(
        &mut self,
        backend: &B,
        params: &mut Parameters<B>,
        grads: &B::Buffer<B::Real>,
        step: u64,
        lr: f64,
        norm: f64,
    ) -> Result<()> {
        let grad_scale = if self.clip > 0.0 && norm > self.clip { self.clip / norm } else { 1.0 };
        for (range, decay) in &self.groups {
            let (masters, copy) = params.range_mut(backend, range.clone())?;
            backend.adamw(Step {
                hyper: Hyper {
                    lr,
                    beta1: self.settings.beta1,
                    beta2: self.settings.beta2,
                    eps: self.settings.eps,
                    weight_decay: if *decay { self.settings.weight_decay } else { 0.0 },
                    step,
                    grad_scale,
                },
                params: masters,
                grads: backend.view(grads, range.clone())?,
                m: backend.view_mut(&mut self.first, range.clone())?,
                v: backend.view_mut(&mut self.second, range.clone())?,
                copy,
            })?;
        }
        Ok(())
    }

    /// Writes the moments as `first.<parameter>` and `second.<parameter>`.
    ///
    /// # Errors
    /// When the file cannot be written to its end.
    pub fn write(&self, backend: &B, layout: &Layout, path: &Path) -> Result<()> {
        let planned = |prefix: &'static str| {
            let name = move |tensor: &Tensor| format!("{prefix}.{}", tensor.name);
            layout.tensors.iter().map(move |tensor| Planned::f32(name(tensor), tensor.shape.clone()))
        };
        let planned: Vec<Planned> = planned(FIRST).chain(planned(SECOND)).collect();
        safetensors::write(path, &planned, |index| {
            let count = layout.tensors.len();
            let moment = if index < count { &self.first } else { &self.second };
            let tensor = &layout.tensors[index % count];
            let mut values = vec![B::Real::from_f64(0.0); tensor.range.len()];
            backend.download(backend.view(moment, tensor.range.clone())?, &mut values)?;
            Ok(values.into_iter().map(Real::to_f64).collect())
        })?;
        Ok(())
    }

    /// Reads the moments that [`Optimiser::write`] wrote.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn read(&mut self, backend: &B, layout: &Layout, path: &Path) -> Result<()> {
        let mut file = Reader::open(path)?;
        let Self { first, second, .. } = self;
        for (moment, prefix) in [(first, FIRST), (second, SECOND)] {
            for tensor in &layout.tensors {
                let values = file.floats(&format!("{prefix}.{}", tensor.name), &tensor.shape)?;
                let values: Vec<B::Real> = values.into_iter().map(B::Real::from_f64).collect();
                backend.upload(&values, backend.view_mut(moment, tensor.range.clone())?)?;
            }
        }
        Ok(())
    }
}

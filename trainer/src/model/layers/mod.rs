//! The layers, one file each, forward and backward side by side.

pub(crate) mod attention;
pub(crate) mod dense;
pub(crate) mod embedding;
pub(crate) mod head;
pub(crate) mod moe;
pub(crate) mod moe_kept;
pub(crate) mod moe_losses;
pub(crate) mod moe_pool;
pub(crate) mod norm;

use std::ops::Range;

use emo::Result;
use emo::backend::{Backend, Stored, View};

use super::activations::{read, write};
use super::config::ModelConfig;
use super::inputs::Batch;
use super::parameters::Parameters;

/// What every layer reads.
pub(crate) struct Context<'a, B: Backend> {
    pub backend: &'a B,
    pub config: &'a ModelConfig,
    pub params: &'a Parameters<B>,
    pub batch: &'a Batch<B>,
}

impl<B: Backend> Context<'_, B> {
    pub fn tokens(&self) -> usize {
        self.batch.tokens
    }

    /// A norm weight, a bias, taps or a router.
    pub fn weight(&self, range: &Range<usize>) -> Result<View<'_, B>> {
        self.backend.view(self.params.masters(), range.clone())
    }

    /// A matrix or the embedding table.
    pub fn matrix(&self, range: &Range<usize>) -> Result<Stored<'_, B>> {
        self.backend.view(self.params.matrices(), range.clone())
    }

    /// A bias that may not exist.
    pub fn optional_weight(&self, range: &Option<Range<usize>>) -> Result<Option<View<'_, B>>> {
        range.as_ref().map(|range| self.weight(range)).transpose()
    }

    /// `y = x w^T (+ bias)`.
    pub fn linear(
        &self,
        shape: emo::ops::linear::Shape,
        x: &B::Buffer<B::Storage>,
        w: &Range<usize>,
        bias: &Option<Range<usize>>,
        y: &mut B::Buffer<B::Storage>,
        workspace: &mut B::Buffer<B::Real>,
    ) -> Result<()> {
        let backend = self.backend;
        backend.linear_forward(emo::ops::linear::Forward {
            shape,
            x: read(backend, x, shape.rows * shape.inputs)?,
            w: self.matrix(w)?,
            bias: self.optional_weight(bias)?,
            y: write(backend, y, shape.rows * shape.outputs)?,
            workspace: whole(backend, workspace)?,
        })
    }

    /// Gradient of [`Context::linear`]: `dx` overwritten, weight and bias gradients accumulated.
    pub fn linear_backward(
        &self,
        shape: emo::ops::linear::Shape,
        x: &B::Buffer<B::Storage>,
        dy: &B::Buffer<B::Storage>,
        w: &Range<usize>,
        bias: &Option<Range<usize>>,
        dx: &mut B::Buffer<B::Storage>,
        grads: &mut B::Buffer<B::Real>,
        workspace: &mut B::Buffer<B::Real>,
    ) -> Result<()> {
        let backend = self.backend;
        let dy_len = shape.rows * shape.outputs;
        let (dw, dbias) = match bias {
            None => (backend.view_mut(grads, w.clone())?, None),
            Some(bias) => {
                let [dw, dbias] = backend.disjoint_mut(grads, [w.clone(), bias.clone()])?;
                (dw, Some(dbias))
            }
        };
        backend.linear_wgrad(emo::ops::linear::Wgrad {
            shape,
            x: read(backend, x, shape.rows * shape.inputs)?,
            dy: read(backend, dy, dy_len)?,
            dw,
            dbias,
            workspace: whole(backend, workspace)?,
        })?;
        backend.linear_dgrad(emo::ops::linear::Dgrad {
            shape,
            dy: read(backend, dy, dy_len)?,
            w: self.matrix(w)?,
            dx: write(backend, dx, shape.rows * shape.inputs)?,
            accumulate: false,
            workspace: whole(backend, workspace)?,
        })
    }
}

/// A whole buffer, writable.
pub(crate) fn whole<'a, B: Backend>(
    backend: &B,
    buffer: &'a mut B::Buffer<B::Real>,
) -> Result<emo::backend::ViewMut<'a, B>> {
    use emo::backend::Len;
    let len = buffer.len();
    backend.view_mut(buffer, 0..len)
}

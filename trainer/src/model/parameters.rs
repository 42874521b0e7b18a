//! The parameter arena: exact masters, and the values that the layers read.

use std::ops::Range;

use emo::Result;
use emo::backend::{Backend, Real, StoredMut, ViewMut};

use super::activations::{Planner, Purpose, download, upload};

/// All parameters of a model.
///
/// Norm weights, biases, taps and the router are read from the masters. Matrices and the embedding table are read in the
/// type that activations are stored in: from the masters where that is their own type, else from rounded copies, which
/// every writer here keeps in step.
pub struct Parameters<B: Backend> {
    masters: B::Buffer<B::Real>,
    /// Laid out as the masters; empty where the masters serve.
    copies: B::Buffer<B::Storage>,
}

impl<B: Backend> Parameters<B> {
    pub(super) fn plan(plan: &mut Planner<'_, B>, elements: usize) -> Result<Self> {
        let masters = plan.real(Purpose::Parameters, "parameters", elements)?;
        let copies = if B::masters_as_stored(&masters).is_some() {
            plan.backend().alloc(0)?
        } else {
            plan.stored(Purpose::Parameters, "stored parameters", elements)?
        };
        Ok(Self { masters, copies })
    }

    /// The values that training adds to and checkpoints keep.
    pub fn masters(&self) -> &B::Buffer<B::Real> {
        &self.masters
    }

    /// The values that products read.
    pub(super) fn matrices(&self) -> &B::Buffer<B::Storage> {
        B::masters_as_stored(&self.masters).unwrap_or(&self.copies)
    }

    /// Masters of a range for an optimiser to change, and their copies where there are any.
    pub fn range_mut(
        &mut self,
        backend: &B,
        range: Range<usize>,
    ) -> Result<(ViewMut<'_, B>, Option<StoredMut<'_, B>>)> {
        let copied = B::masters_as_stored(&self.masters).is_none();
        let copies = copied.then(|| backend.view_mut(&mut self.copies, range.clone())).transpose()?;
        Ok((backend.view_mut(&mut self.masters, range)?, copies))
    }

    /// Overwrites parameters from `start` on.
    pub(super) fn set(&mut self, backend: &B, start: usize, values: &[f64]) -> Result<()> {
        upload::<B, _>(backend, values, &mut self.masters, start)?;
        if B::masters_as_stored(&self.masters).is_some() {
            return Ok(());
        }
        // Rounded twice, as the optimiser does: a restored model reads what the saved one read.
        let masters: Vec<f64> = values.iter().map(|&value| B::Real::from_f64(value).to_f64()).collect();
        upload::<B, _>(backend, &masters, &mut self.copies, start)
    }

    /// Masters of a range.
    pub(super) fn get(&self, backend: &B, range: Range<usize>) -> Result<Vec<f64>> {
        download::<B, _>(backend, &self.masters, range)
    }
}

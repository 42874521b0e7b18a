//! Products with one matrix.

use crate::Result;
use crate::ops::linear::{Dgrad, Forward, Shape, Wgrad};

use super::status::Site;
use super::{Cuda, CudaStorage, not_yet};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[];

pub(super) fn forward<S: CudaStorage>(_: &Cuda<S>, _: Forward<'_, Cuda<S>>) -> Result<()> {
    not_yet("linear_forward")
}

pub(super) fn dgrad<S: CudaStorage>(_: &Cuda<S>, _: Dgrad<'_, Cuda<S>>) -> Result<()> {
    not_yet("linear_dgrad")
}

pub(super) fn wgrad<S: CudaStorage>(_: &Cuda<S>, _: Wgrad<'_, Cuda<S>>) -> Result<()> {
    not_yet("linear_wgrad")
}

pub(super) fn workspace<S: CudaStorage>(_: &Cuda<S>, _: Shape) -> usize {
    0
}

//! Expert MLPs.

use crate::Result;
use crate::ops::experts::{Backward, Forward, Shape};

use super::status::Site;
use super::{Cuda, CudaStorage, not_yet};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[];

pub(super) fn forward<S: CudaStorage>(_: &Cuda<S>, _: Forward<'_, Cuda<S>>) -> Result<()> {
    not_yet("experts_forward")
}

pub(super) fn backward<S: CudaStorage>(_: &Cuda<S>, _: Backward<'_, Cuda<S>>) -> Result<()> {
    not_yet("experts_backward")
}

pub(super) fn workspace<S: CudaStorage>(_: &Cuda<S>, _: Shape) -> usize {
    0
}

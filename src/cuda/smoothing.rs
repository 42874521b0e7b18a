//! Sequence smoothing.

use crate::Result;
use crate::ops::smoothing::{Backward, Forward};

use super::status::Site;
use super::{Cuda, CudaStorage, not_yet};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[];

pub(super) fn forward<S: CudaStorage>(_: &Cuda<S>, _: Forward<'_, Cuda<S>>) -> Result<()> {
    not_yet("smoothing_forward")
}

pub(super) fn backward<S: CudaStorage>(_: &Cuda<S>, _: Backward<'_, Cuda<S>>) -> Result<()> {
    not_yet("smoothing_backward")
}

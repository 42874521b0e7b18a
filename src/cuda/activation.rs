//! Activations.

use crate::Result;
use crate::ops::activation::{Backward, Clamp, ClampBackward, Forward};

use super::{Cuda, CudaStorage, not_yet};

pub(super) fn forward<S: CudaStorage>(_: &Cuda<S>, _: Forward<'_, Cuda<S>>) -> Result<()> {
    not_yet("activation_forward")
}

pub(super) fn backward<S: CudaStorage>(_: &Cuda<S>, _: Backward<'_, Cuda<S>>) -> Result<()> {
    not_yet("activation_backward")
}

pub(super) fn clamp_forward<S: CudaStorage>(_: &Cuda<S>, _: Clamp<'_, Cuda<S>>) -> Result<()> {
    not_yet("clamp_forward")
}

pub(super) fn clamp_backward<S: CudaStorage>(_: &Cuda<S>, _: ClampBackward<'_, Cuda<S>>) -> Result<()> {
    not_yet("clamp_backward")
}

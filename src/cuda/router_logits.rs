//! Router logits.

use crate::Result;
use crate::ops::router_logits::{Backward, Forward};

use super::{Cuda, CudaStorage, not_yet};

pub(super) fn forward<S: CudaStorage>(_: &Cuda<S>, _: Forward<'_, Cuda<S>>) -> Result<()> {
    not_yet("router_logits_forward")
}

pub(super) fn backward<S: CudaStorage>(_: &Cuda<S>, _: Backward<'_, Cuda<S>>) -> Result<()> {
    not_yet("router_logits_backward")
}

//! Plan, dispatch and combine.

use crate::Result;
use crate::ops::permutation::{Combine, CombineBackward, Dispatch, DispatchBackward, Plan};

use super::status::Site;
use super::{Cuda, CudaStorage, not_yet};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[];

pub(super) fn plan<S: CudaStorage>(_: &Cuda<S>, _: Plan<'_, Cuda<S>>) -> Result<()> {
    not_yet("plan")
}

pub(super) fn dispatch<S: CudaStorage>(_: &Cuda<S>, _: Dispatch<'_, Cuda<S>>) -> Result<()> {
    not_yet("dispatch_forward")
}

pub(super) fn dispatch_backward<S: CudaStorage>(_: &Cuda<S>, _: DispatchBackward<'_, Cuda<S>>) -> Result<()> {
    not_yet("dispatch_backward")
}

pub(super) fn combine<S: CudaStorage>(_: &Cuda<S>, _: Combine<'_, Cuda<S>>) -> Result<()> {
    not_yet("combine_forward")
}

pub(super) fn combine_backward<S: CudaStorage>(_: &Cuda<S>, _: CombineBackward<'_, Cuda<S>>) -> Result<()> {
    not_yet("combine_backward")
}

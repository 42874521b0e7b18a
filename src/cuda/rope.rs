//! Rotary embedding.

use crate::Result;
use crate::ops::rope::Apply;

use super::status::Site;
use super::{Cuda, CudaStorage, not_yet};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[];

pub(super) fn apply<S: CudaStorage>(_: &Cuda<S>, _: Apply<'_, Cuda<S>>) -> Result<()> {
    not_yet("rope")
}

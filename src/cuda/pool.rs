//! Document pools.

use crate::Result;
use crate::ops::pool::Keep;

use super::status::Site;
use super::{Cuda, CudaStorage, not_yet};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[];

pub(super) fn keep<S: CudaStorage>(_: &Cuda<S>, _: Keep<'_, Cuda<S>>) -> Result<()> {
    not_yet("pool_keep")
}

//! Losses on routing.

use crate::Result;
use crate::ops::losses::{
    DomainConsistency, LoadBalance, MutualInformation, Redundancy, SequenceConsistency,
};

use super::status::Site;
use super::{Cuda, CudaStorage, not_yet};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[];

pub(super) fn load_balance<S: CudaStorage>(_: &Cuda<S>, _: LoadBalance<'_, Cuda<S>>) -> Result<()> {
    not_yet("load_balance")
}

pub(super) fn mutual_information<S: CudaStorage>(
    _: &Cuda<S>,
    _: MutualInformation<'_, Cuda<S>>,
) -> Result<()> {
    not_yet("mutual_information")
}

pub(super) fn sequence_consistency<S: CudaStorage>(
    _: &Cuda<S>,
    _: SequenceConsistency<'_, Cuda<S>>,
) -> Result<()> {
    not_yet("sequence_consistency")
}

pub(super) fn domain_consistency<S: CudaStorage>(
    _: &Cuda<S>,
    _: DomainConsistency<'_, Cuda<S>>,
) -> Result<()> {
    not_yet("domain_consistency")
}

pub(super) fn redundancy<S: CudaStorage>(_: &Cuda<S>, _: Redundancy<'_, Cuda<S>>) -> Result<()> {
    not_yet("redundancy")
}

//! AdamW and the sum of squares.

use crate::Result;
use crate::ops::adamw::{Step, SumOfSquares};

use super::{Cuda, CudaStorage, not_yet};

pub(super) fn step<S: CudaStorage>(_: &Cuda<S>, _: Step<'_, Cuda<S>>) -> Result<()> {
    not_yet("adamw")
}

pub(super) fn sum_of_squares<S: CudaStorage>(_: &Cuda<S>, _: SumOfSquares<'_, Cuda<S>>) -> Result<()> {
    not_yet("sum_of_squares")
}

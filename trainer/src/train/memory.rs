//! Between device memory and the f32 values of files.

use std::ops::Range;

use emo::Backend;
use emo::backend::Real;

use crate::error::Result;

/// Elements `range` of a device buffer.
///
/// # Errors
/// When the device fails.
pub fn download<B: Backend>(
    backend: &B,
    buffer: &B::Buffer<B::Real>,
    range: Range<usize>,
) -> Result<Vec<f32>> {
    let mut values = vec![B::Real::from_f64(0.0); range.len()];
    backend.download(backend.view(buffer, range)?, &mut values)?;
    Ok(values.into_iter().map(|value| value.to_f64() as f32).collect())
}

/// Overwrites elements `range` of a device buffer.
///
/// # Errors
/// When the device fails.
pub fn upload<B: Backend>(
    backend: &B,
    values: &[f32],
    buffer: &mut B::Buffer<B::Real>,
    range: Range<usize>,
) -> Result<()> {
    let values: Vec<B::Real> = values.iter().map(|&value| B::Real::from_f64(f64::from(value))).collect();
    Ok(backend.upload(&values, backend.view_mut(buffer, range)?)?)
}

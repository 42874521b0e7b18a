//! Checks that the argument structs share: sizes without overflow, lengths with names.

use crate::backend::Len;
use crate::{Error, Result};

/// Most elements of an argument: beyond the address space of today's machines, and far enough below `usize::MAX` that
/// an extent times a tile size of a kernel cannot overflow.
const MOST: usize = 1 << 48;

/// `a * b * ...`, or an error instead of a wrapped size. An extent of 0 hides no oversized one beside it.
pub(crate) fn product(op: &'static str, arg: &'static str, factors: &[usize]) -> Result<usize> {
    let size = factors.iter().try_fold(1usize, |size, &factor| size.checked_mul(factor.max(1)));
    match size.filter(|&size| size <= MOST) {
        Some(size) => Ok(if factors.contains(&0) { 0 } else { size }),
        None => Err(Error::argument(op, arg, "a shape whose size fits in memory", format!("{factors:?}"))),
    }
}

/// `view` holds exactly the product of `factors` elements.
pub(crate) fn length(op: &'static str, arg: &'static str, view: &impl Len, factors: &[usize]) -> Result<()> {
    let expected = product(op, arg, factors)?;
    if view.len() == expected { Ok(()) } else { Err(Error::Length { op, arg, expected, found: view.len() }) }
}

/// Like [`length`] for an argument that may be left out.
pub(crate) fn optional(
    op: &'static str,
    arg: &'static str,
    view: &Option<impl Len>,
    factors: &[usize],
) -> Result<()> {
    view.as_ref().map_or(Ok(()), |view| length(op, arg, view, factors))
}

/// `view` holds at least `expected` elements.
pub(crate) fn at_least(op: &'static str, arg: &'static str, view: &impl Len, expected: usize) -> Result<()> {
    if view.len() >= expected { Ok(()) } else { Err(Error::Length { op, arg, expected, found: view.len() }) }
}

/// A size that may not be 0.
pub(crate) fn positive(op: &'static str, arg: &'static str, value: usize) -> Result<()> {
    require(value > 0, op, arg, "positive", value)
}

/// `condition` or an [`Error::Argument`]. The words are given as `format_args!`: a check that holds allocates nothing.
pub(crate) fn require(
    condition: bool,
    op: &'static str,
    arg: &'static str,
    expected: impl ToString,
    found: impl ToString,
) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::argument(op, arg, expected, found)) }
}

/// `view` spans `rows` rows of `width` elements whose starts lie `stride` apart.
pub(crate) fn strided(
    op: &'static str,
    arg: &'static str,
    view: &impl Len,
    rows: usize,
    width: usize,
    stride: usize,
) -> Result<()> {
    positive(op, "width", width)?;
    require(stride >= width, op, "stride", format_args!("at least the row width {width}"), stride)?;
    product(op, arg, &[rows, stride])?;
    if rows == 0 {
        return Ok(());
    }
    let expected = product(op, arg, &[rows - 1, stride])? + width;
    at_least(op, arg, view, expected)
}

//! Argument checks shared by the matrix ops: what makes their unchecked inner loops safe.

use crate::{Error, Result};

/// `found` elements where `expected` are asked for.
pub(crate) fn len(op: &'static str, arg: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Length { op, arg, expected, found }) }
}

/// A workspace may be longer than asked for.
pub(crate) fn workspace(op: &'static str, expected: usize, found: usize) -> Result<()> {
    if found >= expected { Ok(()) } else { Err(Error::Length { op, arg: "workspace", expected, found }) }
}

/// The product of extents, or an error where it does not fit a `usize`.
pub(crate) fn extent(op: &'static str, arg: &'static str, extents: &[usize]) -> Result<usize> {
    extents
        .iter()
        .try_fold(1usize, |product, &x| product.checked_mul(x))
        .ok_or_else(|| Error::argument(op, arg, "a size that fits the address space", format!("{extents:?}")))
}

//! Checks of values inside buffers. Lengths are checked by the argument structs, which cannot see the values.

use crate::ops::segments::Segments;
use crate::{Error, Result};

use super::Cpu;

/// Every index is below `bound`.
pub(super) fn below(op: &'static str, arg: &'static str, indices: &[u32], bound: usize) -> Result<()> {
    let Ok(limit) = u32::try_from(bound) else { return Ok(()) };
    // Blocks without an early exit, so that the compiler vectorises the common case, in which all is well.
    for (block, part) in indices.chunks(1024).enumerate() {
        if part.iter().fold(false, |bad, &index| bad | (index >= limit)) {
            let at = part.iter().position(|&index| index >= limit).unwrap_or(0);
            let found = part[at] as usize;
            return Err(Error::Index { op, arg, position: block * 1024 + at, bound, found });
        }
    }
    Ok(())
}

/// The offsets start at 0, ascend, and end at `total`.
pub(super) fn offsets(op: &'static str, arg: &'static str, offsets: &[u32], total: usize) -> Result<()> {
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
        return Err(Error::Length { op, arg, expected: 1, found: 0 });
    };
    if first != 0 || last as usize != total || offsets.windows(2).any(|pair| pair[0] > pair[1]) {
        let found = match offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            Some(at) => format!("{} after {} at {}", offsets[at + 1], offsets[at], at + 1),
            None => format!("{first} first and {last} last"),
        };
        return Err(Error::argument(op, arg, format!("ascending from 0 to {total}"), found));
    }
    Ok(())
}

/// The offsets partition the tokens, and each token names the segment it lies in.
pub(super) fn segments(op: &'static str, segments: &Segments<'_, Cpu>, tokens: usize) -> Result<()> {
    offsets(op, "segments.offsets", segments.offsets, tokens)?;
    for (segment, range) in segments.offsets.windows(2).enumerate() {
        let (start, end) = (range[0] as usize, range[1] as usize);
        if let Some(at) = segments.of_token[start..end].iter().position(|&named| named as usize != segment) {
            let expected = format!("{segment} at token {}, as the offsets say", start + at);
            return Err(Error::argument(op, "segments.of_token", expected, segments.of_token[start + at]));
        }
    }
    Ok(())
}

/// Every row is named exactly once. `mark` holds as many elements as `indices` and is overwritten.
pub(super) fn permutation(
    op: &'static str,
    arg: &'static str,
    indices: &[u32],
    mark: &mut [u32],
) -> Result<()> {
    below(op, arg, indices, mark.len())?;
    mark.fill(0);
    for &index in indices {
        if std::mem::replace(&mut mark[index as usize], 1) != 0 {
            return Err(Error::argument(op, arg, "a permutation", format!("{index} twice")));
        }
    }
    Ok(())
}

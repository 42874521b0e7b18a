//! Checks of values that live in host memory.

use super::Oracle;
use crate::ops::segments::Segments;
use crate::{Error, Result};

/// Every index is below `bound`.
pub(super) fn below(op: &'static str, arg: &'static str, indices: &[u32], bound: usize) -> Result<()> {
    match indices.iter().position(|&index| index as usize >= bound) {
        None => Ok(()),
        Some(position) => Err(Error::Index { op, arg, position, bound, found: indices[position] as usize }),
    }
}

/// `offsets` ascend from 0 to `end`.
pub(super) fn ascending(op: &'static str, offsets: &[u32], end: usize) -> Result<()> {
    let fine = offsets.first() == Some(&0)
        && offsets.last().map(|&last| last as usize) == Some(end)
        && offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    if fine {
        Ok(())
    } else {
        Err(Error::argument(op, "offsets", format!("ascending from 0 to {end}"), format!("{offsets:?}")))
    }
}

pub(super) fn segments(op: &'static str, segments: &Segments<'_, Oracle>, tokens: usize) -> Result<()> {
    ascending(op, segments.offsets, tokens)?;
    for (segment, range) in segments.offsets.windows(2).enumerate() {
        let members = &segments.of_token[range[0] as usize..range[1] as usize];
        if let Some(position) = members.iter().position(|&of| of as usize != segment) {
            let found = members[position];
            return Err(Error::argument(
                op,
                "segments.of_token",
                format!("{segment} inside segment {segment}"),
                found,
            ));
        }
    }
    Ok(())
}

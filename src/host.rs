//! What the backends whose buffers lie in host memory share: checks of the values inside index buffers (the argument
//! structs check lengths and cannot see values), and cutting a buffer into disjoint ranges.

use std::ops::Range;

use crate::backend::{Backend, Element};
use crate::ops::attention::Cached;
use crate::ops::router::RouterConfig;
use crate::ops::segments::Segments;
use crate::{Error, Result};

/// Every index is below `bound`.
pub(crate) fn below(op: &'static str, arg: &'static str, indices: &[u32], bound: usize) -> Result<()> {
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
pub(crate) fn offsets(op: &'static str, arg: &'static str, offsets: &[u32], total: usize) -> Result<()> {
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

/// All rows that the counts name together have room.
pub(crate) fn room(op: &'static str, arg: &'static str, counts: &[u32], room: usize) -> Result<()> {
    let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    if total <= room as u64 {
        return Ok(());
    }
    Err(Error::argument(op, arg, format!("at most {room} rows together"), total))
}

/// The offsets partition the tokens, and each token names the segment it lies in.
pub(crate) fn segments<B>(op: &'static str, segments: &Segments<'_, B>, tokens: usize) -> Result<()>
where
    B: for<'a> Backend<View<'a, u32> = &'a [u32]>,
{
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

/// The sequences have places of their own in the cache, and room there for what they grow by.
pub(crate) fn cached_sequences<B>(op: &'static str, args: &Cached<'_, B>) -> Result<()>
where
    B: for<'a> Backend<View<'a, u32> = &'a [u32]>,
{
    segments(op, &args.segments, args.shape.tokens)?;
    below(op, "slots", args.slots, args.places)?;
    for (segment, ends) in args.segments.offsets.windows(2).enumerate() {
        let (slot, past, new) = (args.slots[segment], args.past[segment], ends[1] - ends[0]);
        if past as usize + new as usize > args.shape.longest {
            let expected = format!("at most {} with the new tokens", args.shape.longest);
            return Err(Error::argument(op, "past", expected, format!("{past} and {new} new")));
        }
        if args.slots[..segment].contains(&slot) {
            return Err(Error::argument(op, "slots", "a place for each sequence", format!("{slot} twice")));
        }
    }
    Ok(())
}

/// Every row is named exactly once. `mark` holds as many elements as `indices` and is overwritten with zeros and `one`.
pub(crate) fn permutation<M: Element>(
    op: &'static str,
    arg: &'static str,
    indices: &[u32],
    mark: &mut [M],
    one: M,
) -> Result<()> {
    below(op, arg, indices, mark.len())?;
    mark.fill(M::zeroed());
    for &index in indices {
        if std::mem::replace(&mut mark[index as usize], one) == one {
            return Err(Error::argument(op, arg, "a permutation", format!("{index} twice")));
        }
    }
    Ok(())
}

/// The slots of each token as the router writes them: `routed_k` routed experts, then every shared expert once.
pub(crate) fn router_slots(op: &'static str, config: &RouterConfig, indices: &[u32]) -> Result<()> {
    let (routed, routed_k) = (config.routed(), config.routed_k());
    below(op, "indices", indices, config.experts)?;
    for (token, slots) in indices.chunks_exact(config.top_k).enumerate() {
        let (own, shared) = slots.split_at(routed_k);
        let wrong = own.iter().position(|&expert| expert as usize >= routed).or_else(|| {
            let wrong = |i: usize| (shared[i] as usize) < routed || shared[..i].contains(&shared[i]);
            (0..shared.len()).find(|&i| wrong(i)).map(|i| routed_k + i)
        });
        if let Some(slot) = wrong {
            let expected = format!(
                "routed experts (below {routed}) in the first {routed_k} slots, then each shared one once"
            );
            let found = format!("{} at token {token}, slot {slot}", slots[slot]);
            return Err(Error::argument(op, "indices", expected, found));
        }
    }
    Ok(())
}

fn outside(op: &'static str, range: &Range<usize>, len: usize) -> Error {
    Error::argument(op, "range", format!("ascending and inside 0..{len}"), format!("{range:?}"))
}

/// `range` ascends and ends within `len` elements.
pub(crate) fn inside(op: &'static str, range: &Range<usize>, len: usize) -> Result<()> {
    if range.start <= range.end && range.end <= len { Ok(()) } else { Err(outside(op, range, len)) }
}

/// `range` of `data`.
pub(crate) fn view<T>(data: &[T], range: Range<usize>) -> Result<&[T]> {
    data.get(range.clone()).ok_or_else(|| outside("view", &range, data.len()))
}

/// `range` of `data`, writable.
pub(crate) fn view_mut<T>(data: &mut [T], range: Range<usize>) -> Result<&mut [T]> {
    let len = data.len();
    data.get_mut(range.clone()).ok_or_else(|| outside("view_mut", &range, len))
}

/// Each range lies within `len` elements, and none overlaps another. An empty range overlaps nothing, wherever it lies.
pub(crate) fn disjoint<const N: usize>(ranges: &[Range<usize>; N], len: usize) -> Result<()> {
    const OP: &str = "disjoint_mut";
    ranges.iter().try_for_each(|range| inside(OP, range, len))?;
    let overlap = |a: &Range<usize>, b: &Range<usize>| a.start.max(b.start) < a.end.min(b.end);
    if ranges.iter().enumerate().any(|(i, a)| ranges[..i].iter().any(|b| overlap(a, b))) {
        return Err(Error::argument(OP, "ranges", "free of overlap", format!("{ranges:?}")));
    }
    Ok(())
}

/// Several ranges of `data`, none of which may overlap another.
pub(crate) fn disjoint_mut<T, const N: usize>(
    data: &mut [T],
    ranges: [Range<usize>; N],
) -> Result<[&mut [T]; N]> {
    disjoint(&ranges, data.len())?;
    // The standard library counts an empty range as a point.
    let ranges = ranges.map(|range| if range.is_empty() { 0..0 } else { range });
    data.get_disjoint_mut(ranges)
        .map_err(|error| Error::argument("disjoint_mut", "ranges", "disjoint", error))
}

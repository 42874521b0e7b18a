//! Which parameters are trained, and which stay as they are: whole tensors, or rows of them.
//!
//! A pattern is a tensor's name as `trainer inspect --tensors` shows it, `*` standing for any text, with rows of the
//! first axis where not all are meant: `layers.*.experts_*[0-3,7]` is those experts, `layers.2.router[7]` the row that
//! scores one of them.

use std::ops::Range;

use crate::config::Train;
use crate::error::{Error, Result};
use crate::model::{Layout, Tensor};

/// The ranges of the arena that are trained: what `train.only` names (all where it names nothing) without what
/// `train.freeze` names.
///
/// # Errors
/// [`Error::Config`] for a pattern that names nothing or rows that are not there, and when nothing is left to train.
pub fn trained(settings: &Train, layout: &Layout) -> Result<Vec<Range<usize>>> {
    let chosen = match &settings.only[..] {
        [] => std::iter::once(0..layout.len()).collect(),
        only => named("train.only", only, layout)?,
    };
    let left = without(&chosen, &named("train.freeze", &settings.freeze, layout)?);
    if left.is_empty() {
        return Err(Error::Config("`train.only` and `train.freeze` leave nothing to train".into()));
    }
    Ok(left)
}

/// The parts of `groups` that lie in `ranges`, in arena order.
pub fn cut<T: Copy>(groups: &[(Range<usize>, T)], ranges: &[Range<usize>]) -> Vec<(Range<usize>, T)> {
    let part = |group: &Range<usize>, range: &Range<usize>| {
        let both = group.start.max(range.start)..group.end.min(range.end);
        (both.start < both.end).then_some(both)
    };
    groups
        .iter()
        .flat_map(|(group, value)| {
            ranges.iter().filter_map(move |range| part(group, range).map(|part| (part, *value)))
        })
        .collect()
}

/// What the patterns of `key` name, in arena order, neighbours merged.
fn named(key: &str, patterns: &[String], layout: &Layout) -> Result<Vec<Range<usize>>> {
    let mut ranges = Vec::new();
    for pattern in patterns {
        let (name, rows) = parse(key, pattern)?;
        let tensors: Vec<&Tensor> =
            layout.tensors.iter().filter(|tensor| matches(name, &tensor.name)).collect();
        if tensors.is_empty() {
            let names: Vec<&str> =
                layout.tensors.iter().take(12).map(|tensor| tensor.name.as_str()).collect();
            return Err(Error::Config(format!(
                "`{key}`: no parameter is called `{name}`; the first ones are {}",
                names.join(", ")
            )));
        }
        for tensor in tensors {
            let Some(rows) = &rows else {
                ranges.push(tensor.range.clone());
                continue;
            };
            let count = tensor.shape.first().copied().unwrap_or(1);
            let size = tensor.range.len() / count;
            for rows in rows {
                if rows.end > count {
                    return Err(Error::Config(format!(
                        "`{key}`: `{pattern}` names row {}, but `{}` has {count}, from 0",
                        rows.end - 1,
                        tensor.name
                    )));
                }
                ranges.push(tensor.range.start + rows.start * size..tensor.range.start + rows.end * size);
            }
        }
    }
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    Ok(merged)
}

/// `from` without `what`, both sorted and without overlaps.
fn without(from: &[Range<usize>], what: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut left = Vec::new();
    for range in from {
        let mut start = range.start;
        for hole in what.iter().filter(|hole| hole.start < range.end && hole.end > range.start) {
            if hole.start > start {
                left.push(start..hole.start);
            }
            start = start.max(hole.end);
        }
        if start < range.end {
            left.push(start..range.end);
        }
    }
    left
}

/// A pattern's name and the rows it asks for; none = all.
fn parse<'a>(key: &str, pattern: &'a str) -> Result<(&'a str, Option<Vec<Range<usize>>>)> {
    let Some((name, rows)) = pattern.split_once('[') else { return Ok((pattern, None)) };
    let range = |part: &str| -> Option<Range<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last < usize::MAX).then(|| first..last + 1)
    };
    let rows = rows.strip_suffix(']').and_then(|rows| rows.split(',').map(range).collect::<Option<Vec<_>>>());
    match rows {
        Some(rows) => Ok((name, Some(rows))),
        None => Err(Error::Config(format!(
            "`{key}`: `{pattern}` must end in rows like [0-3,7], or name a whole tensor"
        ))),
    }
}

/// Whether `name` is what `pattern` says, `*` standing for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| matches(rest, &name[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn layout() -> Layout {
        Layout::new(&Config::load("quickstart", &[]).unwrap().model_config()).unwrap()
    }

    fn settings(only: &[&str], freeze: &[&str]) -> Train {
        let list = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Train { only: list(only), freeze: list(freeze), ..Train::default() }
    }

    fn elements(ranges: &[Range<usize>]) -> usize {
        ranges.iter().map(Range::len).sum()
    }

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(matches("layers.*.router", "layers.3.router"));
        assert!(matches("*", "head"));
        assert!(matches("layers.1*experts_*", "layers.12.experts_in"));
        assert!(!matches("layers.*.router", "layers.3.router_bias"));
        assert!(!matches("head", "heads"));
    }

    #[test]
    fn what_is_frozen_and_what_is_trained_make_the_arena() {
        let layout = layout();
        let patterns = ["embedding", "layers.*.router", "layers.1.experts_in[0-3,7]"];
        let ranges = trained(&settings(&[], &patterns), &layout).unwrap();
        let frozen = trained(&settings(&patterns, &[]), &layout).unwrap();
        assert_eq!(elements(&ranges) + elements(&frozen), layout.len());
        let both = [&ranges[..], &frozen[..]].concat();
        let mut covered = vec![0u8; layout.len()];
        both.into_iter().flatten().for_each(|element| covered[element] += 1);
        assert!(covered.iter().all(|&times| times == 1));
        let groups = cut(&layout.decay_groups(), &ranges);
        assert_eq!(groups.iter().map(|(range, _)| range.len()).sum::<usize>(), elements(&ranges));
        assert_eq!(trained(&settings(&[], &[]), &layout).unwrap(), vec![0..layout.len()]);
    }

    #[test]
    fn rows_are_those_of_the_first_axis_and_may_overlap() {
        let layout = layout();
        let tensor = layout.tensors.iter().find(|tensor| tensor.name == "layers.2.experts_out").unwrap();
        let size = tensor.range.len() / tensor.shape[0];
        let at = |row: usize| tensor.range.start + row * size;
        let ranges = trained(&settings(&["layers.2.experts_out[5,0-1,1-2]"], &[]), &layout).unwrap();
        assert_eq!(ranges, [at(0)..at(3), at(5)..at(6)]);
        let ranges = trained(&settings(&["layers.2.experts_out[0-6]"], &["*[3]", "head"]), &layout).unwrap();
        assert_eq!(ranges, [at(0)..at(3), at(4)..at(7)]);
    }

    #[test]
    fn a_pattern_that_names_nothing_is_an_error_with_names() {
        let said = |only: &[&str], freeze: &[&str]| {
            trained(&settings(only, freeze), &layout()).unwrap_err().to_string()
        };
        let error = said(&[], &["layers.*.routers"]);
        assert!(error.contains("layers.*.routers") && error.contains("embedding"), "{error}");
        assert!(said(&[], &["*"]).contains("nothing to train"));
        assert!(said(&["layers.0.router[32]"], &[]).contains("row 32"));
        for rows in ["[", "[]", "[3-1]", "[a]", "[0"] {
            let error = said(&[&format!("layers.0.router{rows}")], &[]);
            assert!(error.contains("[0-3,7]"), "{error}");
        }
    }
}

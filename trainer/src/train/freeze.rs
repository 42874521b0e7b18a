//! Which parameters stay as they are.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::model::Layout;

/// The ranges of the arena that are trained: all of it but the tensors that a pattern names. In a pattern, `*` stands for
/// any text.
///
/// # Errors
/// [`Error::Config`] for a pattern that names nothing, and when nothing is left to train.
pub fn trained(patterns: &[String], layout: &Layout) -> Result<Vec<Range<usize>>> {
    for pattern in patterns {
        if !layout.tensors.iter().any(|tensor| matches(pattern, &tensor.name)) {
            let mut names: Vec<&str> = layout.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
            names.truncate(12);
            return Err(Error::Config(format!(
                "`train.freeze`: no parameter is called `{pattern}`; the first ones are {}",
                names.join(", ")
            )));
        }
    }
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for tensor in &layout.tensors {
        if patterns.iter().any(|pattern| matches(pattern, &tensor.name)) {
            continue;
        }
        match ranges.last_mut() {
            Some(range) if range.end == tensor.range.start => range.end = tensor.range.end,
            _ => ranges.push(tensor.range.clone()),
        }
    }
    if ranges.is_empty() {
        return Err(Error::Config("`train.freeze` leaves nothing to train".into()));
    }
    Ok(ranges)
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
        let patterns = ["embedding".to_owned(), "layers.*.router".to_owned()];
        let ranges = trained(&patterns, &layout).unwrap();
        let left: usize = ranges.iter().map(Range::len).sum();
        let named = |name: &str| name == "embedding" || name.ends_with(".router");
        let frozen: usize =
            layout.tensors.iter().filter(|tensor| named(&tensor.name)).map(|tensor| tensor.range.len()).sum();
        assert_eq!(left + frozen, layout.len());
        let groups = cut(&layout.decay_groups(), &ranges);
        assert_eq!(groups.iter().map(|(range, _)| range.len()).sum::<usize>(), left);
        assert_eq!(trained(&[], &layout).unwrap(), vec![0..layout.len()]);
    }

    #[test]
    fn a_pattern_that_names_nothing_is_an_error_with_names() {
        let error = trained(&["layers.*.routers".into()], &layout()).unwrap_err().to_string();
        assert!(error.contains("layers.*.routers") && error.contains("embedding"), "{error}");
        assert!(trained(&["*".into()], &layout()).is_err());
    }
}

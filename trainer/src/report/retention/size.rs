//! How many experts a subset has, in words and on an axis.

use serde::Deserialize;

/// The size of a subset.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Size {
    /// Experts kept in the first layer that has experts, and of how many.
    kept: (usize, usize),
    /// Experts kept in each layer that has experts; files of before there was such a list have none.
    #[serde(default)]
    layers: Vec<usize>,
}

impl Size {
    /// All experts.
    pub(super) const WHOLE: Self = Self { kept: (1, 1), layers: Vec::new() };

    /// Whether there can be such a subset.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self) -> Result<(), String> {
        let of = self.kept.1;
        match self.layers.iter().chain([&self.kept.0]).find(|kept| !(1..=of).contains(*kept)) {
            Some(kept) => Err(format!("it has a subset of {kept} of {of} experts")),
            None => Ok(()),
        }
    }

    /// Whether all layers keep as many.
    fn even(&self) -> bool {
        self.layers.iter().all(|&layer| layer == self.kept.0)
    }

    /// Experts of a layer that are kept, on average.
    fn mean(&self) -> f64 {
        if self.even() {
            return self.kept.0 as f64;
        }
        self.layers.iter().map(|&layer| layer as f64).sum::<f64>() / self.layers.len() as f64
    }

    /// How often the number of experts was halved: the place on the axis.
    pub(super) fn halvings(&self) -> f64 {
        (self.kept.1 as f64 / self.mean()).log2()
    }

    /// The share of the experts, in percent.
    pub(super) fn share(&self) -> String {
        let text = format!("{:.2}", 100.0 * self.mean() / self.kept.1 as f64);
        format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }

    /// What no other size is called: its share, and the layers where they differ.
    pub(super) fn name(&self) -> String {
        if self.even() { self.share() } else { format!("{} ({})", self.share(), self.counts()) }
    }

    /// How many of how many.
    pub(super) fn counts(&self) -> String {
        let (kept, of) = self.kept;
        if self.even() {
            return format!("{kept} of {of}");
        }
        let layers: Vec<String> = self.layers.iter().map(ToString::to_string).collect();
        format!("{} of {of}", layers.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_count_every_layer() {
        let size = |kept, layers: &[usize]| Size { kept, layers: layers.into() };
        let [even, old, uneven] = [size((8, 64), &[8, 8]), size((8, 64), &[]), size((4, 8), &[4, 2])];
        assert_eq!((even.counts(), even.name(), even.halvings()), ("8 of 64".into(), "12.5%".into(), 3.0));
        assert_eq!((old.counts(), old.name(), old.halvings()), ("8 of 64".into(), "12.5%".into(), 3.0));
        assert_eq!((uneven.counts(), uneven.name()), ("4,2 of 8".into(), "37.5% (4,2 of 8)".into()));
        assert_eq!((Size::WHOLE.share(), Size::WHOLE.halvings()), ("100%".into(), 0.0));
    }
}

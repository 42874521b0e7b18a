//! Sets of experts from others.

use super::{ExpertSubset, LayerSubset, Made};
use crate::error::{Error, Result};

/// How subsets become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Composition {
    /// Experts of any.
    Union,
    /// Experts of all.
    Intersection,
    /// Experts of the first alone.
    Difference,
    /// Experts of none.
    Complement,
}

impl Composition {
    /// Its word on the command line and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Union => "union",
            Self::Intersection => "intersection",
            Self::Difference => "difference",
            Self::Complement => "complement",
        }
    }

    /// The composition of one or more subsets of the same model. A layer of it may keep no routed expert: it is a set all the
    /// same, and a model refuses to run with it.
    ///
    /// # Errors
    /// No subset, or subsets of different models.
    pub fn of(self, subsets: &[ExpertSubset]) -> Result<ExpertSubset> {
        let Some((first, rest)) = subsets.split_first() else {
            return Err(Error::Usage("there is no subset to compose".into()));
        };
        let (mut all, mut result) = (first.clone(), first.clone());
        for subset in rest {
            all = all.union(subset)?;
            result = match self {
                Self::Union | Self::Complement => result.union(subset)?,
                Self::Intersection => result.intersection(subset)?,
                Self::Difference => result.difference(subset)?,
            };
        }
        if self == Self::Complement {
            let everything = first
                .layers()
                .iter()
                .map(|layer| LayerSubset { experts: (0..layer.routed as u32).collect(), ..layer.clone() });
            result = ExpertSubset::new(everything.collect())?.difference(&all)?;
        }
        let made = subsets.iter().map(|subset| subset.made());
        let words = |made: Option<&Made>| {
            made.map_or_else(
                || "a subset".to_owned(),
                |made| match &made.domain {
                    Some(domain) => format!("{} of {domain}", made.method),
                    None => made.method.clone(),
                },
            )
        };
        let parts: Vec<String> = made.clone().map(words).collect();
        let same = |value: fn(&Made) -> String| {
            let mut values = made.clone().flatten().map(value);
            let first = values.next().unwrap_or_default();
            if values.all(|value| value == first) { first } else { String::new() }
        };
        Ok(result.with_made(Made {
            method: format!("{}({})", self.name(), parts.join("; ")),
            documents: made.clone().flatten().map(|made| made.documents).fold(0, usize::saturating_add),
            tokens: made.clone().flatten().map(|made| made.tokens).fold(0, u64::saturating_add),
            checkpoint: same(|made| made.checkpoint.clone()),
            ..Made::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subset(routed: usize, layers: &[&[u32]]) -> ExpertSubset {
        let layer = |(number, experts): (usize, &&[u32])| LayerSubset {
            layer: 2 * number,
            routed,
            shared: 1,
            experts: experts.to_vec(),
        };
        ExpertSubset::new(layers.iter().enumerate().map(layer).collect()).unwrap()
    }

    fn experts(composition: Composition, subsets: &[ExpertSubset]) -> Vec<Vec<u32>> {
        composition.of(subsets).unwrap().layers().iter().map(|layer| layer.experts.clone()).collect()
    }

    #[test]
    fn three_subsets_compose_layer_by_layer() {
        let made =
            Made { method: "mass".into(), domain: Some("code".into()), documents: 2, ..Made::default() };
        let subsets = [
            subset(6, &[&[0, 1, 4], &[2]]).with_made(made),
            subset(6, &[&[1, 2], &[2, 3]]),
            subset(6, &[&[1, 5], &[0]]),
        ];
        assert_eq!(experts(Composition::Union, &subsets), [vec![0, 1, 2, 4, 5], vec![0, 2, 3]]);
        assert_eq!(experts(Composition::Intersection, &subsets), [vec![1], vec![]]);
        assert_eq!(experts(Composition::Difference, &subsets), [vec![0, 4], vec![]]);
        assert_eq!(experts(Composition::Complement, &subsets), [vec![3], vec![1, 4, 5]]);
        assert_eq!(experts(Composition::Complement, &subsets[1..2]), [vec![0, 3, 4, 5], vec![0, 1, 4, 5]]);
        let union = Composition::Union.of(&subsets).unwrap();
        let made = union.made().unwrap();
        assert_eq!((made.method.as_str(), made.documents), ("union(mass of code; a subset; a subset)", 2));
        // The file keeps all of it.
        assert_eq!(ExpertSubset::from_json(&union.to_json()).unwrap(), union);
    }

    #[test]
    fn subsets_of_different_models_do_not_compose() {
        let error = Composition::Union.of(&[subset(6, &[&[0]]), subset(7, &[&[0]])]).unwrap_err();
        assert!(error.to_string().contains("different models"), "{error}");
        assert!(Composition::Union.of(&[]).is_err());
    }
}

//! Numbers out of measurements: means, spreads, and what the aims are judged by.

use std::collections::BTreeMap;

use serde_json::Value;

use super::runs::Measured;

/// A mean over seeds and the largest distance from it; the latter means something from two seeds on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub mean: f64,
    pub distance: f64,
    pub count: usize,
}

impl Spread {
    /// Of these values; none of no values or of any that is no number.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let distance = values.iter().map(|value| (value - mean).abs()).fold(0.0, f64::max);
        Some(Self { mean, distance, count: values.len() })
    }

    /// `1.234 ± 0.005`, times `scale`.
    pub fn words(&self, scale: f64, decimals: usize) -> String {
        let mean = format!("{:.decimals$}", scale * self.mean);
        if self.count == 1 { mean } else { format!("{mean} ± {:.decimals$}", scale * self.distance) }
    }

    /// `+1.23 ± 0.05 %` of a ratio less 1.
    pub fn percent(&self) -> String {
        let sign = if self.mean.is_sign_negative() { "" } else { "+" };
        format!("{sign}{} %", self.words(100.0, 2))
    }
}

/// A spread for people, or a dash.
pub fn words(spread: Option<Spread>, scale: f64, decimals: usize) -> String {
    spread.map_or("-".into(), |spread| spread.words(scale, decimals))
}

/// Which subsets: how they were chosen and how many experts they keep.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub method: String,
    pub documents: u64,
    pub kept: u64,
}

impl Kind {
    /// Chosen from five documents: what is looked at on every seed.
    pub fn of_five(method: &str, kept: u64) -> Self {
        Self { method: method.into(), documents: 5, kept }
    }
}

/// Mean rise over domains of every kind of subset of a run.
pub fn rises(retention: &Value) -> BTreeMap<Kind, f64> {
    let means = retention["means"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kind = |mean: &Value| {
        Some((
            Kind {
                method: mean["method"].as_str()?.to_owned(),
                documents: mean["documents"].as_u64()?,
                kept: mean["kept"][0].as_u64()?,
            },
            mean["mean"].as_f64()?,
        ))
    };
    means.iter().filter_map(kind).collect()
}

/// Bits per byte of each domain with its own subset of a kind.
pub fn subset_losses(retention: &Value, kind: &Kind) -> BTreeMap<String, f64> {
    let subsets = retention["subsets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is = |subset: &&Value| {
        subset["method"] == kind.method.as_str()
            && subset["documents"] == kind.documents
            && subset["kept"][0] == kind.kept
            && subset["domain"] == subset["chosen_for"]
    };
    let loss =
        |subset: &Value| Some((subset["domain"].as_str()?.to_owned(), subset["bits_per_byte"].as_f64()?));
    subsets.iter().filter(is).filter_map(loss).collect()
}

/// Bits per byte of the whole model: a domain's, or the mean over domains.
pub fn full(measured: &Measured, domain: Option<&str>) -> f64 {
    let value = match domain {
        None => &measured.full["mean_bits_per_byte"],
        Some(domain) => &measured.full["domains"][domain]["bits_per_byte"],
    };
    value.as_f64().unwrap_or(f64::NAN)
}

/// Bits per byte of a domain in what `trainer eval` says.
pub fn domain_loss(eval: &Value, domain: &str) -> Result<f64, String> {
    let loss = eval["domains"][domain]["bits_per_byte"].as_f64();
    loss.ok_or_else(|| format!("an evaluation without a loss for {domain}"))
}

/// Over the runs of an arm.
pub fn over(runs: &[Measured], value: impl Fn(&Measured) -> Option<f64>) -> Option<Spread> {
    let values: Option<Vec<f64>> = runs.iter().map(value).collect();
    Spread::of(&values?)
}

/// The rise of a kind of subset over the runs of an arm that measured it.
pub fn rise(runs: &[Measured], kind: &Kind) -> Option<Spread> {
    let values: Vec<f64> = runs.iter().filter_map(|run| rises(&run.retention).get(kind).copied()).collect();
    Spread::of(&values)
}

/// Over the seeds that both arms have, each against its like: a seed is an order of documents.
pub fn against(
    runs: &[Measured],
    other: &[Measured],
    value: impl Fn(&Measured, &Measured) -> Option<f64>,
) -> Option<Spread> {
    let values: Option<Vec<f64>> = runs.iter().zip(other).map(|(run, other)| value(run, other)).collect();
    Spread::of(&values?)
}

/// How far an arm's whole model stands behind another's, as a share of the loss.
pub fn behind(runs: &[Measured], other: &[Measured]) -> Option<Spread> {
    against(runs, other, |run, other| Some(full(run, None) / full(other, None) - 1.0))
}

/// The same with pools of `size` chosen by a document's first tokens, against the other without pools, on the tokens after these.
pub fn behind_with_pools(runs: &[Measured], other: &[Measured], size: u64) -> Option<Spread> {
    let loss = |run: &Measured, wanted: Option<u64>| {
        let found =
            run.pools["sizes"].as_array()?.iter().find(|size| size["pool_size"].as_u64() == wanted)?;
        found["mean_bits_per_byte"].as_f64()
    };
    against(runs, other, |run, other| Some(loss(run, Some(size))? / loss(other, None)? - 1.0))
}

/// The sizes of pools that a run was measured with.
pub fn pool_sizes(run: &Measured) -> Vec<u64> {
    let sizes = run.pools["sizes"].as_array().map(Vec::as_slice).unwrap_or_default();
    sizes.iter().filter_map(|size| size["pool_size"].as_u64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_spread_is_the_mean_and_the_farthest_value() {
        let spread = Spread::of(&[1.0, 2.0, 6.0]).unwrap();
        assert_eq!((spread.mean, spread.distance), (3.0, 3.0));
        assert_eq!(spread.words(1.0, 1), "3.0 ± 3.0");
        assert_eq!(Spread::of(&[0.5]).unwrap().words(100.0, 0), "50");
        assert_eq!(Spread::of(&[f64::NAN]), None);
        assert_eq!(Spread::of(&[]), None);
    }

    /// A run with this loss of the whole model, with pools of 7, and without pools on the same tokens.
    fn run(whole: f64, pools: f64, without: f64) -> Measured {
        let sizes = json!([
            {"pool_size": 7, "mean_bits_per_byte": pools},
            {"pool_size": null, "mean_bits_per_byte": without}
        ]);
        let full = json!({ "mean_bits_per_byte": whole });
        Measured { full, pools: json!({ "sizes": sizes }), ..Measured::default() }
    }

    #[test]
    fn arms_are_compared_seed_by_seed() {
        let (ours, theirs) =
            ([run(2.2, 2.4, 2.2), run(4.0, 4.4, 4.0)], [run(2.0, 9.0, 2.0), run(4.0, 9.0, 4.0)]);
        assert_eq!(behind(&ours, &theirs).unwrap().percent(), "+5.00 ± 5.00 %");
        assert_eq!(behind(&ours[..1], &theirs).unwrap().percent(), "+10.00 %");
        assert_eq!(behind(&theirs[..1], &ours).unwrap().percent(), "-9.09 %");
        assert_eq!(behind(&ours, &[]), None);
    }

    #[test]
    fn pools_are_held_against_the_other_arm_without_pools_on_the_same_tokens() {
        // On the tokens after the prefix, which are others than those of the whole.
        let (ours, theirs) =
            ([run(1.0, 2.2, 2.1), run(1.0, 4.4, 4.1)], [run(1.0, 9.0, 2.0), run(1.0, 9.0, 4.0)]);
        assert_eq!(pool_sizes(&ours[0]), [7]);
        assert_eq!(behind_with_pools(&ours, &theirs, 7).unwrap().percent(), "+10.00 ± 0.00 %");
        assert_eq!(behind_with_pools(&ours, &theirs, 15), None);
        assert_eq!(behind_with_pools(&ours, &[Measured::default()], 7), None);
    }

    #[test]
    fn a_subset_counts_on_the_domain_that_it_was_chosen_for() {
        let subset = |method: &str, chosen: &str, domain: &str, loss: f64| {
            json!({"method": method, "documents": 5, "kept": [8, 64], "chosen_for": chosen, "domain": domain,
                   "bits_per_byte": loss})
        };
        let retention = json!({"subsets": [
            subset("layerwise", "maths", "maths", 1.5),
            subset("layerwise", "maths", "poetry", 4.0),
            subset("easy-ep", "maths", "maths", 1.4),
        ]});
        let losses = subset_losses(&retention, &Kind::of_five("layerwise", 8));
        assert_eq!(losses, BTreeMap::from([("maths".to_owned(), 1.5)]));
        assert!(subset_losses(&retention, &Kind::of_five("layerwise", 4)).is_empty());
    }
}

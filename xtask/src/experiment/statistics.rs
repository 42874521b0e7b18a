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

/// Loss with pools from a prefix over the loss with all experts on the same tokens, less 1, by pool size.
pub fn pool_costs(measured: &Measured) -> Vec<(u64, f64)> {
    let sizes = measured.pools["sizes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let loss = |size: &Value| size["mean_bits_per_byte"].as_f64();
    let Some(all) = sizes.iter().find(|size| size["pool_size"].is_null()).and_then(loss) else {
        return Vec::new();
    };
    sizes.iter().filter_map(|size| Some((size["pool_size"].as_u64()?, loss(size)? / all - 1.0))).collect()
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

    #[test]
    fn pools_cost_what_they_add_on_the_same_tokens() {
        let sizes = json!([
            {"pool_size": 7, "mean_bits_per_byte": 2.2},
            {"pool_size": null, "mean_bits_per_byte": 2.0}
        ]);
        let measured = Measured { pools: json!({ "sizes": sizes }), ..Measured::default() };
        let costs = pool_costs(&measured);
        assert_eq!(costs.len(), 1);
        assert!(costs[0].0 == 7 && (costs[0].1 - 0.1).abs() < 1e-12);
    }
}

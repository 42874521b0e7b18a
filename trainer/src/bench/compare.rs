//! Two models whose steps alternate.

use std::sync::Arc;

use emo::cpu::Cpu;
use emo::cpu::simd;
use serde::Serialize;

use super::least_and_median;
use super::step::Trial;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::FeedForward;

/// A ratio of two times that were taken in turns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What is compared.
    pub what: &'static str,
    /// Seconds of the first, the least and the median.
    pub first: (f64, f64),
    /// Seconds of the second.
    pub second: (f64, f64),
    /// The first's least over the second's.
    pub ratio: f64,
    /// The same of the medians.
    pub median_ratio: f64,
}

impl Comparison {
    /// From the seconds of each.
    #[must_use]
    pub fn of(what: &'static str, first: Vec<f64>, second: Vec<f64>) -> Self {
        let (first, second) = (least_and_median(first), least_and_median(second));
        Self { what, first, second, ratio: first.0 / second.0, median_ratio: first.1 / second.1 }
    }
}

/// What lies over a configuration.
type Overrides = Vec<String>;

/// The mixture and a dense model whose MLP has as many parameters as a token's experts together.
///
/// # Errors
/// When the model has no experts.
pub fn dense_twin(config: &Config) -> Result<[Overrides; 2]> {
    let model = config.model_config();
    let moe = model.feed_forward.iter().find_map(|kind| match kind {
        FeedForward::Moe(moe) => Some(moe),
        FeedForward::Dense(_) => None,
    });
    let Some(moe) = moe else {
        return Err(Error::Usage("the model has no experts to compare with a dense twin".into()));
    };
    let layers: Vec<String> = (0..model.layers()).map(|layer| layer.to_string()).collect();
    let width = moe.top_k * (moe.pre() + moe.hidden) / 3;
    let losses = [
        "load_balance",
        "router_z",
        "token_entropy",
        "marginal_entropy",
        "sequence_consistency",
        "domain_consistency",
        "redundancy",
    ];
    let mut dense = vec![
        format!("model.dense_layers=[{}]", layers.join(",")),
        format!("model.dense_width={width}"),
        "router.pool=none".into(),
        "router.smoothing=none".into(),
    ];
    dense.extend(losses.iter().map(|loss| format!("losses.{loss}=0")));
    Ok([vec![], dense])
}

/// Many experts and few, of which a token uses the same number.
#[must_use]
pub fn more_experts() -> [Overrides; 2] {
    [256, 8].map(|experts| vec![format!("router.experts={experts}")])
}

/// Steps of two models in turns. `done` is called after each pair.
///
/// # Errors
/// When a model cannot be made or a step fails.
pub fn alternate<T: simd::Storage>(
    what: &'static str,
    backend: &Arc<Cpu<T>>,
    configs: [Config; 2],
    steps: usize,
    mut done: impl FnMut(usize),
) -> Result<Comparison> {
    let [first, second] = configs;
    let (mut first, mut second) =
        (Trial::new(Arc::clone(backend), first)?, Trial::new(Arc::clone(backend), second)?);
    let (mut seconds, mut others) = (Vec::new(), Vec::new());
    for step in 0..steps {
        seconds.push(first.step()?.0);
        others.push(second.step()?.0);
        done(step + 1);
    }
    Ok(Comparison::of(what, seconds, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dense_twin_has_the_active_parameters_of_the_mixture() {
        for preset in ["bench-olmoe", "emo-nano"] {
            let config = Config::load(preset, &[]).unwrap();
            let [mixture, dense] =
                dense_twin(&config).unwrap().map(|set| Config::load(preset, &set).unwrap().model_config());
            let active = |model: &crate::model::ModelConfig| {
                crate::model::Layout::new(model).unwrap().active(model) as f64
            };
            // The router is what the dense model does not have.
            let difference = active(&mixture) / active(&dense) - 1.0;
            assert!((0.0..0.05).contains(&difference), "{preset}: {difference}");
            assert!(dense.feed_forward.iter().all(|kind| matches!(kind, FeedForward::Dense(_))));
        }
    }
}

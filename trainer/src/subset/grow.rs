//! More experts for a trained model: copies of its own or fresh ones, with their router rows and AdamW's moments.
//!
//! New routed experts follow the old ones, before the shared ones, so that every old routed expert keeps its index. A copy
//! takes over weights, router row and moments of its origin; a fresh expert starts as at the start of a training, with
//! moments of zero.
//!
//! **What this does to the function.** Under a softmax router without renormalisation, let every routed expert be copied
//! `c - 1` times and let a token use `c` times as many routed experts. All logits appear `c` times, so each probability is
//! a `c`-th of what it was, and the copies of the chosen experts are chosen together: `sum of c * (p / c) E = p E`. The
//! function is the same up to rounding. With as many experts a token as before, it chooses the copies of fewer different
//! experts, at a `c`-th of their weights: the loss rises at first, and training has to part the copies (`jitter` helps).

use std::path::Path;

use serde::Serialize;

use crate::checkpoint::safetensors::{Planned, Reader};
use crate::checkpoint::state::{CONFIG, OPTIMISER, STATE};
use crate::checkpoint::weights::{Part, Weights, Written, expert_name, part, stored};
use crate::checkpoint::{self, safetensors};
use crate::config::Router;
use crate::error::{Error, Result};
use crate::evaluate::text::run_config;
use crate::model::{FeedForward, Init, Layout, MOST_EXPERTS, ModelConfig, Tensor, initial_values};
use crate::replace::{copy_whole, replace_with};
use crate::report::RoutingCounts;

/// Moments by their prefix in the file.
const MOMENTS: [&str; 2] = ["first", "second"];

/// What a layer's new experts are made of.
#[derive(Debug, Clone)]
pub enum Seeds {
    /// Copies of the routed experts in turn, from the first.
    InTurn,
    /// Copies of the most used routed experts by these counts.
    MostUsed(RoutingCounts),
    /// Fresh ones.
    Fresh,
}

/// How to grow.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Experts of every layer with experts afterwards, shared ones included.
    pub experts: usize,
    /// Experts a token uses afterwards, shared ones included; none = as before.
    pub top_k: Option<usize>,
    /// What the new experts are made of.
    pub seeds: Seeds,
    /// Standard deviation of the noise on copies, in root mean squares of each tensor.
    pub jitter: f64,
    /// Key of noise and fresh weights.
    pub seed: u64,
}

/// What was grown.
#[derive(Debug, Clone, Serialize)]
pub struct Grown {
    /// The files.
    #[serde(flatten)]
    pub written: Written,
    /// Whether AdamW's moments came along.
    pub moments: bool,
    /// For each layer with experts the origin of each new expert; null for a fresh one.
    pub origins: Vec<Vec<Option<usize>>>,
}

/// Where the experts of a grown layer come from: old routed ones, then new ones, then the shared ones.
#[derive(Debug, Clone)]
struct Origins {
    old_routed: usize,
    new: Vec<Option<usize>>,
}

/// What a row of a grown tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Same(usize),
    Copy(usize),
    Fresh,
}

impl Origins {
    /// Of expert `expert` of the grown layer, shared ones counted.
    fn of(&self, expert: usize) -> Row {
        let routed = self.old_routed + self.new.len();
        match expert {
            _ if expert < self.old_routed => Row::Same(expert),
            _ if expert < routed => self.new[expert - self.old_routed].map_or(Row::Fresh, Row::Copy),
            _ => Row::Same(expert - self.new.len()),
        }
    }
}

/// Writes the grown model, its moments and its run's configuration to `out`.
///
/// # Errors
/// A model that cannot grow so, in words; damaged files; a full disk.
pub fn grow(from: &Path, out: &Path, settings: &Settings, progress: impl FnMut(u64)) -> Result<Grown> {
    let mut weights = Weights::open(from)?;
    let before = weights.config().clone();
    let after = grown_config(&before, settings)?;
    let origins = origins(&before, settings)?;
    let shapes = checkpoint::weights::tensors(&before, weights.biased())?;
    let shapes: std::collections::BTreeMap<String, Vec<usize>> = shapes.into_iter().collect();
    // Types of tensors that are there: of an expert that is not yet, those of the first.
    let like = |name: &str| match part(name) {
        Part::Expert { layer, matrix, .. } => expert_name(layer, 0, matrix),
        _ => name.to_owned(),
    };
    let write = |old: &mut Weights, planned: &Planned| -> checkpoint::Result<Vec<u8>> {
        let name = &planned.name;
        match part(name) {
            Part::Expert { layer, expert, matrix } => match origins[layer].of(expert) {
                Row::Same(place) => old.bytes(&expert_name(layer, place, matrix)),
                Row::Copy(place) => {
                    let from = expert_name(layer, place, matrix);
                    if settings.jitter == 0.0 {
                        return old.bytes(&from);
                    }
                    let mut values = old.floats(&from, &planned.shape)?;
                    jitter(&mut values, name, settings);
                    stored(&values, planned)
                }
                Row::Fresh => {
                    stored(&fresh(name, planned.elements(), settings.seed, after.init_std), planned)
                }
            },
            Part::Router { layer } if shapes.get(name) != Some(&planned.shape) => {
                let shape = shapes.get(name).cloned().unwrap_or_default();
                let rows = old.floats(name, &shape)?;
                let size = rows.len() / shape.first().copied().unwrap_or(1).max(1);
                // A row that new experts start with: random weights, no bias, the taps and corrections of the others.
                let start = |row: usize| match shape.len() {
                    2 if !name.ends_with("smoothing_taps") => {
                        fresh(&format!("{name}.{row}"), size, settings.seed, after.init_std)
                    }
                    _ if name.ends_with("gate.bias") => vec![0.0; size],
                    _ => mean(&rows, size),
                };
                let mut values = Vec::with_capacity(planned.elements());
                for row in 0..planned.shape[0] {
                    let of = |place: usize| rows[place * size..(place + 1) * size].to_vec();
                    values.extend(match origins[layer].of(row) {
                        Row::Same(place) => of(place),
                        Row::Copy(place) => {
                            let mut values = of(place);
                            jitter(&mut values, &format!("{name}.{row}"), settings);
                            values
                        }
                        Row::Fresh => start(row),
                    });
                }
                stored(&values, planned)
            }
            _ => old.bytes(name),
        }
    };
    let written = weights.write_like(out, Some(&after), like, write, progress)?;
    let moments = from.join(OPTIMISER).exists() && from.join(STATE).exists();
    if moments {
        grow_moments(from, out, (&before, &after), &origins)?;
        let to = out.join(STATE);
        copy_whole(&from.join(STATE), &to).map_err(Error::io("write", &to))?;
    }
    if let Some(mut config) = run_config(from)? {
        grow_router(&mut config.router, settings);
        let path = out.join(CONFIG);
        replace_with(&path, config.to_toml()?.as_bytes()).map_err(Error::io("write", &path))?;
    }
    let layers = before.moe_layers().map(|(layer, _)| origins[layer].new.clone());
    Ok(Grown { written, moments, origins: layers.collect() })
}

/// The run's router afterwards: pools that could be all experts still can, and none is smaller than what a token uses.
fn grow_router(router: &mut Router, settings: &Settings) {
    if router.pool_max >= router.experts.saturating_sub(router.shared) {
        router.pool_max = settings.experts;
    }
    router.experts = settings.experts;
    router.top_k = settings.top_k.unwrap_or(router.top_k);
    let used = router.top_k.saturating_sub(router.shared);
    (router.pool_min, router.pool_max) = (router.pool_min.max(used), router.pool_max.max(used));
}

/// The model afterwards.
fn grown_config(before: &ModelConfig, settings: &Settings) -> Result<ModelConfig> {
    let refuse = |message: String| Err(Error::Usage(format!("the model cannot grow so: {message}")));
    if before.moe_layers().next().is_none() {
        return refuse("it has no experts".into());
    }
    if !(settings.jitter.is_finite() && settings.jitter >= 0.0) {
        return refuse(format!("--jitter must be zero or more, found {}", settings.jitter));
    }
    if settings.experts > MOST_EXPERTS {
        return refuse(format!("--experts asks for {}; {MOST_EXPERTS} are the most", settings.experts));
    }
    let mut after = before.clone();
    for (layer, kind) in after.feed_forward.iter_mut().enumerate() {
        let FeedForward::Moe(moe) = kind else { continue };
        if settings.experts <= moe.experts {
            return refuse(format!(
                "layer {layer} has {} experts already, --experts asks for {}",
                moe.experts, settings.experts
            ));
        }
        if moe.forced > 0 {
            return refuse(format!(
                "the last {} routed experts of layer {layer} are in every pool, and they would be others; set \
                 `router.pool_forced = 0` first",
                moe.forced
            ));
        }
        moe.experts = settings.experts;
        moe.top_k = settings.top_k.unwrap_or(moe.top_k);
        // Experts of its own have no index in the model it was cut out of.
        moe.kept = None;
        if moe.top_k <= moe.shared || moe.top_k > moe.experts {
            return refuse(format!(
                "--top-k {} must be above the {} shared experts and at most the {} experts of layer {layer}",
                moe.top_k, moe.shared, moe.experts
            ));
        }
    }
    Ok(after)
}

/// Where each layer's experts come from, by the layer's number; dense layers have none.
fn origins(config: &ModelConfig, settings: &Settings) -> Result<Vec<Origins>> {
    let empty = Origins { old_routed: 0, new: Vec::new() };
    let mut all = vec![empty; config.layers()];
    for (ordinal, (layer, moe)) in config.moe_layers().enumerate() {
        let (routed, count) = (moe.routed(), settings.experts - moe.experts);
        let order: Vec<Option<usize>> = match &settings.seeds {
            Seeds::InTurn => (0..routed).map(Some).collect(),
            Seeds::Fresh => vec![None],
            Seeds::MostUsed(usage) => {
                let counts = usage.layers.get(ordinal).filter(|counts| counts.layer == layer);
                let Some(counts) = counts.filter(|counts| counts.experts() == routed) else {
                    return Err(Error::Usage(format!(
                        "the counts say nothing about the {routed} routed experts of layer {layer}: they are of another \
                         model"
                    )));
                };
                let used = |expert: usize| -> u64 {
                    (0..usage.domains.len()).map(|domain| counts.count(domain, expert)).sum()
                };
                let mut order: Vec<usize> = (0..routed).collect();
                // A stable sort: of equally used ones the lower index comes first.
                order.sort_by_key(|&expert| std::cmp::Reverse(used(expert)));
                order.into_iter().map(Some).collect()
            }
        };
        let new = order.into_iter().cycle().take(count).collect();
        all[layer] = Origins { old_routed: routed, new };
    }
    Ok(all)
}

/// AdamW's moments in the shapes of the grown model.
fn grow_moments(
    from: &Path,
    out: &Path,
    (before, after): (&ModelConfig, &ModelConfig),
    origins: &[Origins],
) -> Result<()> {
    let (old, new) = (Layout::new(before)?, Layout::new(after)?);
    let mut file = Reader::open(&from.join(OPTIMISER))?;
    let pairs: Vec<(&Tensor, &Tensor)> = old.tensors.iter().zip(&new.tensors).collect();
    let planned: Vec<Planned> = MOMENTS
        .iter()
        .flat_map(|prefix| {
            pairs
                .iter()
                .map(move |(_, new)| Planned::f32(format!("{prefix}.{}", new.name), new.shape.clone()))
        })
        .collect();
    safetensors::write(&out.join(OPTIMISER), &planned, |index| {
        let (old, new) = pairs[index % pairs.len()];
        let values = file.floats(&planned[index].name, &old.shape)?;
        let layer = new.name.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
        let layer = layer.and_then(|(layer, _)| layer.parse::<usize>().ok());
        let (Some(layer), true) = (layer, old.shape != new.shape) else { return Ok(values) };
        let size = values.len() / old.shape[0];
        let mut grown = vec![0.0; new.range.len()];
        for (row, grown) in grown.chunks_exact_mut(size).enumerate() {
            if let Row::Same(place) | Row::Copy(place) = origins[layer].of(row) {
                grown.copy_from_slice(&values[place * size..(place + 1) * size]);
            }
        }
        Ok(grown)
    })?;
    Ok(())
}

/// Start values, normal with deviation `std`, keyed by name.
fn fresh(name: &str, elements: usize, seed: u64, std: f64) -> Vec<f64> {
    let tensor = Tensor {
        name: name.to_owned(),
        shape: vec![elements],
        range: 0..elements,
        decay: true,
        init: Init::Normal,
    };
    let mut values = vec![0.0; elements];
    initial_values(&tensor, seed, std, &mut values);
    values
}

/// Adds noise relative to the values' root mean square.
fn jitter(values: &mut [f64], name: &str, settings: &Settings) {
    let square = values.iter().map(|value| value * value).sum::<f64>() / values.len().max(1) as f64;
    let std = settings.jitter * square.sqrt();
    if std > 0.0 {
        let noise = fresh(&format!("{name} jitter"), values.len(), settings.seed, std);
        values.iter_mut().zip(noise).for_each(|(value, noise)| *value += noise);
    }
}

/// The mean row.
fn mean(rows: &[f64], size: usize) -> Vec<f64> {
    let count = (rows.len() / size.max(1)).max(1) as f64;
    (0..size).map(|column| rows.iter().skip(column).step_by(size.max(1)).sum::<f64>() / count).collect()
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::report::LayerRouting;

    fn config() -> ModelConfig {
        crate::config::Config::load("tiny", &[]).unwrap().model_config()
    }

    fn settings(experts: usize, seeds: Seeds) -> Settings {
        Settings { experts, top_k: None, seeds, jitter: 0.0, seed: 0 }
    }

    #[test]
    fn new_experts_stand_between_the_old_and_the_shared_ones() {
        // Tiny: 7 routed experts and a shared one.
        let origins = origins(&config(), &settings(17, Seeds::InTurn)).unwrap();
        let rows: Vec<Row> = (0..17).map(|expert| origins[1].of(expert)).collect();
        assert_eq!(rows[..7], [0, 1, 2, 3, 4, 5, 6].map(Row::Same));
        assert_eq!(rows[7..16], [0, 1, 2, 3, 4, 5, 6, 0, 1].map(Row::Copy));
        assert_eq!(rows[16], Row::Same(7));
        let origins = super::origins(&config(), &settings(9, Seeds::Fresh)).unwrap();
        assert_eq!((origins[0].of(7), origins[0].of(8)), (Row::Fresh, Row::Same(7)));
    }

    #[test]
    fn the_most_used_come_first_and_ties_go_to_the_lower_index() {
        let layer = |layer| LayerRouting {
            layer,
            counts: vec![vec![1, 5, 0, 2, 9, 0, 0], vec![1, 0, 0, 2, 0, 6, 0]],
        };
        let mut usage =
            RoutingCounts { domains: vec!["a".into(), "b".into()], layers: vec![layer(0), layer(1)] };
        let grown = origins(&config(), &settings(11, Seeds::MostUsed(usage.clone()))).unwrap();
        assert_eq!(grown[0].new, [4, 5, 1].map(Some));
        usage.layers.pop();
        let error = origins(&config(), &settings(11, Seeds::MostUsed(usage))).unwrap_err();
        assert!(error.to_string().contains("layer 1"), "{error}");
    }

    #[test]
    fn impossible_sizes_are_refused_in_words() {
        let said = |experts, top_k| {
            let settings = Settings { top_k, ..settings(experts, Seeds::InTurn) };
            grown_config(&config(), &settings).unwrap_err().to_string()
        };
        assert!(said(8, None).contains("has 8 experts already"));
        assert!(said(9, Some(10)).contains("--top-k 10"));
        assert!(said(9, Some(1)).contains("shared"));
    }

    #[test]
    fn noise_is_relative_and_keyed() {
        let jittered = |name: &str| {
            let settings = Settings { jitter: 0.1, ..settings(9, Seeds::InTurn) };
            let mut values = vec![2.0; 10_000];
            jitter(&mut values, name, &settings);
            values
        };
        let values = jittered("a");
        let deviation = values.iter().map(|v| (v - 2.0) * (v - 2.0)).sum::<f64>() / values.len() as f64;
        assert!((deviation.sqrt() - 0.2).abs() < 0.01, "{deviation}");
        assert_eq!(values, jittered("a"));
        assert_ne!(values, jittered("b"));
    }
}

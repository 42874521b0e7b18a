//! The tensors of a checkpoint under one set of names, whatever family wrote it: what merging and growing work on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::safetensors::Dtype;
use serde_json::Value;

use super::hf::{CONFIG, Source, selection_biases};
use super::safetensors::Planned;
use super::transfer::convert;
use super::{Family, Result, files, hf, hf_config, hf_names, safetensors};
use crate::model::{Layout, ModelConfig};

pub use super::files::Written;

/// Bytes of a file of weights, as transformers cuts them.
const SHARD_BYTES: u64 = 5_000_000_000;

/// A tensor by what it is for. `layer` counts dense layers too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// A matrix of one expert, shared ones last.
    Expert {
        /// Layer.
        layer: usize,
        /// Expert.
        expert: usize,
        /// Which matrix.
        matrix: &'a str,
    },
    /// A tensor of a layer's router; its first axis is over experts, but for taps that all share.
    Router {
        /// Layer.
        layer: usize,
    },
    /// Anything else.
    Dense,
}

/// What the tensor of this name is for, in EMO's names.
pub(crate) fn part(name: &str) -> Part<'_> {
    let of_layer = |name: &'_ str| -> Option<(usize, usize)> {
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once(".mlp.")?;
        Some((layer.parse().ok()?, name.len() - rest.len()))
    };
    let Some((layer, start)) = of_layer(name) else { return Part::Dense };
    let rest = &name[start..];
    if rest.starts_with("gate.") {
        return Part::Router { layer };
    }
    let expert = rest.strip_prefix("experts.").and_then(|rest| rest.split_once('.'));
    match expert.and_then(|(expert, matrix)| Some((expert.parse().ok()?, matrix))) {
        Some((expert, matrix)) => Part::Expert { layer, expert, matrix },
        None => Part::Dense,
    }
}

/// The name of a matrix of an expert, in EMO's names.
pub(crate) fn expert_name(layer: usize, expert: usize, matrix: &str) -> String {
    format!("model.layers.{layer}.mlp.experts.{expert}.{matrix}")
}

/// Every tensor of a model in EMO's names, with its shape; score-correction biases where `biased`.
pub(crate) fn tensors(config: &ModelConfig, biased: bool) -> Result<Vec<(String, Vec<usize>)>> {
    let layout = Layout::new(config)?;
    let named = hf_names::tensors(config, &layout, Family::Emo).into_iter();
    let mut tensors: Vec<_> = named.map(|tensor| (tensor.name, tensor.shape)).collect();
    if biased {
        let biases = selection_biases(config).into_iter();
        tensors.extend(biases.map(|(name, experts)| (name, vec![experts])));
    }
    Ok(tensors)
}

/// An open checkpoint.
pub(crate) struct Weights {
    folder: PathBuf,
    config: ModelConfig,
    source: Source,
    /// From EMO's names to those in the files.
    names: BTreeMap<String, String>,
    biased: bool,
}

impl Weights {
    /// Opens the checkpoint in `folder` and checks that every tensor is there in its shape.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let (config, family) = hf::read_config(folder)?;
        let layout = Layout::new(&config)?;
        let here = hf_names::tensors(&config, &layout, family);
        let source = Source::open(folder)?;
        source.check(&config, &here)?;
        // Families cut the parameters into the same pieces, in the same order.
        let ours = hf_names::tensors(&config, &layout, Family::Emo);
        let mut names: BTreeMap<String, String> =
            ours.into_iter().zip(here).map(|(ours, here)| (ours.name, here.name)).collect();
        let biases: Vec<String> = selection_biases(&config)
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| source.contains(name))
            .collect();
        let biased = !biases.is_empty();
        names.extend(biases.into_iter().map(|name| (name.clone(), name)));
        Ok(Self { folder: folder.to_path_buf(), config, source, names, biased })
    }

    /// The model.
    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether routers have score-correction biases.
    pub(crate) fn biased(&self) -> bool {
        self.biased
    }

    /// Whether there is such a tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Type of a tensor.
    pub(crate) fn dtype(&self, name: &str) -> Result<Dtype> {
        self.source.dtype(self.here(name)?)
    }

    /// Little-endian elements of a tensor, of its type.
    pub(crate) fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let here = self.here(name)?.to_owned();
        Ok(self.source.tensor(&here, None)?.1)
    }

    /// Elements of a tensor, exact.
    pub(crate) fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let here = self.here(name)?.to_owned();
        self.source.floats(&here, shape)
    }

    /// Writes a model to `to` beside what travels with this one: `config`, or this one's own `config.json`, in EMO's names
    /// and the types of this checkpoint's `like(name)`.
    pub(crate) fn write_like(
        &mut self,
        to: &Path,
        config: Option<&ModelConfig>,
        like: impl Fn(&str) -> String,
        mut bytes: impl FnMut(&mut Self, &Planned) -> Result<Vec<u8>>,
        progress: impl FnMut(u64),
    ) -> Result<Written> {
        let json = match config {
            Some(config) => hf_config::write(config)?,
            None => self.own_config()?,
        };
        let tensors = tensors(config.unwrap_or(&self.config), self.biased)?;
        let plan = |(name, shape): (String, Vec<usize>)| {
            let dtype = self.dtype(&like(&name))?;
            Ok(Planned { name, shape, dtype })
        };
        let planned = tensors.into_iter().map(plan).collect::<Result<Vec<_>>>()?;
        let from = self.folder.clone();
        files::write((&from, to), json, &planned, SHARD_BYTES, |index| bytes(self, &planned[index]), progress)
    }

    /// This checkpoint's `config.json`, in the words of EMO.
    fn own_config(&self) -> Result<Value> {
        match hf::read_config(&self.folder)?.1 {
            Family::Emo => hf::read_json(&self.folder.join(CONFIG)),
            _ => hf_config::write(&self.config),
        }
    }

    fn here(&self, name: &str) -> Result<&str> {
        self.names.get(name).map(String::as_str).ok_or_else(|| safetensors::missing(name))
    }
}

/// `values` as little-endian elements of `planned`'s type.
pub(crate) fn stored(values: &[f64], planned: &Planned) -> Result<Vec<u8>> {
    if planned.dtype == Dtype::F64 {
        return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }
    let single = values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect();
    convert((Dtype::F32, single), planned.dtype, &planned.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_the_tensor_is_for() {
        let expert = Part::Expert { layer: 12, expert: 3, matrix: "down_proj.weight" };
        assert_eq!(part("model.layers.12.mlp.experts.3.down_proj.weight"), expert);
        assert_eq!(expert_name(12, 3, "down_proj.weight"), "model.layers.12.mlp.experts.3.down_proj.weight");
        for router in ["gate.weight", "gate.bias", "gate.smoothing_taps", "gate.e_score_correction_bias"] {
            assert_eq!(part(&format!("model.layers.0.mlp.{router}")), Part::Router { layer: 0 });
        }
        for dense in ["model.layers.1.mlp.gate_proj.weight", "model.embed_tokens.weight", "model.norm.weight"]
        {
            assert_eq!(part(dense), Part::Dense);
        }
    }
}

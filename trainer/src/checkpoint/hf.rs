//! Models in the Hugging Face layout: a folder with `config.json` and safetensors files.
//!
//! Read: `emo`, `olmoe`, `flex_olmo`, `mixtral`, `qwen3_moe`, one file or shards with an index, f32 or bf16.
//! Written: `emo`, one f32 file, names of emo.md 8.2.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::safetensors::Dtype;
use emo::backend::Backend;
use serde_json::Value;

use super::safetensors::{Planned, Reader};
use super::{Error, Family, HfTensor, Result, hf_config, hf_names, kept, safetensors};
use crate::model::{Capacity, Layout, Model, ModelConfig};
use crate::replace::replace_with;
use crate::small;

pub(super) const CONFIG: &str = "config.json";
pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// The configuration of a checkpoint folder.
///
/// # Errors
/// No such file, not JSON, or a setting that this program cannot run, by key.
pub fn read_config(folder: &Path) -> Result<(ModelConfig, Family)> {
    hf_config::read(&read_json(&folder.join(CONFIG))?)
}

/// The configuration of the text of a `config.json`.
pub fn parse_config(text: &str) -> Result<(ModelConfig, Family)> {
    let json = serde_json::from_str(text).map_err(|error| Error::format(Path::new(CONFIG), error))?;
    hf_config::read(&json)
}

/// The `config.json` of a model, as [`save`] writes it.
pub fn config_json(config: &ModelConfig) -> Result<Value> {
    hf_config::write(config)
}

/// Every trained tensor of a checkpoint of this family and its place in the arena.
pub fn tensors(config: &ModelConfig, layout: &Layout, family: Family) -> Vec<HfTensor> {
    hf_names::tensors(config, layout, family)
}

pub(super) fn read_json(path: &Path) -> Result<Value> {
    let text = small::bytes(path).map_err(Error::io(path))?;
    serde_json::from_slice(&text).map_err(|error| Error::format(path, format!("not JSON: {error}")))
}

/// A checkpoint as a model.
///
/// # Errors
/// Anything wrong with the configuration, and tensors that are missing, superfluous or of another shape, by name.
pub fn load<B: Backend>(folder: &Path, backend: Arc<B>, capacity: Capacity) -> Result<Model<B>> {
    let (config, family) = read_config(folder)?;
    load_as(folder, config, family, backend, capacity)
}

/// [`load`] under a configuration of the caller's: the same tensors, another rule (for example the weight of shared
/// experts, or experts forced into every pool).
pub fn load_as<B: Backend>(
    folder: &Path,
    config: ModelConfig,
    family: Family,
    backend: Arc<B>,
    capacity: Capacity,
) -> Result<Model<B>> {
    load_slices(folder, &config, family, None, backend, capacity)
}

/// The model that keeps only these routed experts (ascending, a list for each layer with experts) of the one in a folder.
/// What belongs to the other experts is not read.
///
/// # Errors
/// Those of [`load`], and experts that the model cannot keep; see [`ModelConfig::keep`].
pub fn load_kept<B: Backend>(
    folder: &Path,
    kept: &[Vec<u32>],
    backend: Arc<B>,
    capacity: Capacity,
) -> Result<Model<B>> {
    let (config, family) = read_config(folder)?;
    load_slices(folder, &config, family, Some(kept), backend, capacity)
}

fn load_slices<B: Backend>(
    folder: &Path,
    config: &ModelConfig,
    family: Family,
    kept: Option<&[Vec<u32>]>,
    backend: Arc<B>,
    capacity: Capacity,
) -> Result<Model<B>> {
    // Names and shapes are checked before memory is taken.
    let mut source = Source::open(folder)?;
    source.check(config, &hf_names::tensors(config, &Layout::new(config)?, family))?;
    let (small, slices) = kept::slices(config, family, kept)?;
    let mut model = Model::new(backend, small, capacity)?;
    for kept::Slice { from, shape, rows, tensor } in &slices {
        let values = source.file(from)?.floats_of(from, shape, rows.as_deref())?;
        model.set_parameters(tensor.range.start, &values)?;
    }
    for (ordinal, (name, experts)) in selection_biases(config).into_iter().enumerate() {
        if source.contains(&name) {
            let rows = kept.map(|kept| &kept[ordinal][..]);
            let values = source.file(&name)?.floats_of(&name, &[experts], rows)?;
            model.set_selection_bias(ordinal, &values)?;
        }
    }
    Ok(model)
}

/// Name and size of the score-correction bias of each layer with experts.
pub(super) fn selection_biases(config: &ModelConfig) -> Vec<(String, usize)> {
    config.moe_layers().map(|(layer, moe)| (hf_names::selection_bias(layer), moe.routed())).collect()
}

/// Writes `config.json` and `model.safetensors`, each whole or not at all, and returns their paths.
pub fn save<B: Backend>(folder: &Path, model: &Model<B>) -> Result<Vec<PathBuf>> {
    // Not its parents: a run whose folder is gone must not go on in another one of the same name.
    if !folder.exists() {
        std::fs::create_dir(folder).map_err(Error::io(folder))?;
    }
    let mut parts: Vec<(Planned, Part)> = tensors(model.config(), model.layout(), Family::Emo)
        .into_iter()
        .map(|tensor| (Planned::f32(tensor.name, tensor.shape), Part::Parameter(tensor.range)))
        .collect();
    for (ordinal, (name, experts)) in selection_biases(model.config()).into_iter().enumerate() {
        if model.selection_bias(ordinal)?.is_some() {
            parts.push((Planned::f32(name, vec![experts]), Part::SelectionBias(ordinal)));
        }
    }
    let (planned, parts): (Vec<Planned>, Vec<Part>) = parts.into_iter().unzip();
    let weights = folder.join(SINGLE);
    safetensors::write(&weights, &planned, |index| {
        Ok(match &parts[index] {
            Part::Parameter(range) => model.get_parameters(range.clone())?,
            Part::SelectionBias(ordinal) => model.selection_bias(*ordinal)?.unwrap_or_default(),
        })
    })?;
    let path = folder.join(CONFIG);
    let config = format!("{:#}\n", config_json(model.config())?);
    replace_with(&path, config.as_bytes()).map_err(Error::io(&path))?;
    Ok(vec![path, weights])
}

enum Part {
    Parameter(std::ops::Range<usize>),
    SelectionBias(usize),
}

/// The files of a checkpoint and which of them has which tensor.
pub(super) struct Source {
    files: Vec<Reader>,
    file_of: BTreeMap<String, usize>,
}

impl Source {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let index = folder.join(INDEX);
        if !index.exists() {
            let file = Reader::open(&folder.join(SINGLE))?;
            let file_of = file.tensors().keys().map(|name| (name.clone(), 0)).collect();
            return Ok(Self { files: vec![file], file_of });
        }
        let json = read_json(&index)?;
        let map = json
            .get("weight_map")
            .and_then(Value::as_object)
            .ok_or_else(|| Error::format(&index, "`weight_map` must be an object"))?;
        let mut names: Vec<(String, String)> = Vec::with_capacity(map.len());
        for (tensor, file) in map {
            let file = file.as_str().filter(|file| !file.contains(['/', '\\']));
            let file = file.ok_or_else(|| {
                Error::format(&index, format!("`{tensor}` must name a file of the same folder"))
            })?;
            names.push((tensor.clone(), file.to_owned()));
        }
        let unique: Vec<&str> =
            names.iter().map(|(_, file)| file.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
        let files = unique.iter().map(|file| Reader::open(&folder.join(file))).collect::<Result<Vec<_>>>()?;
        let mut file_of = BTreeMap::new();
        for (tensor, file) in &names {
            let position = unique.partition_point(|name| *name < file.as_str());
            if !files[position].tensors().contains_key(tensor) {
                return Err(Error::format(&index, format!("`{tensor}` is not in {file}")));
            }
            file_of.insert(tensor.clone(), position);
        }
        Ok(Self { files, file_of })
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.file_of.contains_key(name)
    }

    /// Every tensor is there with its shape, and none that the model has no place for.
    pub(super) fn check(&self, config: &ModelConfig, tensors: &[HfTensor]) -> Result<()> {
        for tensor in tensors {
            let found =
                self.file_of.get(&tensor.name).and_then(|&f| self.files[f].tensors().get(&tensor.name));
            if found.is_none_or(|found| found.shape != tensor.shape) {
                return Err(Error::Tensor {
                    name: tensor.name.clone(),
                    expected: format!("shape {:?}", tensor.shape),
                    found: found.map_or("nothing".into(), |found| format!("shape {:?}", found.shape)),
                });
            }
        }
        let known: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let biases: BTreeSet<String> = selection_biases(config).into_iter().map(|(name, _)| name).collect();
        let spare = |name: &str| {
            // A tied head repeats the embedding; rotary tables follow from the configuration.
            known.contains(name)
                || biases.contains(name)
                || (config.tied_embeddings && name == "lm_head.weight")
                || name.ends_with("rotary_emb.inv_freq")
        };
        match self.file_of.keys().find(|name| !spare(name)) {
            None => Ok(()),
            Some(name) => Err(Error::Tensor {
                name: name.clone(),
                expected: "no such tensor for this configuration".into(),
                found: "one".into(),
            }),
        }
    }

    /// Elements of a tensor of this shape, exact.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        self.file(name)?.floats(name, shape)
    }

    /// Type and bytes of a tensor, or of some of its rows.
    pub(super) fn tensor(&mut self, name: &str, rows: Option<&[u32]>) -> Result<(Dtype, Vec<u8>)> {
        let dtype = self.dtype(name)?;
        let file = self.file(name)?;
        let bytes = match rows {
            Some(rows) => file.rows(name, rows)?,
            None => file.bytes(name)?,
        };
        Ok((dtype, bytes))
    }

    /// Type of a tensor.
    pub(super) fn dtype(&self, name: &str) -> Result<Dtype> {
        let info = self.file_of.get(name).and_then(|&file| self.files[file].tensors().get(name));
        info.map(|info| info.dtype).ok_or_else(|| safetensors::missing(name))
    }

    fn file(&mut self, name: &str) -> Result<&mut Reader> {
        let file = self.file_of.get(name).ok_or_else(|| safetensors::missing(name))?;
        Ok(&mut self.files[*file])
    }
}

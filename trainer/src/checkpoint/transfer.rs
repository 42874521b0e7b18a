//! From one checkpoint folder to another, tensor by tensor: between families, types and numbers of files.
//!
//! No model is made, so a checkpoint of any size needs the memory of its largest tensor.

use std::path::Path;

use ::safetensors::Dtype;
use half::bf16;
pub use super::files::Written;
use super::hf::{CONFIG, Source, selection_biases};
use super::safetensors::Planned;
use super::{Error, Family, Result, files, hf_config, hf_export, hf_names};
use crate::model::{Layout, ModelConfig};

/// How the copy is to look.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The family whose names it uses.
    pub family: Family,
    /// The type of its tensors; none = each as it is.
    pub dtype: Option<Dtype>,
    /// Bytes of a file, at least one tensor each.
    pub shard_bytes: u64,
}

/// One tensor of the copy.
struct Item {
    /// Its name in the source.
    from: String,
    planned: Planned,
}

/// Copies the model in `from` to the folder `to`. `progress` is told the bytes written.
///
/// # Errors
/// Anything wrong with the source, by key or tensor; a setting that the family cannot express; a full disk. What is at
/// `to` then is not whole: `config.json` comes last.
pub fn transfer(
    from: &Path,
    to: &Path,
    settings: &Settings,
    progress: impl FnMut(u64),
) -> Result<Written> {
    let (config, family) = hf_config::read(&super::hf::read_json(&from.join(CONFIG))?)?;
    let layout = Layout::new(&config)?;
    let tensors = hf_names::tensors(&config, &layout, family);
    let mut source = Source::open(from)?;
    source.check(&config, &tensors)?;
    let json = hf_export::config_json(&config, settings.family)?;
    let items = plan(&source, &config, &layout, settings, &tensors)?;
    let planned: Vec<Planned> = items.iter().map(|item| item.planned.clone()).collect();
    let bytes = |index: usize| {
        let item: &Item = &items[index];
        convert(source.tensor(&item.from)?, item.planned.dtype, &item.from)
    };
    files::write((from, to), json, &planned, settings.shard_bytes, bytes, progress)
}

/// Every tensor of the copy. Families cut the parameters into the same pieces and call them differently, so a piece is
/// found by its place in the arena.
fn plan(
    source: &Source,
    config: &ModelConfig,
    layout: &Layout,
    settings: &Settings,
    tensors: &[super::HfTensor],
) -> Result<Vec<Item>> {
    let mut items = Vec::with_capacity(tensors.len());
    let mut add = |from: &str, name: String, shape: Vec<usize>| -> Result<()> {
        let dtype = settings.dtype.unwrap_or(source.dtype(from)?);
        items.push(Item { from: from.to_owned(), planned: Planned { name, shape, dtype } });
        Ok(())
    };
    let renamed = hf_names::tensors(config, layout, settings.family);
    for (from, target) in tensors.iter().zip(renamed) {
        if from.range != target.range {
            return Err(Error::Tensor {
                name: target.name,
                expected: format!("the elements {:?}", target.range),
                found: format!("{:?} of {}", from.range, from.name),
            });
        }
        add(&from.name, target.name, target.shape)?;
    }
    for (name, experts) in selection_biases(config) {
        if source.contains(&name) {
            add(&name, name.clone(), vec![experts])?;
        }
    }
    Ok(items)
}

/// The bytes of a tensor in another type: bf16 rounds to the nearest, ties to even.
pub(super) fn convert((dtype, bytes): (Dtype, Vec<u8>), to: Dtype, name: &str) -> Result<Vec<u8>> {
    Ok(match (dtype, to) {
        (from, to) if from == to => bytes,
        (Dtype::BF16, Dtype::F32) => {
            bytes.as_chunks().0.iter().flat_map(|&b| bf16::from_le_bytes(b).to_f32().to_le_bytes()).collect()
        }
        (Dtype::F32, Dtype::BF16) => bytes
            .as_chunks()
            .0
            .iter()
            .flat_map(|&b| bf16::from_f32(f32::from_le_bytes(b)).to_le_bytes())
            .collect(),
        (from, to) => {
            return Err(Error::Tensor {
                name: name.to_owned(),
                expected: format!("F32 or BF16, to write {to}"),
                found: from.to_string(),
            });
        }
    })
}

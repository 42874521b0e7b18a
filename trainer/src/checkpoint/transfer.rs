//! From one checkpoint folder to another, tensor by tensor: between families, types and numbers of files.
//!
//! No model is made, so a checkpoint of any size needs the memory of its largest tensor.

use std::path::Path;

use ::safetensors::Dtype;
use half::bf16;

pub use super::files::Written;
use super::hf::{CONFIG, Source, selection_biases};
use super::safetensors::Planned;
use super::{Error, Family, Result, files, hf_config, hf_export, hf_names, kept};
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
    /// The routed experts that the copy keeps, ascending, a list for each layer with experts; none = all.
    pub keep: Option<Vec<Vec<u32>>>,
}

/// One tensor of the copy.
struct Item {
    /// Its name in the source.
    from: String,
    /// Its rows there, where not all of them.
    rows: Option<Vec<u32>>,
    planned: Planned,
}

/// Copies the model in `from` to the folder `to`. `progress` is told the bytes written.
///
/// # Errors
/// Anything wrong with the source, by key or tensor; a setting that the family cannot express; a full disk. What is at
/// `to` then is not whole: `config.json` comes last.
pub fn transfer(from: &Path, to: &Path, settings: &Settings, progress: impl FnMut(u64)) -> Result<Written> {
    let (config, family) = hf_config::read(&super::hf::read_json(&from.join(CONFIG))?)?;
    let layout = Layout::new(&config)?;
    let tensors = hf_names::tensors(&config, &layout, family);
    let mut source = Source::open(from)?;
    source.check(&config, &tensors)?;
    let (small, slices) = kept::slices(&config, family, settings.keep.as_deref())?;
    let json = hf_export::config_json(&small, settings.family)?;
    let items = plan(&source, &config, &small, settings, slices)?;
    let planned: Vec<Planned> = items.iter().map(|item| item.planned.clone()).collect();
    let bytes = |index: usize| {
        let item: &Item = &items[index];
        convert(source.tensor(&item.from, item.rows.as_deref())?, item.planned.dtype, &item.from)
    };
    files::write((from, to), json, &planned, settings.shard_bytes, bytes, progress)
}

/// Every tensor of the copy. Families cut the parameters into the same pieces and call them differently, so a piece is
/// found by its place in the arena.
fn plan(
    source: &Source,
    config: &ModelConfig,
    small: &ModelConfig,
    settings: &Settings,
    slices: Vec<kept::Slice>,
) -> Result<Vec<Item>> {
    let mut items = Vec::with_capacity(slices.len());
    let mut add = |from: String, rows: Option<Vec<u32>>, name: String, shape: Vec<usize>| -> Result<()> {
        let dtype = settings.dtype.unwrap_or(source.dtype(&from)?);
        items.push(Item { from, rows, planned: Planned { name, shape, dtype } });
        Ok(())
    };
    let renamed = hf_names::tensors(small, &Layout::new(small)?, settings.family);
    for (slice, target) in slices.into_iter().zip(renamed) {
        if slice.tensor.range != target.range {
            return Err(Error::Tensor {
                name: target.name,
                expected: format!("the elements {:?}", target.range),
                found: format!("{:?} of {}", slice.tensor.range, slice.from),
            });
        }
        add(slice.from, slice.rows, target.name, target.shape)?;
    }
    for (ordinal, (name, experts)) in selection_biases(config).into_iter().enumerate() {
        if source.contains(&name) {
            let rows = settings.keep.as_ref().map(|keep| keep[ordinal].clone());
            let shape = vec![rows.as_ref().map_or(experts, Vec::len)];
            add(name.clone(), rows, name, shape)?;
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

//! The files of a model, written tensor by tensor: weights in one file or several, what travels with them, `config.json`
//! last.

use std::path::{Path, PathBuf};

use ::safetensors::Dtype;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::hf::{CONFIG, INDEX, SINGLE};
use super::safetensors::{self, Planned};
use super::{Error, Result};
use crate::replace::replace_with;
use crate::small;

/// Files that travel with a model, where they are there.
pub(crate) const COMPANIONS: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"];

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Written {
    /// Tensors.
    pub tensors: usize,
    /// Parameters.
    pub parameters: u64,
    /// Bytes of all tensors; the commands put the size of the weights' files here.
    pub bytes: u64,
    /// Files, the configuration first.
    pub files: Vec<PathBuf>,
}

/// Writes a model to the folder `to`: `bytes(i)` gives the little-endian elements of `planned[i]`, files hold at most
/// `shard_bytes` or one tensor each, and what travels with a model is copied from `from`. `progress` is told the bytes
/// written.
///
/// # Errors
/// Those of `bytes`, and a full disk. What is at `to` then is not whole: `config.json` comes last.
pub fn write(
    (from, to): (&Path, &Path),
    mut config: Value,
    planned: &[Planned],
    shard_bytes: u64,
    mut bytes: impl FnMut(usize) -> Result<Vec<u8>>,
    mut progress: impl FnMut(u64),
) -> Result<Written> {
    std::fs::create_dir_all(to).map_err(Error::io(to))?;
    let files = cut(planned, shard_bytes);
    let name = |file: usize| match files.len() {
        1 => SINGLE.to_owned(),
        count => format!("model-{:05}-of-{count:05}.safetensors", file + 1),
    };
    let (mut done, mut written) = (0, vec![to.join(CONFIG)]);
    for (file, range) in files.iter().enumerate() {
        let path = to.join(name(file));
        safetensors::write_bytes(&path, &planned[range.clone()], |index| {
            let bytes = bytes(range.start + index)?;
            done += bytes.len() as u64;
            progress(done);
            Ok(bytes)
        })?;
        written.push(path);
    }
    if files.len() > 1 {
        let mut map = Map::new();
        for (file, range) in files.iter().enumerate() {
            map.extend(planned[range.clone()].iter().map(|tensor| (tensor.name.clone(), json!(name(file)))));
        }
        let index = json!({ "metadata": { "total_size": done }, "weight_map": map });
        let path = to.join(INDEX);
        put(&path, &index)?;
        written.push(path);
    }
    for companion in COMPANIONS {
        let path = from.join(companion);
        if path.exists() {
            let bytes = small::bytes(&path).map_err(Error::io(&path))?;
            let path = to.join(companion);
            replace_with(&path, &bytes).map_err(Error::io(&path))?;
            written.push(path);
        }
    }
    config["dtype"] = json!(dtype_word(planned));
    put(&to.join(CONFIG), &config)?;
    Ok(Written {
        tensors: planned.len(),
        parameters: planned.iter().map(|tensor| tensor.elements() as u64).sum(),
        bytes: done,
        files: written,
    })
}

/// The word of transformers for the type that most elements have.
fn dtype_word(planned: &[Planned]) -> &'static str {
    let count = |dtype: Dtype| -> usize {
        planned.iter().filter(|tensor| tensor.dtype == dtype).map(Planned::elements).sum()
    };
    if count(Dtype::BF16) > count(Dtype::F32) { "bfloat16" } else { "float32" }
}

/// Consecutive tensors, one range a file.
fn cut(planned: &[Planned], most: u64) -> Vec<std::ops::Range<usize>> {
    let mut files = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (index, tensor) in planned.iter().enumerate() {
        let bytes = tensor.bytes() as u64;
        if index > start && size + bytes > most {
            files.push(start..index);
            (start, size) = (index, 0);
        }
        size += bytes;
    }
    files.push(start..planned.len());
    files
}

fn put(path: &Path, json: &Value) -> Result<()> {
    replace_with(path, format!("{json:#}\n").as_bytes()).map_err(Error::io(path))
}

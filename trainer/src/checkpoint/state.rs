//! What a run needs beside the weights to go on as if it had never stopped.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde::{Deserialize, Serialize};

use crate::data::StreamPosition;
use crate::error::{Error, Result};

/// File of [`State`].
pub const STATE: &str = "state.json";
/// File of the tensors that belong to training alone.
pub const OPTIMISER: &str = "optimizer.safetensors";
/// File of the run's whole configuration.
pub const CONFIG: &str = "config.toml";

/// Counters. Random numbers are functions of these and the seed, so no generator has a state to save.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimiser steps done.
    pub step: u64,
    /// Tokens read.
    pub tokens: u64,
    /// Where the data goes on.
    pub data: StreamPosition,
}

impl State {
    /// As JSON.
    ///
    /// # Errors
    /// Never in practice: the fields are numbers.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::checkpoint(STATE, error))
    }

    /// From a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the file is no state of this version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(STATE);
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        serde_json::from_str(&text).map_err(|error| Error::checkpoint(&path, error))
    }
}

/// A named tensor of f32 values.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Name.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// Writes tensors to a safetensors file, byte for byte the same for the same values.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written to its end.
pub fn write_tensors(path: &Path, tensors: &[Named]) -> Result<()> {
    let damaged = |error: safetensors::SafeTensorError| match error {
        safetensors::SafeTensorError::IoError(source) => {
            Error::Io { action: "write", path: path.to_path_buf(), source }
        }
        other => Error::checkpoint(path, other),
    };
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|tensor| tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|(tensor, bytes)| Ok((&tensor.name, TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?)))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(damaged)?;
    serialize_to_file(views, None, path).map_err(damaged)
}

/// A safetensors file in memory.
pub struct Tensors {
    path: std::path::PathBuf,
    bytes: Vec<u8>,
}

impl Tensors {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        Ok(Self { path: path.to_path_buf(), bytes })
    }

    /// The values of one tensor, which must have `elements` of them.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the tensor which is missing or of another type or size.
    pub fn values(&self, name: &str, elements: usize) -> Result<Vec<f32>> {
        let file =
            SafeTensors::deserialize(&self.bytes).map_err(|error| Error::checkpoint(&self.path, error))?;
        let tensor = file.tensor(name).map_err(|_| {
            Error::checkpoint(
                &self.path,
                format!("has no tensor `{name}`: it belongs to another configuration"),
            )
        })?;
        let found: usize = tensor.shape().iter().product();
        if tensor.dtype() != Dtype::F32 || found != elements {
            return Err(Error::checkpoint(
                &self.path,
                format!(
                    "`{name}` holds {found} values of type {:?}, expected {elements} of F32",
                    tensor.dtype()
                ),
            ));
        }
        let word = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok(tensor.data().chunks_exact(4).map(word).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_and_strangers_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OPTIMISER);
        let tensor = Named { name: "first.head".into(), shape: vec![2, 1], values: vec![1.5, -0.0] };
        write_tensors(&path, &[tensor]).unwrap();
        let file = Tensors::read(&path).unwrap();
        assert_eq!(file.values("first.head", 2).unwrap(), [1.5, -0.0]);
        assert!(file.values("first.head", 3).unwrap_err().to_string().contains("holds 2 values"));
        assert!(file.values("second.head", 2).unwrap_err().to_string().contains("`second.head`"));
        std::fs::write(&path, b"not safetensors").unwrap();
        assert!(Tensors::read(&path).unwrap().values("first.head", 2).is_err());
    }
}

//! Safetensors files, one tensor at a time: a model is never twice in memory.
//!
//! A file is 8 bytes of header length (little-endian), a JSON header that names type, shape and byte range of each
//! tensor, and the bytes. Source: the format's own description (huggingface/safetensors, README).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, Result};

/// The format's own bound on the header.
const LONGEST_HEADER: u64 = 100_000_000;

/// What the header says about a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorInfo {
    /// For example `F32`.
    pub dtype: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl TensorInfo {
    fn element_size(&self) -> Option<u64> {
        Some(match self.dtype.as_str() {
            "F64" | "I64" | "U64" => 8,
            "F32" | "I32" | "U32" => 4,
            "F16" | "BF16" | "I16" | "U16" => 2,
            "I8" | "U8" | "BOOL" => 1,
            _ => return None,
        })
    }

    fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |size, &n| size.checked_mul(n as u64))
    }

    fn describe(&self) -> String {
        format!("{} {:?}", self.dtype, self.shape)
    }
}

/// An open file whose header has been checked against its length.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    data: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Reader {
    /// Opens a file and checks its header: byte ranges inside the file and in agreement with the shapes.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io(path))?;
        let size = file.metadata().map_err(Error::io(path))?.len();
        let mut length = [0u8; 8];
        file.read_exact(&mut length)
            .map_err(|_| Error::format(path, "not a safetensors file: shorter than 8 bytes"))?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER || length > size.saturating_sub(8) {
            let message = format!("truncated or not a safetensors file: header of {length} in {size} bytes");
            return Err(Error::format(path, message));
        }
        let mut header = vec![0u8; length as usize];
        file.read_exact(&mut header).map_err(Error::io(path))?;
        let header: BTreeMap<String, Value> = serde_json::from_slice(&header)
            .map_err(|error| Error::format(path, format!("not a safetensors file: {error}")))?;
        let data = 8 + length;
        let mut tensors = BTreeMap::new();
        for (name, value) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
            let info: TensorInfo = serde_json::from_value(value)
                .map_err(|error| Error::format(path, format!("header of `{name}`: {error}")))?;
            check(path, &name, &info, size - data)?;
            tensors.insert(name, info);
        }
        Ok(Self { path: path.to_owned(), file, data, tensors })
    }

    /// Names and descriptions, by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The bytes of a tensor.
    pub fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let info = self.tensors.get(name).ok_or_else(|| missing(name))?;
        let [start, end] = info.data_offsets;
        let mut bytes = vec![0u8; (end - start) as usize];
        self.file.seek(SeekFrom::Start(self.data + start)).map_err(Error::io(&self.path))?;
        self.file.read_exact(&mut bytes).map_err(Error::io(&self.path))?;
        Ok(bytes)
    }

    /// A floating-point tensor (F64, F32 or BF16) of a given shape; the values are exact.
    pub fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let info = self.tensors.get(name).ok_or_else(|| missing(name))?.clone();
        let error = || Error::Tensor {
            name: name.to_owned(),
            expected: format!("F32 or BF16 {shape:?}"),
            found: info.describe(),
        };
        if info.shape != shape {
            return Err(error());
        }
        let bytes = self.bytes(name)?;
        Ok(match info.dtype.as_str() {
            "F64" => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            "F32" => bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
            "BF16" => {
                let widen = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                bytes.as_chunks().0.iter().map(|b| f64::from(widen(b))).collect()
            }
            _ => return Err(error()),
        })
    }
}

fn missing(name: &str) -> Error {
    Error::Tensor { name: name.to_owned(), expected: "it in the file".into(), found: "nothing".into() }
}

fn check(path: &Path, name: &str, info: &TensorInfo, available: u64) -> Result<()> {
    let size = info
        .element_size()
        .ok_or_else(|| Error::format(path, format!("`{name}` has the unknown type {}", info.dtype)))?;
    let [start, end] = info.data_offsets;
    let expected = info.elements().and_then(|elements| elements.checked_mul(size));
    if start > end || expected != Some(end - start) {
        let message = format!("`{name}`: bytes {start}..{end} do not fit {}", info.describe());
        return Err(Error::format(path, message));
    }
    if end > available {
        let message = format!("truncated: `{name}` ends at byte {end} of {available}");
        return Err(Error::format(path, message));
    }
    Ok(())
}

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Name.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
}

/// Writes an f32 file: `values(i)` gives the elements of `tensors[i]`. The bytes reach the disk before the file gets
/// its name, so that no reader ever sees half a file.
pub fn write(
    path: &Path,
    tensors: &[Planned],
    mut values: impl FnMut(usize) -> Result<Vec<f64>>,
) -> Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0u64;
    for tensor in tensors {
        let start = end;
        end += 4 * tensor.shape.iter().product::<usize>() as u64;
        let info = json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]});
        header.insert(tensor.name.clone(), info);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // The data starts at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    replace(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(Error::io(path))?;
        file.write_all(&header).map_err(Error::io(path))?;
        for (index, tensor) in tensors.iter().enumerate() {
            let values = values(index)?;
            let expected: usize = tensor.shape.iter().product();
            if values.len() != expected {
                let found = values.len().to_string();
                let expected = format!("{expected} elements");
                return Err(Error::Tensor { name: tensor.name.clone(), expected, found });
            }
            for value in values {
                file.write_all(&(value as f32).to_le_bytes()).map_err(Error::io(path))?;
            }
        }
        Ok(())
    })
}

/// Writes a file beside `path`, flushes it to the disk and renames it.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let attempt = || {
        let file = File::create(&partial).map_err(Error::io(&partial))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        write(&mut file)?;
        file.flush().map_err(Error::io(&partial))?;
        file.get_ref().sync_all().map_err(Error::io(&partial))?;
        std::fs::rename(&partial, path).map_err(Error::io(path))
    };
    let result = attempt();
    if result.is_err() {
        // The original error matters more than a left-over file.
        let _ = std::fs::remove_file(&partial);
    }
    result
}

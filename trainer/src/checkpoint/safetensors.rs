//! Safetensors files, one tensor at a time: a model is never twice in memory.
//!
//! Header, types and their validation are the `safetensors` crate's; here are the reads of byte ranges and the durable
//! write, which the crate offers only over a whole mapped file and without a way to fail (docs/design.md).

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::{Error, Result};
use crate::replace::replace;

/// The format's own bound on the header, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// An open file whose header has been checked against its length.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    data: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Reader {
    /// Opens a file and checks its header: the tensors' byte ranges fit their shapes and together cover the file.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io(path))?;
        let size = file.metadata().map_err(Error::io(path))?.len();
        let mut length = [0u8; 8];
        file.read_exact(&mut length)
            .map_err(|_| Error::format(path, "not a safetensors file: shorter than 8 bytes"))?;
        let length = u64::from_le_bytes(length);
        // Before memory is taken for the header.
        if length > LONGEST_HEADER || length > size.saturating_sub(8) {
            let message = format!("truncated or not a safetensors file: header of {length} in {size} bytes");
            return Err(Error::format(path, message));
        }
        let mut header = vec![0u8; length as usize];
        file.read_exact(&mut header).map_err(Error::io(path))?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| Error::format(path, format!("not a safetensors file: {error}")))?;
        let (data, expected) = (8 + length, header.data_len() as u64);
        let found = size - data;
        if found != expected {
            let problem = if found < expected { "truncated" } else { "damaged" };
            return Err(Error::format(path, format!("{problem}: {found} bytes of tensors, not {expected}")));
        }
        let tensors = header.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok(Self { path: path.to_owned(), file, data, tensors })
    }

    /// Names and descriptions, by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The bytes of a tensor.
    pub fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let (start, end) = self.tensors.get(name).ok_or_else(|| missing(name))?.data_offsets;
        let mut bytes = vec![0u8; end - start];
        self.read(start, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes of some rows of a tensor (its first dimension), in ascending order; nothing else is read.
    pub fn rows(&mut self, name: &str, rows: &[u32]) -> Result<Vec<u8>> {
        let info = self.tensors.get(name).ok_or_else(|| missing(name))?;
        let count = info.shape.first().copied().unwrap_or(0);
        let ascending = rows.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || rows.last().is_some_and(|&last| last as usize >= count) {
            let expected = format!("ascending rows below {count}");
            return Err(Error::Tensor { name: name.to_owned(), expected, found: format!("{rows:?}") });
        }
        let (start, end) = info.data_offsets;
        let row = (end - start) / count.max(1);
        let mut bytes = vec![0u8; rows.len() * row];
        let mut done = 0;
        // Neighbours are read at once.
        for run in rows.chunk_by(|a, b| a + 1 == *b) {
            let part = &mut bytes[done * row..(done + run.len()) * row];
            self.read(start + run[0] as usize * row, part)?;
            done += run.len();
        }
        Ok(bytes)
    }

    /// Bytes from `start` on, counted from the first tensor.
    fn read(&mut self, start: usize, bytes: &mut [u8]) -> Result<()> {
        self.file.seek(SeekFrom::Start(self.data + start as u64)).map_err(Error::io(&self.path))?;
        self.file.read_exact(bytes).map_err(Error::io(&self.path))
    }

    /// A floating-point tensor (F64, F32 or BF16) of a given shape; the values are exact.
    pub fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        self.floats_of(name, shape, None)
    }

    /// [`Reader::floats`] of some rows (all where none), of which nothing else is read.
    pub fn floats_of(&mut self, name: &str, shape: &[usize], rows: Option<&[u32]>) -> Result<Vec<f64>> {
        let info = self.tensors.get(name).ok_or_else(|| missing(name))?;
        let (dtype, found) = (info.dtype, format!("{} {:?}", info.dtype, info.shape));
        if info.shape != shape || !matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::BF16) {
            let expected = format!("F32 or BF16 {shape:?}");
            return Err(Error::Tensor { name: name.to_owned(), expected, found });
        }
        let bytes = match rows {
            Some(rows) => self.rows(name, rows)?,
            None => self.bytes(name)?,
        };
        Ok(match dtype {
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
            _ => {
                let widen = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                bytes.as_chunks().0.iter().map(|b| f64::from(widen(b))).collect()
            }
        })
    }
}

pub(super) fn missing(name: &str) -> Error {
    Error::Tensor { name: name.to_owned(), expected: "it in the file".into(), found: "nothing".into() }
}

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Name.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Type of its elements.
    pub dtype: Dtype,
}

impl Planned {
    /// A tensor of f32.
    #[must_use]
    pub fn f32(name: String, shape: Vec<usize>) -> Self {
        Self { name, shape, dtype: Dtype::F32 }
    }

    /// How many elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.bitsize() / 8
    }
}

/// Writes a file of f32 tensors: `values(i)` gives the elements of `tensors[i]`. The bytes reach the disk before the file
/// gets its name, so that no reader ever sees half a file.
pub fn write(
    path: &Path,
    tensors: &[Planned],
    mut values: impl FnMut(usize) -> Result<Vec<f64>>,
) -> Result<()> {
    write_bytes(path, tensors, |index| {
        Ok(values(index)?.into_iter().flat_map(|value| (value as f32).to_le_bytes()).collect())
    })
}

/// Writes a file: `bytes(i)` gives the little-endian elements of `tensors[i]`, of its type.
pub fn write_bytes(
    path: &Path,
    tensors: &[Planned],
    mut bytes: impl FnMut(usize) -> Result<Vec<u8>>,
) -> Result<()> {
    let mut end = 0;
    let planned = tensors.iter().map(|tensor| {
        let start = end;
        end += tensor.bytes();
        let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
        (tensor.name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
    });
    let notes = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let header = Metadata::new(Some(notes), planned.collect()).map_err(|error| Error::format(path, error))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| Error::format(path, error))?;
    // The data starts at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let failed = |error| Error::io(path)(error);
    replace(path, failed, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(Error::io(path))?;
        file.write_all(&header).map_err(Error::io(path))?;
        for (index, tensor) in tensors.iter().enumerate() {
            let bytes = bytes(index)?;
            if bytes.len() != tensor.bytes() {
                let found = format!("{} bytes", bytes.len());
                let expected = format!("{} bytes", tensor.bytes());
                return Err(Error::Tensor { name: tensor.name.clone(), expected, found });
            }
            file.write_all(&bytes).map_err(Error::io(path))?;
        }
        Ok(())
    })
}

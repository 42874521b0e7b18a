//! Owned memory of the CPU backend.

use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use crate::backend::{Element, Len};
use crate::{Error, Result};

/// A cache line: what buffers are made of, so that they start on a 64-byte boundary.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Zero-initialised memory that starts on a cache line.
#[derive(Debug)]
pub struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// [`Error::Argument`] for an element that does not tile a cache line, [`Error::Backend`] when memory is short.
    pub(super) fn zeroed(len: usize) -> Result<Self> {
        let size = size_of::<T>();
        if !size.is_power_of_two() || size > 64 {
            return Err(Error::argument("alloc", "T", "an element of 1, 2, 4, ... 64 bytes", size));
        }
        let short = || Error::Backend {
            backend: "cpu",
            message: format!("no memory for {len} elements of {size} bytes"),
        };
        let count = len.checked_mul(size).ok_or_else(short)?.div_ceil(64);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| short())?;
        lines.resize(count, Line::zeroed());
        Ok(Self { lines, len, element: PhantomData })
    }

    /// All elements.
    pub fn as_slice(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// All elements, writable.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl<T: Send + Sync> Len for Buffer<T> {
    fn len(&self) -> usize {
        self.len
    }
}

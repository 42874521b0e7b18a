//! Moving, clearing and adding buffers.

use cudarc::driver::result;

use crate::backend::{Element, Len};
use crate::{Error, Result};

use super::buffer::{CudaView, CudaViewMut};
use super::context::failed;
use super::launch::{Grid, wide};
use super::module::kernels;
use super::params::{EMO_MEMORY_ELEMENTS, EMO_MEMORY_THREADS, EmoAdd};
use super::{Cuda, CudaStorage};

fn same_length(op: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Length { op, arg: "target", expected, found }) }
}

/// Returns when `source` may change again.
pub(super) fn upload<S: CudaStorage, T: Element>(
    cuda: &Cuda<S>,
    source: &[T],
    target: CudaViewMut<'_, T>,
) -> Result<()> {
    same_length("upload", source.len(), target.len())?;
    let pointer = cuda.write(&target)? as u64;
    if source.is_empty() {
        return Ok(());
    }
    cuda.bind()?;
    // SAFETY: both hold as many bytes, and the source outlives the copy, which is waited for.
    let copied = unsafe { result::memcpy_htod_async(pointer, source, cuda.stream().cu_stream()) };
    let waited = cuda.stream().synchronize();
    copied.and(waited).map_err(|error| failed("upload", error))
}

/// Waits, and reports what kernels before it found wrong.
pub(super) fn download<S: CudaStorage, T: Element>(
    cuda: &Cuda<S>,
    source: CudaView<'_, T>,
    target: &mut [T],
) -> Result<()> {
    same_length("download", source.len(), target.len())?;
    let pointer = cuda.read(source)? as u64;
    cuda.bind()?;
    let copied = match target.is_empty() {
        true => Ok(()),
        // SAFETY: both hold as many bytes, any bytes are a valid `T`, and the copy is waited for below.
        false => unsafe { result::memcpy_dtoh_async(target, pointer, cuda.stream().cu_stream()) },
    };
    cuda.synchronize()?;
    copied.map_err(|error| failed("download", error))
}

/// `target = 0`.
pub(super) fn zero<S: CudaStorage, T: Element>(cuda: &Cuda<S>, target: CudaViewMut<'_, T>) -> Result<()> {
    let pointer = cuda.write(&target)? as u64;
    if target.is_empty() {
        return Ok(());
    }
    // SAFETY: `target` holds that many bytes, and zeros are a valid `T`.
    unsafe { clear(cuda, pointer, target.size()) }
}

/// Enqueues zeros.
///
/// # Safety
/// At `pointer` lie as many bytes of this context, of which zeros are valid, until the work is enqueued.
pub(super) unsafe fn clear<S: CudaStorage>(cuda: &Cuda<S>, pointer: u64, bytes: usize) -> Result<()> {
    cuda.bind()?;
    // SAFETY: the caller's promise.
    let set = unsafe { result::memset_d8_async(pointer, 0, bytes, cuda.stream().cu_stream()) };
    set.map_err(|error| failed("zero", error))
}

/// `target = source`.
pub(super) fn copy<S: CudaStorage, T: Element>(
    cuda: &Cuda<S>,
    source: CudaView<'_, T>,
    target: CudaViewMut<'_, T>,
) -> Result<()> {
    same_length("copy", source.len(), target.len())?;
    let (from, to) = (cuda.read(source)? as u64, cuda.write(&target)? as u64);
    if source.is_empty() {
        return Ok(());
    }
    cuda.bind()?;
    // SAFETY: both hold as many bytes, and a writable view shares none with another.
    let copied = unsafe { result::memcpy_dtod_async(to, from, source.size(), cuda.stream().cu_stream()) };
    copied.map_err(|error| failed("copy", error))
}

/// `y += x`.
pub(super) fn add<S: CudaStorage, T: Element>(
    cuda: &Cuda<S>,
    x: CudaView<'_, T>,
    y: CudaViewMut<'_, T>,
) -> Result<()> {
    const OP: &str = "add";
    if x.len() != y.len() {
        return Err(Error::Length { op: OP, arg: "y", expected: x.len(), found: y.len() });
    }
    let (x, len, y) = (cuda.read(x)?.cast(), y.len() as u64, cuda.write(&y)?.cast());
    let blocks = len.div_ceil(u64::from(EMO_MEMORY_THREADS * EMO_MEMORY_ELEMENTS));
    let blocks =
        i32::try_from(blocks).map_err(|_| Error::argument(OP, "y", "fewer than 2^42 elements", len))?;
    let params = EmoAdd { x, y, len, wide: wide(&[x, y], 1, &[]) };
    let grid = Grid::line(blocks.unsigned_abs(), EMO_MEMORY_THREADS);
    // SAFETY: x and y hold `len` elements; the kernel compares each place with `len`.
    unsafe { cuda.launch(kernels::ADD, grid, &params) }
}

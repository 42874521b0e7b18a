//! From an op's arguments to a kernel: pointers out of views, and the launch itself.

use std::ffi::c_void;

use cudarc::driver::result;

use crate::backend::Element;
use crate::{Error, Result};

use super::buffer::{CudaView, CudaViewMut};
use super::context::failed;
use super::module::Kernel;
use super::{Cuda, CudaStorage};

/// Blocks, threads of a block, and bytes of dynamic shared memory of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub blocks: [u32; 3],
    pub threads: u32,
    pub shared: u32,
}

impl Grid {
    /// `blocks` blocks in a line, without dynamic shared memory.
    pub fn line(blocks: u32, threads: u32) -> Self {
        Self { blocks: [blocks, 1, 1], threads, shared: 0 }
    }
}

/// A size as kernels take it.
pub(super) fn size(op: &'static str, arg: &'static str, value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::argument(op, arg, "below 2^32", value))
}

/// A number of rows that kernels stride over: far enough below 2^32 for a stride beyond the end.
pub(super) fn rows(op: &'static str, arg: &'static str, value: usize) -> Result<u32> {
    let fits = u32::try_from(value).ok().filter(|&rows| rows < 1 << 31);
    fits.ok_or_else(|| Error::argument(op, arg, "below 2^31", value))
}

/// Whether every address and every distance is a multiple of 16 bytes, so that kernels may move 16 at once.
/// Distances are in elements of `element` bytes.
pub(super) fn wide(addresses: &[*const c_void], element: usize, distances: &[usize]) -> u32 {
    let bytes = |distance: &usize| distance.wrapping_mul(element);
    u32::from(
        addresses.iter().all(|address| address.addr().is_multiple_of(16))
            && distances.iter().all(|distance| bytes(distance).is_multiple_of(16)),
    )
}

impl<S: CudaStorage> Cuda<S> {
    /// Where `view` starts, for a kernel that reads it.
    pub(super) fn read<T: Element>(&self, view: CudaView<'_, T>) -> Result<*const T> {
        self.same_stream(view.stream)?;
        Ok(view.pointer as *const T)
    }

    /// Where `view` starts, for a kernel that writes it.
    pub(super) fn write<T: Element>(&self, view: &CudaViewMut<'_, T>) -> Result<*mut T> {
        self.same_stream(view.stream)?;
        Ok(view.pointer as *mut T)
    }

    /// [`Cuda::read`], or null for an argument that is left out.
    pub(super) fn read_optional<T: Element>(&self, view: Option<CudaView<'_, T>>) -> Result<*const T> {
        view.map_or(Ok(std::ptr::null()), |view| self.read(view))
    }

    /// [`Cuda::write`], or null for an argument that is left out.
    #[allow(dead_code, reason = "for ops with optional outputs")]
    pub(super) fn write_optional<T: Element>(&self, view: &Option<CudaViewMut<'_, T>>) -> Result<*mut T> {
        view.as_ref().map_or(Ok(std::ptr::null_mut()), |view| self.write(view))
    }

    /// Work on another stream has no order with ours: its buffers could be freed under our kernels.
    fn same_stream(&self, other: &cudarc::driver::CudaStream) -> Result<()> {
        if other == &**self.stream() {
            return Ok(());
        }
        let message =
            "a buffer of another stream: ops take buffers of their own backend, or `borrow`ed slices";
        Err(Error::Backend { backend: "cuda", message: message.to_string() })
    }

    /// Enqueues `kernel`. An empty grid is no work.
    ///
    /// # Safety
    /// `params` is the struct that the kernel takes, and every access that the kernel makes under it lies inside the
    /// views whose pointers it holds. (Views keep their buffers from being freed before the work is enqueued, and
    /// freeing is enqueued behind it.)
    pub(super) unsafe fn launch<P>(&self, kernel: Kernel, grid: Grid, params: &P) -> Result<()> {
        let function = self.function(kernel);
        let [x, y, z] = grid.blocks;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        if grid.shared > function.shared {
            let message = format!(
                "{} needs {} bytes of shared memory, {} are there",
                function.name, grid.shared, function.shared
            );
            return Err(Error::Backend { backend: "cuda", message });
        }
        self.bind()?;
        let mut arguments = [std::ptr::from_ref(params).cast_mut().cast::<c_void>()];
        // SAFETY: the function lives as long as `self`; the driver copies the struct; the rest is the caller's promise.
        let launched = unsafe {
            result::launch_kernel(
                function.raw,
                (x, y, z),
                (grid.threads, 1, 1),
                grid.shared,
                self.stream().cu_stream(),
                &mut arguments,
            )
        };
        launched.map_err(|error| failed(function.name, error))
    }
}

//! [`Cuda`]: a device, a stream of work on it, and the loaded kernels.

use std::fmt::Display;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUdevice_attribute_enum as Attribute;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};

use crate::backend::Real;
use crate::{Error, Result};

use super::module::{Kernel, Modules};
use super::status::Status;

/// Bytes of scratch memory for ops without a workspace argument: the partial sums of 256 blocks of tokens over 1024 experts
/// take half of it.
pub(super) const SCRATCH: usize = 1 << 22;

/// Device memory that one op at a time may overwrite.
#[derive(Debug)]
pub(super) struct Scratch {
    memory: CudaSlice<u8>,
    start: u64,
}

impl Scratch {
    fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let memory = stream.alloc_zeros(SCRATCH).map_err(|error| failed("scratch memory", error))?;
        let start = memory.device_ptr(stream).0;
        Ok(Self { memory, start })
    }

    /// Where it starts, for `len` elements.
    pub fn pointer<T>(&mut self, len: usize) -> Result<*mut T> {
        match len.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= self.memory.len()) {
            Some(_) => Ok(self.start as *mut T),
            None => Err(failed("scratch memory", format_args!("{len} elements do not fit"))),
        }
    }
}

/// The oldest compute capability with kernels: asynchronous copies and bf16 products came with it.
const OLDEST: (i32, i32) = (8, 0);

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
}

/// What [`Cuda`] can store activations and matrices in: `f32` or `half::bf16`.
pub trait CudaStorage: Real + sealed::Sealed {
    /// The kernel's place for this type.
    #[doc(hidden)]
    fn choose(f32: usize, bf16: usize) -> usize;
}
impl CudaStorage for f32 {
    fn choose(f32: usize, _: usize) -> usize {
        f32
    }
}
impl CudaStorage for half::bf16 {
    fn choose(_: usize, bf16: usize) -> usize {
        bf16
    }
}

/// The CUDA backend: activations and matrices in `S`, arithmetic in f32, all work on one stream.
#[derive(Debug)]
pub struct Cuda<S = f32> {
    stream: Arc<CudaStream>,
    modules: Modules,
    pub(super) status: Status,
    scratch: Mutex<Scratch>,
    multiprocessors: u32,
    storage: PhantomData<fn() -> S>,
}

impl<S: CudaStorage> Cuda<S> {
    /// Device `ordinal`, with a stream of its own.
    ///
    /// # Errors
    /// [`Error::Backend`] where there is no driver, no such device, or one older than compute capability 8.0.
    pub fn new(ordinal: usize) -> Result<Self> {
        driver_present()?;
        let context = CudaContext::new(ordinal).map_err(|error| {
            failed(&format!("device {ordinal} of {}", CudaContext::device_count().unwrap_or(0)), error)
        })?;
        Self::on_stream(context.new_stream().map_err(|error| failed("a stream", error))?)
    }

    /// The caller's stream: ops are enqueued on it and never wait for it.
    ///
    /// # Errors
    /// [`Error::Backend`] where the device is older than compute capability 8.0 or its memory is full.
    pub fn on_stream(stream: Arc<CudaStream>) -> Result<Self> {
        let context = stream.context().clone();
        let found = context.compute_capability().map_err(|error| failed("compute capability", error))?;
        if found < OLDEST {
            let message = format!(
                "the kernels need compute capability {}.{}, this device has {}.{}",
                OLDEST.0, OLDEST.1, found.0, found.1
            );
            return Err(Error::Backend { backend: "cuda", message });
        }
        context.bind_to_thread().map_err(|error| failed("the context", error))?;
        let shared = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
        let shared = shared.map_err(|error| failed("shared memory", error))?;
        let modules = Modules::load(&context, u32::try_from(shared).unwrap_or(0))?;
        let count = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        let count = count.map_err(|error| failed("multiprocessors", error))?;
        let multiprocessors = u32::try_from(count).unwrap_or(0).max(1);
        let status = Status::new(&stream)?;
        let scratch = Scratch::new(&stream)?;
        Ok(Self {
            stream,
            modules,
            status,
            scratch: Mutex::new(scratch),
            multiprocessors,
            storage: PhantomData,
        })
    }

    /// Makes the context current on this thread, which driver calls expect.
    pub(super) fn bind(&self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(|error| failed("the context", error))
    }

    /// The stream that ops are enqueued on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// How many multiprocessors the device has: for the size of a grid, never for the order of a sum.
    pub(super) fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// Waits for all work enqueued so far.
    ///
    /// # Errors
    /// [`Error::Index`] for the first index that a kernel found outside its bound since the last wait,
    /// [`Error::Backend`] where the device has failed.
    pub fn synchronize(&self) -> Result<()> {
        self.status.wait(&self.stream)
    }

    /// [`SCRATCH`] bytes for one op: hold the guard until its last kernel is enqueued.
    pub(super) fn scratch(&self) -> MutexGuard<'_, Scratch> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function of `kernel` for this storage type.
    pub(super) fn function(&self, kernel: Kernel) -> &super::module::Function {
        self.modules.function(S::choose(kernel.f32, kernel.bf16))
    }

    /// Name and compute capability.
    pub(super) fn device_name(&self) -> String {
        let context = self.stream.context();
        let name = context.name().unwrap_or_else(|_| "unknown device".to_string());
        let (major, minor) = context.compute_capability().unwrap_or_default();
        format!("{name}, sm_{major}{minor}")
    }
}

/// cudarc panics at its first call where there is no libcuda, so it is looked for before. (cudarc's own question,
/// `is_culib_present`, is not there in programs whose other crates link cudarc to the driver.)
fn driver_present() -> Result<()> {
    const NAMES: [&str; 3] = ["libcuda.so", "libcuda.so.1", "nvcuda.dll"];
    // SAFETY: loads the driver's library, whose initialisers are NVIDIA's.
    if NAMES.iter().any(|name| unsafe { libloading::Library::new(*name) }.is_ok()) {
        return Ok(());
    }
    let message = "no libcuda found: install the NVIDIA driver, or use the CPU backend".to_string();
    Err(Error::Backend { backend: "cuda", message })
}

/// A failed driver call, with what it was for.
pub(super) fn failed(what: &str, error: impl Display) -> Error {
    Error::Backend { backend: "cuda", message: format!("{what}: {error}") }
}

//! The compiled kernels: embedded in the library, loaded once a context.

use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute_enum as Attribute;
use cudarc::driver::{CudaContext, DriverError, result, sys};

use crate::Result;

use super::context::failed;

/// A kernel of each storage type, as places in [`Modules`]. The constants are made from the entry points that the
/// compiler found in kernels/*.cu: `RMS_NORM_FORWARD` is the pair `emo_rms_norm_forward_f32` and `_bf16`, and a kernel
/// without those endings is both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    pub f32: usize,
    pub bf16: usize,
}

/// `MODULES` and a constant for each kernel.
#[allow(dead_code, reason = "some kernels are chosen by the op from several")]
pub(super) mod kernels {
    use super::Kernel;
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

/// Code in the device's memory: unloaded with its last user.
#[derive(Debug)]
pub(super) struct Modules {
    context: Arc<CudaContext>,
    loaded: Vec<sys::CUmodule>,
    functions: Vec<Function>,
}

/// An entry point.
#[derive(Debug)]
pub(super) struct Function {
    pub name: &'static str,
    pub raw: sys::CUfunction,
    /// Dynamic shared memory that a launch may ask for, in bytes.
    pub shared: u32,
}

// SAFETY: module and function handles belong to the context, and the driver lets any thread use them.
unsafe impl Send for Modules {}
// SAFETY: as above; nothing changes after loading.
unsafe impl Sync for Modules {}

impl Modules {
    /// Loads every kernel. `shared` is what a block may have of shared memory when it asks for it, in bytes.
    pub fn load(context: &Arc<CudaContext>, shared: u32) -> Result<Self> {
        let mut modules = Self { context: context.clone(), loaded: Vec::new(), functions: Vec::new() };
        for &(image, file, entries) in kernels::MODULES {
            let step = |what: &str| format!("kernels/{file}.cu: {what}");
            // The driver reads words from the image: a vector of words gives it their alignment.
            let mut words = vec![0u64; image.len().div_ceil(8)];
            bytemuck::cast_slice_mut(&mut words)[..image.len()].copy_from_slice(image);
            // SAFETY: the image is a whole fatbin made by nvcc, and the driver copies what it keeps.
            let module = unsafe { result::module::load_data(words.as_ptr().cast()) };
            let module = module.map_err(|error| failed(&step("loading the kernels"), error))?;
            modules.loaded.push(module);
            for &name in entries {
                let function = Function::find(module, name, shared);
                modules.functions.push(function.map_err(|error| failed(&step(name), error))?);
            }
        }
        Ok(modules)
    }

    /// The function at a place of a [`Kernel`].
    pub fn function(&self, place: usize) -> &Function {
        &self.functions[place]
    }
}

impl Function {
    fn find(
        module: sys::CUmodule,
        name: &'static str,
        shared: u32,
    ) -> std::result::Result<Self, DriverError> {
        const MOST: Attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let c_name = CString::new(name).unwrap_or_default();
        // SAFETY: the module is loaded, and the function lives as long as it.
        let (raw, fixed) = unsafe {
            let raw = result::module::get_function(module, c_name)?;
            let fixed = Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
            (raw, result::function::get_function_attribute(raw, fixed)?)
        };
        let shared = shared.saturating_sub(u32::try_from(fixed).unwrap_or(0));
        let most = i32::try_from(shared).unwrap_or(i32::MAX);
        // SAFETY: as above.
        unsafe { result::function::set_function_attribute(raw, MOST, most)? };
        Ok(Self { name, raw, shared })
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        // Kernels may still run; code may not be unloaded under them.
        let idle = self.context.bind_to_thread().and_then(|()| self.context.synchronize());
        if idle.is_ok() {
            for &module in &self.loaded {
                // SAFETY: loaded in `load`, unloaded once, and no launch of it is in flight. A failure leaves it loaded.
                let _ = unsafe { result::module::unload(module) };
            }
        }
    }
}

//! What the tests of the driver interface share. They use cudarc as any program would and nothing of the emulator, so
//! the library under test is the `libcuda.so` that cargo built; cargo puts its folder on the library path of tests.

use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError};
use cudarc::nvrtc::Ptx;

/// A context of its own, so that a fault in one test does not reach another.
pub fn context() -> Arc<CudaContext> {
    // SAFETY: the call has no precondition; it only loads the library.
    let present = unsafe { cudarc::driver::sys::is_culib_present() };
    assert!(present, "no libcuda.so on the library path: run this test through cargo");
    let context = CudaContext::new_non_primary(0, 0).expect("a context");
    let name = context.name().expect("a name");
    assert!(name.starts_with("emo-emulator"), "this test is about the emulator, not about `{name}`");
    context
}

/// The test kernels as a fat binary without compression.
pub const PLAIN: &[u8] = include_bytes!("none.fatbin");

/// A module of the test kernels.
pub fn module(context: &Arc<CudaContext>) -> Arc<CudaModule> {
    context.load_module(Ptx::from_binary(PLAIN.to_vec())).expect("the module loads")
}

/// One of the test kernels.
pub fn kernel(context: &Arc<CudaContext>, name: &str) -> CudaFunction {
    module(context).load_function(name).expect("the kernel exists")
}

/// The code of a failure.
pub fn code<T>(result: Result<T, DriverError>) -> Option<CUresult> {
    result.err().map(|error| error.0)
}

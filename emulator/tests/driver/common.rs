//! What the tests of the driver interface share. They use cudarc as any program would and nothing of the emulator's own
//! interface, so the library under test is the `libcuda.so` that cargo built beside them.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Once};

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError};
use cudarc::nvrtc::Ptx;

/// Sees to it that the `libcuda.so` beside this program is the first that is found, by starting the program again if
/// need be: the library path is read at the start only, and the one that cargo sets names other folders before, where an
/// older build may lie.
fn put_library_first() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let program = std::env::current_exe().expect("a program");
        let folder = program.parent().expect("a folder");
        let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        if std::env::split_paths(&path).next().as_deref() != Some(folder) {
            let paths = [folder.to_owned()].into_iter().chain(std::env::split_paths(&path));
            let path = std::env::join_paths(paths).expect("a path");
            let error =
                Command::new(&program).args(std::env::args_os().skip(1)).env("LD_LIBRARY_PATH", path).exec();
            panic!("{} does not start: {error}", program.display());
        }
    });
}

/// A context of its own, so that a fault in one test does not reach another.
pub fn context() -> Arc<CudaContext> {
    put_library_first();
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

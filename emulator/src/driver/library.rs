//! Libraries and kernels, the younger names of modules and functions: a library here is a module of the current
//! context, a kernel a function of it, under the same handles.

use super::entry::{Host, Out, exports};
use super::state::Handle;

exports! {
    /// Loads a library.
    fn cuLibraryLoadData(library: Out<Handle>, image: Host, _jit: Host, _jit_values: Host, _jit_count: u32,
        _options: Host, _values: Host, _count: u32) [driver] {
        library.set(driver.load_or_print(image)?)
    }

    /// Unloads a library.
    fn cuLibraryUnload(library: Handle) [driver] {
        driver.unload(library)
    }

    /// A kernel of a library.
    fn cuLibraryGetKernel(kernel: Out<Handle>, library: Handle, name: Host) [driver] {
        kernel.set(driver.function_of(library, name.name()?)?)
    }

    /// The module of a library.
    fn cuLibraryGetModule(module: Out<Handle>, library: Handle) [driver] {
        driver.context()?;
        driver.modules.get(library)?;
        module.set(library)
    }

    /// A variable of a library.
    fn cuLibraryGetGlobal(address: Out<u64>, bytes: Out<usize>, library: Handle, name: Host) [driver] {
        let found = driver.global_of(library, name.name()?)?;
        address.set_if_wanted(found.0)?;
        bytes.set_if_wanted(found.1)
    }

    /// The function of a kernel.
    fn cuKernelGetFunction(function: Out<Handle>, kernel: Handle) [driver] {
        driver.context()?;
        driver.functions.get(kernel)?;
        function.set(kernel)
    }
}

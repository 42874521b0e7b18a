//! Modules and the functions in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fatbin::{ImageError, ptx_text};
use crate::{Device, Module};

use super::attributes::{BLOCK_THREADS, CAPABILITY, SHARED_DEFAULT, SHARED_OPT_IN};
use super::entry::{Host, HostMut, Out, exports};
use super::error::{Code, Result};
use super::image;
use super::state::{Driver, Handle};

/// A module on the device.
pub(crate) struct LoadedModule {
    pub(crate) context: Handle,
    pub(crate) module: Arc<Module>,
    unloaded: AtomicBool,
}

impl LoadedModule {
    /// Frees the module's variables; graphs and functions may still hold the rest.
    pub(crate) fn unload(&self, device: &Device) {
        if !self.unloaded.swap(true, Ordering::Relaxed) {
            device.unload_module(Arc::clone(&self.module));
        }
    }

    pub(crate) fn is_unloaded(&self) -> bool {
        self.unloaded.load(Ordering::Relaxed)
    }
}

/// A kernel of a module and what was set for it.
pub(crate) struct Function {
    pub(crate) module: Arc<LoadedModule>,
    pub(crate) name: String,
    /// Dynamic shared memory that a launch may ask for, in bytes.
    pub(crate) dynamic_limit: u32,
    carveout: i32,
}

impl Function {
    /// Its entry in the module.
    pub(crate) fn entry(&self) -> Result<&crate::ptx::Entry> {
        self.module.module.entry(&self.name).ok_or(Code::NOT_FOUND)
    }

    /// Threads that a block may have.
    pub(crate) fn block_threads(&self) -> Result<u32> {
        let entry = self.entry()?;
        let limit = entry.required_threads.or(entry.max_threads);
        Ok(limit.map_or(BLOCK_THREADS, |limit| limit.iter().product::<u32>().min(BLOCK_THREADS)))
    }
}

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const DYNAMIC_SHARED: u32 = 8;
/// `CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT`.
const CARVEOUT: u32 = 9;
/// The least attribute number of `cuda.h` 13.0 that does not exist.
const ATTRIBUTES_END: u32 = 16;

impl Driver {
    /// Loads what lies at `image` into the current context; on failure the message too.
    pub(crate) fn load_image(&mut self, image: Host) -> std::result::Result<Handle, (Code, String)> {
        let context = self.context().map_err(|code| (code, String::new()))?;
        if image.0.is_null() {
            return Err((Code::INVALID_VALUE, "the image is the null pointer".to_owned()));
        }
        let bytes = image::read(image.0.expose_provenance())
            .map_err(|error| (Code::INVALID_IMAGE, format!("the image cannot be read: {error}")))?;
        self.load_bytes(context, &bytes)
    }

    fn load_bytes(&mut self, context: Handle, image: &[u8]) -> std::result::Result<Handle, (Code, String)> {
        let device = self.device().map_err(|code| (code, String::new()))?;
        let text = ptx_text(image, CAPABILITY).map_err(|error| {
            let code = match error {
                ImageError::MachineCode | ImageError::NoPtx(..) => Code::NO_BINARY_FOR_GPU,
                ImageError::NotPtx => Code::INVALID_PTX,
                _ => Code::INVALID_IMAGE,
            };
            (code, error.to_string())
        })?;
        let module = device.load_module(&text).map_err(|error| (Code::INVALID_PTX, error.to_string()))?;
        Ok(self.modules.insert(Arc::new(LoadedModule { context, module, unloaded: AtomicBool::new(false) })))
    }

    /// [`load_image`](Self::load_image), with the message printed.
    pub(crate) fn load_or_print(&mut self, image: Host) -> Result<Handle> {
        self.load_image(image).map_err(printed)
    }

    /// Unloads a module; its functions end with it.
    pub(crate) fn unload(&mut self, module: Handle) -> Result<()> {
        self.context()?;
        let device = self.device()?;
        let removed = self.modules.remove(module)?;
        self.functions.retain(|function| !Arc::ptr_eq(&function.module, &removed));
        removed.unload(&device);
        Ok(())
    }

    /// The handle of a module's kernel, the same for the same name.
    pub(crate) fn function_of(&mut self, module: Handle, name: &str) -> Result<Handle> {
        self.context()?;
        let module = Arc::clone(self.modules.get(module)?);
        let known = self.functions.iter().find(|(_, f)| f.name == name && Arc::ptr_eq(&f.module, &module));
        if let Some((handle, _)) = known {
            return Ok(handle);
        }
        let Some(entry) = module.module.entry(name) else {
            let names: Vec<&str> = module.module.entries().iter().map(|entry| entry.name.as_str()).collect();
            eprintln!("emulator: the module has no kernel `{name}`; it has {names:?}");
            return Err(Code::NOT_FOUND);
        };
        let dynamic_limit = SHARED_DEFAULT.saturating_sub(entry.shared_bytes);
        let name = name.to_owned();
        Ok(self.functions.insert(Function { module, name, dynamic_limit, carveout: -1 }))
    }

    /// Address and size of a module's variable.
    pub(crate) fn global_of(&self, module: Handle, name: &str) -> Result<(u64, usize)> {
        self.context()?;
        let module = self.modules.get(module)?;
        let (address, bytes) = module.module.variable(name).ok_or(Code::NOT_FOUND)?;
        Ok((address, bytes as usize))
    }

    fn function_attribute(&self, function: Handle, attribute: u32) -> Result<i32> {
        self.context()?;
        let function = self.functions.get(function)?;
        let entry = function.entry()?;
        Ok(match attribute {
            ATTRIBUTES_END.. => return Err(Code::INVALID_VALUE),
            0 => function.block_threads()? as i32,
            1 => entry.shared_bytes as i32,
            3 => entry.local_bytes as i32,
            // PTX has as many registers as it likes; how many a GPU would give is for ptxas to say.
            4 => 0,
            5 | 6 => CAPABILITY as i32,
            DYNAMIC_SHARED => function.dynamic_limit as i32,
            CARVEOUT => function.carveout,
            _ => 0,
        })
    }

    fn set_function_attribute(&mut self, function: Handle, attribute: u32, value: i32) -> Result<()> {
        self.context()?;
        let function = self.functions.get_mut(function)?;
        let shared = function.entry()?.shared_bytes;
        match attribute {
            DYNAMIC_SHARED => {
                let bytes = u32::try_from(value).map_err(|_| Code::INVALID_VALUE)?;
                if bytes > SHARED_OPT_IN.saturating_sub(shared) {
                    return Err(Code::INVALID_VALUE);
                }
                function.dynamic_limit = bytes;
            }
            CARVEOUT if (-1..=100).contains(&value) => function.carveout = value,
            _ => return Err(Code::INVALID_VALUE),
        }
        Ok(())
    }
}

fn printed((code, message): (Code, String)) -> Code {
    if !message.is_empty() {
        eprintln!("emulator: the module does not load: {message}");
    }
    code
}

/// Puts `message` where the options of a load ask for an error log: 5 is the buffer, 6 its size.
fn write_log(message: &str, count: u32, options: Host, values: Host) -> Result<()> {
    let value_of = |wanted: u32| -> Result<Option<usize>> {
        for index in 0..count as usize {
            if options.item::<u32>(index)? == wanted {
                return values.item::<usize>(index).map(Some);
            }
        }
        Ok(None)
    };
    if let (Some(buffer), Some(size)) = (value_of(5)?, value_of(6)?)
        && size > 0
    {
        let buffer = HostMut(std::ptr::with_exposed_provenance_mut(buffer));
        let shown = &message.as_bytes()[..message.len().min(size - 1)];
        buffer.put(&[shown, &[0]].concat())?;
    }
    Ok(())
}

exports! {
    /// Loads a module: PTX text or a fat binary with PTX.
    fn cuModuleLoadData(module: Out<Handle>, image: Host) [driver] {
        module.set(driver.load_or_print(image)?)
    }

    /// Loads a module with options, of which the error log is heeded.
    fn cuModuleLoadDataEx(module: Out<Handle>, image: Host, count: u32, options: Host, values: Host) [driver] {
        match driver.load_image(image) {
            Ok(handle) => module.set(handle),
            Err(failure) => {
                write_log(&failure.1, count, options, values)?;
                Err(printed(failure))
            }
        }
    }

    /// Loads a module from a fat binary.
    fn cuModuleLoadFatBinary(module: Out<Handle>, image: Host) [driver] {
        module.set(driver.load_or_print(image)?)
    }

    /// Loads a module from a file.
    fn cuModuleLoad(module: Out<Handle>, path: Host) [driver] {
        let context = driver.context()?;
        let bytes = std::fs::read(path.name()?).map_err(|_| Code::FILE_NOT_FOUND)?;
        module.set(driver.load_bytes(context, &bytes).map_err(printed)?)
    }

    /// Unloads a module.
    fn cuModuleUnload(module: Handle) [driver] {
        driver.unload(module)
    }

    /// A kernel of a module.
    fn cuModuleGetFunction(function: Out<Handle>, module: Handle, name: Host) [driver] {
        function.set(driver.function_of(module, name.name()?)?)
    }

    /// Number of kernels of a module.
    fn cuModuleGetFunctionCount(count: Out<u32>, module: Handle) [driver] {
        driver.context()?;
        count.set(driver.modules.get(module)?.module.entries().len() as u32)
    }

    /// A variable of a module.
    fn cuModuleGetGlobal_v2(address: Out<u64>, bytes: Out<usize>, module: Handle, name: Host) [driver] {
        let found = driver.global_of(module, name.name()?)?;
        address.set_if_wanted(found.0)?;
        bytes.set_if_wanted(found.1)
    }

    /// An attribute of a kernel.
    fn cuFuncGetAttribute(value: Out<i32>, attribute: u32, function: Handle) [driver] {
        value.set(driver.function_attribute(function, attribute)?)
    }

    /// Sets an attribute of a kernel: dynamic shared memory, or the carve-out.
    fn cuFuncSetAttribute(function: Handle, attribute: u32, value: i32) [driver] {
        driver.set_function_attribute(function, attribute, value)
    }

    /// Prefers cache or shared memory, of which there is one kind here.
    fn cuFuncSetCacheConfig(function: Handle, _preference: u32) [driver] {
        driver.context()?;
        driver.functions.get(function).map(drop)
    }

    /// Loads a kernel ahead of its first launch: it is loaded with its module.
    fn cuFuncLoad(function: Handle) [driver] {
        driver.context()?;
        driver.functions.get(function).map(drop)
    }
}

//! Launching kernels.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Instant;

use crate::{Fault, LaunchConfig};

use super::attributes::{BLOCK_LIMITS, GRID_LIMITS};
use super::entry::{Host, exports};
use super::error::{Code, Result};
use super::graph::Operation;
use super::module::LoadedModule;
use super::state::{Driver, Handle};

/// A launch with everything it needs, so that it can be kept.
#[derive(Clone)]
pub(crate) struct Launch {
    module: Arc<LoadedModule>,
    kernel: Arc<str>,
    config: LaunchConfig,
    parameters: Arc<[u8]>,
}

/// What a program passes: an array of pointers, one a parameter, or a list that names a buffer.
struct Arguments {
    pointers: Host,
    extra: Host,
}

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ExtendedConfig {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: Handle,
    attributes: *const LaunchAttribute,
    count: u32,
}

/// `CUlaunchAttribute`: a number and a value of 64 bytes at offset 8.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct LaunchAttribute {
    number: u32,
    padding: u32,
    value: [u32; 16],
}

impl Driver {
    /// Checks a launch and copies its parameters.
    fn prepare(&self, function: Handle, config: LaunchConfig, arguments: &Arguments) -> Result<Launch> {
        let context = self.context()?;
        let function = self.functions.get(function)?;
        if function.module.context != context {
            return Err(Code::INVALID_CONTEXT);
        }
        let within = |sizes: [u32; 3], limits: [u32; 3]| {
            sizes.iter().zip(limits).all(|(&size, limit)| (1..=limit).contains(&size))
        };
        let threads = config.block.iter().map(|&size| u64::from(size)).product::<u64>();
        let refuse = |why: &str| {
            eprintln!("emulator: launch of `{}` refused: {why}: {config:?}", function.name);
            Err(Code::INVALID_VALUE)
        };
        if !within(config.grid, GRID_LIMITS) || !within(config.block, BLOCK_LIMITS) {
            return refuse("a grid or block size is 0 or too large");
        }
        if threads > u64::from(function.block_threads()?) {
            return refuse("more threads a block than the kernel or the device allows");
        }
        if config.shared_bytes > function.dynamic_limit {
            return refuse("more dynamic shared memory than MAX_DYNAMIC_SHARED_SIZE_BYTES is set to");
        }
        let entry = function.entry()?;
        let parameters = match arguments.extra.0.is_null() {
            true => {
                let mut block = vec![0; entry.param_bytes as usize];
                for (index, parameter) in entry.params.iter().enumerate() {
                    let value: Host = Host(arguments.pointers.item(index)?);
                    let start = parameter.offset as usize;
                    block[start..start + parameter.size as usize]
                        .copy_from_slice(value.bytes(parameter.size as usize)?);
                }
                block
            }
            false => packed_parameters(arguments.extra, entry.param_bytes as usize)?,
        };
        Ok(Launch {
            module: Arc::clone(&function.module),
            kernel: function.name.as_str().into(),
            config,
            parameters: parameters.into(),
        })
    }

    /// Runs a kernel to its end. A fault is printed and kept in the context: as on a device, the calls that follow
    /// tell of it.
    pub(crate) fn run_kernel(&mut self, context: Handle, launch: &Launch) -> Result<()> {
        let device = self.device()?;
        if launch.module.is_unloaded() {
            return Err(Code::INVALID_HANDLE);
        }
        let start = Instant::now();
        let result = device.launch(&launch.module.module, &launch.kernel, &launch.config, &launch.parameters);
        match result {
            Ok(stats) => {
                self.statistics.add(&launch.kernel, &stats, start.elapsed());
                Ok(())
            }
            Err(fault) => {
                eprintln!("emulator: {fault}");
                match code_of(&fault) {
                    (code, true) => {
                        self.contexts.get_mut(context)?.fault = Some(code);
                        Ok(())
                    }
                    (code, false) => Err(code),
                }
            }
        }
    }

    fn launch(
        &mut self,
        function: Handle,
        config: LaunchConfig,
        stream: Handle,
        pointers: *const *const c_void,
        extra: *const *const c_void,
    ) -> Result<()> {
        let arguments = Arguments { pointers: Host(pointers.cast()), extra: Host(extra.cast()) };
        let launch = self.prepare(function, config, &arguments)?;
        self.submit(stream, Operation::Launch(launch))
    }
}

/// The parameter block that an `extra` list names: pairs of a kind and a pointer, ended by 0.
fn packed_parameters(extra: Host, size: usize) -> Result<Vec<u8>> {
    const END: usize = 0;
    const BUFFER: usize = 1;
    const SIZE: usize = 2;
    let (mut buffer, mut given) = (None, None);
    for pair in 0..3 {
        let value = || extra.item::<*const c_void>(2 * pair + 1).map(Host);
        match extra.item::<usize>(2 * pair)? {
            END => break,
            BUFFER => buffer = Some(value()?),
            SIZE => given = Some(value()?.item::<usize>(0)?),
            _ => return Err(Code::INVALID_VALUE),
        }
    }
    match (buffer, given) {
        (Some(buffer), Some(given)) if given >= size => Ok(buffer.bytes(size)?.to_vec()),
        (None, None) if size == 0 => Ok(Vec::new()),
        _ => Err(Code::INVALID_VALUE),
    }
}

/// The code of a fault, and whether the kernel had begun, which makes it stick to the context.
fn code_of(fault: &Fault) -> (Code, bool) {
    let code = match fault {
        Fault::NoEntry(_) => return (Code::NOT_FOUND, false),
        Fault::Configuration { .. } => return (Code::INVALID_VALUE, false),
        Fault::OutOfBounds { .. } => Code::ILLEGAL_ADDRESS,
        Fault::Misaligned { .. } => Code::MISALIGNED_ADDRESS,
        Fault::Deadlock { .. } | Fault::Livelock { .. } => Code::LAUNCH_TIMEOUT,
        Fault::Unsupported { .. } => Code::ILLEGAL_INSTRUCTION,
        Fault::Trap { site } if site.instruction.contains("__assertfail") => Code::ASSERT,
        _ => Code::LAUNCH_FAILED,
    };
    (code, true)
}

/// Refuses what a launch attribute asks for where it changes the result: clusters and cooperation between blocks.
fn check_attributes(config: &ExtendedConfig) -> Result<()> {
    const COOPERATIVE: u32 = 2;
    const CLUSTER: u32 = 4;
    for index in 0..config.count as usize {
        let attribute: LaunchAttribute = Host(config.attributes.cast()).item(index)?;
        match attribute.number {
            COOPERATIVE if attribute.value[0] != 0 => return Err(Code::NOT_SUPPORTED),
            CLUSTER if attribute.value[..3] != [1, 1, 1] => return Err(Code::NOT_SUPPORTED),
            _ => {}
        }
    }
    Ok(())
}

exports! {
    /// Launches a kernel.
    fn cuLaunchKernel(function: Handle, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32,
        block_z: u32, shared_bytes: u32, stream: Handle, parameters: *const *const c_void,
        extra: *const *const c_void) [driver] {
        let config =
            LaunchConfig { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], shared_bytes };
        driver.launch(function, config, stream, parameters, extra)
    }

    /// Launches a kernel with attributes.
    fn cuLaunchKernelEx(config: Host, function: Handle, parameters: *const *const c_void,
        extra: *const *const c_void) [driver] {
        let config: ExtendedConfig = config.item(0)?;
        check_attributes(&config)?;
        let ExtendedConfig { grid, block, shared_bytes, stream, .. } = config;
        driver.launch(function, LaunchConfig { grid, block, shared_bytes }, stream, parameters, extra)
    }
}

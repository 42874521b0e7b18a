//! The device: memory, modules and launches.

use std::sync::Arc;

use crate::exec::{self, Program};
use crate::fault::{Error, Fault};
use crate::memory::Memory;
use crate::options::Options;
use crate::ptx;

/// Memory of a device with default settings: 64 GiB, of which the host pays only for what is allocated.
const TOTAL_MEMORY: u64 = 64 << 30;

/// A CUDA device of compute capability 8.0 with its memory.
#[derive(Debug)]
pub struct Device {
    memory: Memory,
    options: Options,
}

/// Shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z; at most 1024 in all.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes, behind the entry's own shared variables.
    pub shared_bytes: u32,
}

/// What a launch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instructions executed by warps, each for up to 32 threads.
    pub warp_instructions: u64,
    /// Instructions executed by threads (predicated-off ones not counted).
    pub thread_instructions: u64,
    /// Floating-point operations of `mma` instructions.
    pub mma_flops: u64,
}

impl Stats {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            warp_instructions: self.warp_instructions + other.warp_instructions,
            thread_instructions: self.thread_instructions + other.thread_instructions,
            mma_flops: self.mma_flops + other.mma_flops,
        }
    }
}

/// A module on a device: parsed PTX and the addresses of its variables, which live until it is
/// [unloaded](Device::unload_module).
#[derive(Debug)]
pub struct Module {
    program: Program,
}

impl Device {
    /// A device with empty memory of 64 GiB.
    pub fn new(options: Options) -> Self {
        Self { memory: Memory::new(TOTAL_MEMORY), options }
    }

    /// The device's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The settings given to [`new`](Self::new).
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Parses PTX text and allocates its global and constant variables. Instructions that the emulator does not know are no error here:
    /// they stop the launch that reaches them.
    pub fn load_module(&self, text: &str) -> Result<Arc<Module>, Error> {
        Ok(Arc::new(Module { program: Program::load(text, &self.memory)? }))
    }

    /// Frees the module's variables. Launches of the module must have ended.
    pub fn unload_module(&self, module: Arc<Module>) {
        module.program.unload(&self.memory);
    }

    /// Runs an entry to its end. `params` holds the parameters at their [offsets](ptx::Param::offset).
    pub fn launch(
        &self,
        module: &Arc<Module>,
        entry: &str,
        config: &LaunchConfig,
        params: &[u8],
    ) -> Result<Stats, Fault> {
        exec::launch(&module.program, &self.memory, &self.options, entry, config, params)
    }
}

impl Module {
    /// The entries in the order of the text.
    pub fn entries(&self) -> &[ptx::Entry] {
        self.program.entries()
    }

    /// The entry of a name: parameters with offsets and sizes, static shared bytes, limits.
    pub fn entry(&self, name: &str) -> Option<&ptx::Entry> {
        self.entries().iter().find(|entry| entry.name == name)
    }

    /// Instructions of all entries that the emulator does not know, each as its line, its text and what of it is unknown. A launch that
    /// reaches one stops there.
    pub fn unsupported(&self) -> Vec<(u32, String, String)> {
        let codes = (0..self.entries().len()).map(|entry| self.program.code(entry));
        let mut found: Vec<_> = codes.flat_map(|code| code.unsupported()).collect();
        found.sort();
        found.dedup();
        found
    }

    /// Address and size in bytes of a global or constant variable.
    pub fn variable(&self, name: &str) -> Option<(u64, u64)> {
        self.program.variable(name)
    }
}

//! From `--device` to a backend.

use std::time::Duration;

use emo::Backend;
use emo::cpu::threads::Threads;
use emo::cpu::{Cpu, peak, simd};

use crate::cli::{Compute, Device};
use crate::config::Storage;
use crate::error::{Error, Result};
use gpu::Gpu;

/// How long and how often the machine's peak is measured before a run. The best counts: other work can only slow it.
const MEASURE: Duration = Duration::from_millis(25);
const MEASUREMENTS: usize = 8;

/// More threads than this (and than four a core) are a slip of the pen, and their stacks alone could fill the memory.
const MOST_THREADS: usize = 1024;

/// What a command does, on whichever backend it is given.
pub trait Work {
    /// Whether the work wants to know what the device could reach.
    const PEAK: bool;

    /// Does it.
    fn on<B: Backend>(self, backend: B, start: Start) -> Result<()>;
}

/// What is known before the work.
#[derive(Debug, Default)]
pub struct Start {
    /// Measured FLOP a second of the device on what it stores.
    pub peak: Option<f64>,
    /// What the user should hear.
    pub note: Option<String>,
}

/// Does `work` where and how it was asked for. `auto` takes GPU 0 where the program was built for GPUs and there is one.
///
/// # Errors
/// Where the device that was asked for is not there, and what the work itself fails with.
pub fn run<W: Work>(Compute { threads, device, storage }: Compute, work: W) -> Result<()> {
    let mut note = None;
    let gpu = match device {
        Device::Cpu => None,
        Device::Cuda(ordinal) => Some(Gpu::open(ordinal, storage)?),
        Device::Auto if !cfg!(feature = "cuda") => None,
        Device::Auto => match Gpu::open(0, storage) {
            Ok(gpu) => Some(gpu),
            Err(error) => {
                note = Some(format!("no GPU ({error}): computing on the processor"));
                None
            }
        },
    };
    if let Some(gpu) = gpu {
        return gpu.run(work);
    }
    let cpu = cpu(threads)?;
    match storage {
        Storage::F32 => on_cpu(cpu, note, work),
        Storage::Bf16 => on_cpu(cpu.storing::<half::bf16>(), note, work),
    }
}

fn on_cpu<T: simd::Storage, W: Work>(cpu: Cpu<T>, note: Option<String>, work: W) -> Result<()> {
    let start = Start { peak: if W::PEAK { peak(&cpu) } else { None }, note };
    work.on(cpu, start)
}

#[cfg(feature = "cuda")]
mod gpu {
    use super::{Start, Storage, Work};
    use crate::error::Result;
    use emo::cuda::Cuda;
    use half::bf16;

    /// A GPU in one of the two storages.
    pub enum Gpu {
        F32(Cuda<f32>),
        Bf16(Cuda<bf16>),
    }

    impl Gpu {
        pub fn open(ordinal: usize, storage: Storage) -> Result<Self> {
            Ok(match storage {
                Storage::F32 => Self::F32(Cuda::new(ordinal)?),
                Storage::Bf16 => Self::Bf16(Cuda::new(ordinal)?),
            })
        }

        pub fn run(self, work: impl Work) -> Result<()> {
            match self {
                Self::F32(cuda) => work.on(cuda, Start::default()),
                Self::Bf16(cuda) => work.on(cuda, Start::default()),
            }
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod gpu {
    use super::{Storage, Work};
    use crate::error::{Error, Result};

    /// A GPU, which this build cannot have.
    pub enum Gpu {}

    impl Gpu {
        pub fn open(_: usize, _: Storage) -> Result<Self> {
            const BUILD: &str = "this trainer was built without CUDA; `cargo xtask toolchain`, then `cargo build --release \
                                 -p trainer --features cuda` builds one with it";
            Err(Error::Usage(BUILD.into()))
        }

        pub fn run(self, _: impl Work) -> Result<()> {
            match self {}
        }
    }
}

/// The CPU with `threads` threads, 0 for one a core.
///
/// # Errors
/// For far more threads than there are cores, or if they cannot be started.
pub fn cpu(threads: usize) -> Result<Cpu> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if threads > MOST_THREADS.max(4 * cores) {
        return Err(Error::Usage(format!(
            "{threads} threads are far too many for this machine's {cores} cores; 0 (--threads, `run.threads`) takes \
             one a core"
        )));
    }
    Ok(if threads == 0 { Cpu::all_cores()? } else { Cpu::new(threads)? })
}

/// Measured multiply-add rate of the same threads on what they store, in FLOP a second.
fn peak<T: simd::Storage>(cpu: &Cpu<T>) -> Option<f64> {
    let threads = Threads::new(cpu.threads()).ok()?;
    let gflops = (0..MEASUREMENTS).map(|_| peak::gflops::<T>(&threads, cpu.isa(), MEASURE));
    gflops.reduce(f64::max).map(|best| 1e9 * best)
}

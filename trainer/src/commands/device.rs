//! From `--device` to a backend.

use std::time::Duration;

use emo::cpu::simd::Storage;
use emo::cpu::threads::Threads;
use emo::cpu::{Cpu, peak};

use crate::error::{Error, Result};

/// How long and how often the machine's peak is measured before a run. The best counts: other work can only slow it.
const MEASURE: Duration = Duration::from_millis(25);
const MEASUREMENTS: usize = 8;

/// More threads than this (and than four a core) are a slip of the pen, and their stacks alone could fill the memory.
const MOST_THREADS: usize = 1024;

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
pub fn peak<T: Storage>(cpu: &Cpu<T>) -> Option<f64> {
    let threads = Threads::new(cpu.threads()).ok()?;
    let gflops = (0..MEASUREMENTS).map(|_| peak::gflops::<T>(&threads, cpu.isa(), MEASURE));
    gflops.reduce(f64::max).map(|best| 1e9 * best)
}

//! From `--device` to a backend.

use std::time::Duration;

use emo::cpu::threads::Threads;
use emo::cpu::{Cpu, peak};

use crate::error::Result;

/// How long and how often the machine's peak is measured before a run. The best counts: other work can only slow it.
const MEASURE: Duration = Duration::from_millis(25);
const MEASUREMENTS: usize = 8;

/// The CPU with `threads` threads, 0 for one a core.
///
/// # Errors
/// If the threads cannot be started.
pub fn cpu(threads: usize) -> Result<Cpu> {
    Ok(if threads == 0 { Cpu::all_cores()? } else { Cpu::new(threads)? })
}

/// Measured f32 multiply-add rate of the same threads, in FLOP a second.
pub fn peak(cpu: &Cpu) -> Option<f64> {
    let threads = Threads::new(cpu.threads()).ok()?;
    let gflops = (0..MEASUREMENTS).map(|_| peak::fma_gflops(&threads, cpu.isa(), MEASURE));
    gflops.reduce(f64::max).map(|best| 1e9 * best)
}

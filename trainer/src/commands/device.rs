//! From `--device` to a backend.

use std::time::Duration;

use emo::cpu::threads::Threads;
use emo::cpu::{Cpu, peak};

use crate::error::Result;

/// How long the machine's peak is measured before a run.
const MEASURE: Duration = Duration::from_millis(100);

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
    Some(1e9 * peak::fma_gflops(&threads, cpu.isa(), MEASURE))
}

//! From `--device` to a backend.

use emo::cpu::Cpu;

use crate::error::Result;

/// The CPU with `threads` threads, 0 for one a core.
///
/// # Errors
/// If the threads cannot be started.
pub fn cpu(threads: usize) -> Result<Cpu> {
    Ok(if threads == 0 { Cpu::all_cores()? } else { Cpu::new(threads)? })
}

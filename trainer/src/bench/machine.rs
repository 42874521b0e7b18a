//! The yardsticks.

use std::time::Duration;

use emo::cpu::isa::Isa;
use emo::cpu::peak;
use emo::cpu::threads::Threads;
use serde::Serialize;

use crate::config::Storage;
use crate::error::Result;

/// How long and how often each rate is measured. The best counts: other work can only slow it.
const MEASURE: Duration = Duration::from_millis(30);
const MEASUREMENTS: usize = 6;

/// What all threads together reach with nothing else to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    /// Threads.
    pub threads: usize,
    /// Multiply-adds of f32 in registers, 10^9 FLOP/s.
    pub f32_gflops: f64,
    /// The same of what matrices of bf16 are multiplied with.
    pub bf16_gflops: f64,
    /// Copying far more than the caches hold, reads and writes counted, 10^9 bytes/s.
    pub copy_gb_s: f64,
}

impl Machine {
    /// Measures, in about half a second.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn measure(threads: usize, isa: Isa) -> Result<Self> {
        let pool = Threads::new(threads)?;
        let once = || {
            let peak = peak::measure(&pool, isa, MEASURE);
            Self {
                threads,
                f32_gflops: peak.gflops,
                bf16_gflops: peak.bf16_gflops,
                copy_gb_s: peak.copy_gb_s,
            }
        };
        Ok((1..MEASUREMENTS).fold(once(), |best, _| best.max(once())))
    }

    /// The better of two measurements, one before the work and one after.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            threads: self.threads,
            f32_gflops: self.f32_gflops.max(other.f32_gflops),
            bf16_gflops: self.bf16_gflops.max(other.bf16_gflops),
            copy_gb_s: self.copy_gb_s.max(other.copy_gb_s),
        }
    }

    /// The multiply-add peak for matrices of this type.
    #[must_use]
    pub fn gflops(&self, storage: Storage) -> f64 {
        match storage {
            Storage::F32 => self.f32_gflops,
            Storage::Bf16 => self.bf16_gflops,
        }
    }
}

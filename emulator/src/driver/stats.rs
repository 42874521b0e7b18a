//! What `EMO_EMULATOR_STATS=1` prints when the program ends: a line for each kernel, and what was not freed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::Stats;

use super::memory::Allocations;
use super::state::driver;

/// Sums over the launches of each kernel.
pub(crate) struct Statistics(BTreeMap<String, Kernel>);

#[derive(Default)]
struct Kernel {
    launches: u64,
    instructions: u64,
    thread_instructions: u64,
    time: Duration,
}

/// So many allocations are listed; the rest is counted.
const LISTED: usize = 20;

impl Statistics {
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds one launch.
    pub(crate) fn add(&mut self, kernel: &str, stats: &Stats, time: Duration) {
        if !self.0.contains_key(kernel) {
            self.0.insert(kernel.to_owned(), Kernel::default());
        }
        let Some(sums) = self.0.get_mut(kernel) else { return };
        sums.launches += 1;
        sums.instructions += stats.warp_instructions;
        sums.thread_instructions += stats.thread_instructions;
        sums.time += time;
    }

    /// The table, kernels in the order of their time.
    fn report(&self, allocations: &Allocations) -> String {
        let mut text = String::from("emulator: launches  warp instr.  thread instr.      time  kernel\n");
        let mut kernels: Vec<_> = self.0.iter().collect();
        kernels.sort_by_key(|(_, kernel)| std::cmp::Reverse(kernel.time));
        for (name, kernel) in kernels {
            let Kernel { launches, instructions, thread_instructions, time } = kernel;
            let seconds = time.as_secs_f64();
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "emulator: {launches:8} {instructions:12} {thread_instructions:14} {seconds:8.3} s  {name}"
            );
        }
        let live = allocations.live();
        let (bytes, peak) = allocations.device_bytes();
        let _ = writeln!(
            text,
            "emulator: {} device allocations live, {bytes} bytes; peak {peak} bytes",
            live.len()
        );
        let more = live.len().saturating_sub(LISTED);
        for (address, size) in live.take(LISTED) {
            let _ = writeln!(text, "emulator:   {address:#x}: {size} bytes");
        }
        if more > 0 {
            let _ = writeln!(text, "emulator:   and {more} more");
        }
        let (count, bytes) = allocations.live_host();
        let _ = writeln!(text, "emulator: {count} page-locked host allocations live, {bytes} bytes");
        text
    }
}

/// Has the table printed when the process exits normally.
pub(crate) fn print_at_exit() {
    unsafe extern "C" {
        safe fn atexit(function: extern "C" fn()) -> i32;
    }
    extern "C" fn print() {
        let _ = std::panic::catch_unwind(|| {
            let driver = driver();
            eprint!("{}", driver.statistics.report(&driver.allocations));
        });
    }
    if atexit(print) != 0 {
        eprintln!("emulator: no statistics: atexit refused");
    }
}

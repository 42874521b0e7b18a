//! Peak memory, as the system counts it: pages of this process that lie in memory.

use std::fs;

/// A high-water mark that starts at what is resident now.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    before: u64,
}

impl Mark {
    /// Sets the mark. None where the system does not count, that is not on Linux.
    #[must_use]
    pub fn set() -> Option<Self> {
        // 5: "reset the peak resident set size" (proc_pid_clear_refs(5)).
        fs::write("/proc/self/clear_refs", "5").ok()?;
        Some(Self { before: field("VmRSS:")? })
    }

    /// The most bytes that were resident since, beyond those of the start.
    #[must_use]
    pub fn peak(self) -> Option<u64> {
        Some(field("VmHWM:")?.saturating_sub(self.before))
    }
}

/// A size in /proc/self/status, in bytes.
fn field(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_holds_what_was_touched_and_freed_again() {
        let mark = Mark::set().unwrap();
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        drop(touched);
        // Other tests of this process may free memory meanwhile, so the lower bound is loose.
        assert!(mark.peak().unwrap() > 32 << 20);
    }
}

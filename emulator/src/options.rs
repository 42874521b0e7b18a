//! How a device schedules threads and what it checks.

/// In which order the warps of a block run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Warps take turns in index order, a few hundred instructions each.
    RoundRobin,
    /// A warp chosen by a generator seeded with this value and the block index runs for a random number of instructions.
    Random(u64),
    /// A warp runs until it has to wait; then the next one. Brings out a missing barrier at the end of a loop.
    Greedy,
}

/// When the bytes of a `cp.async` arrive. The PTX ISA allows any moment between issue and wait, so both ends are worth a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncCopies {
    /// Copied at once when issued: finds a stage that is overwritten while it is still read.
    Early,
    /// Copied by the wait; the destination holds poison until then: finds a wait that is too lax.
    Late,
}

/// Settings of a [`Device`](crate::Device).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Order of the warps of a block.
    pub schedule: Schedule,
    /// When asynchronous copies land.
    pub async_copies: AsyncCopies,
    /// Whether reads of unwritten memory and shared-memory races are looked for. Bounds and alignment are checked always.
    pub checks: bool,
    /// Whether lanes of one warp that pass data through shared memory without `bar.warp.sync` count as racing, too. Takes effect with
    /// `checks`.
    pub lane_races: bool,
    /// Operating-system threads that execute blocks; at least one is used.
    pub threads: usize,
    /// Instructions that a warp may execute in one launch before the launch is stopped as a livelock.
    pub warp_instruction_limit: u64,
}

impl Default for Options {
    /// Round robin, early copies, all checks but `lane_races`, as many threads as the machine has cores (at most 8).
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
        Self {
            schedule: Schedule::RoundRobin,
            async_copies: AsyncCopies::Early,
            checks: true,
            lane_races: false,
            threads,
            warp_instruction_limit: 1_000_000_000,
        }
    }
}

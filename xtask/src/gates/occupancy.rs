//! How many blocks of a kernel a multiprocessor holds at once.
//!
//! Source: CUDA C++ Programming Guide, "Compute Capabilities": the limits of a multiprocessor, and what registers and shared
//! memory are handed out in.

/// A card and the limits of its multiprocessors.
pub struct Gpu {
    /// The target that its code is compiled for.
    pub target: &'static str,
    /// Shared memory of a multiprocessor, in bytes.
    shared: u32,
}

/// The cards that there is machine code for: A100, H100, B200.
pub const GPUS: [Gpu; 3] = [
    Gpu { target: "sm_80", shared: 164 << 10 },
    Gpu { target: "sm_90a", shared: 228 << 10 },
    Gpu { target: "sm_100a", shared: 228 << 10 },
];

const WARPS: u32 = 64;
const BLOCKS: u32 = 32;
const REGISTERS: u32 = 65536;
/// Registers are handed out to warps in pieces of this size, by each of the four schedulers from its quarter.
const REGISTER_PIECE: u32 = 256;
const SCHEDULERS: u32 = 4;
/// Shared memory that the system takes of each block, and the pieces it is handed out in.
const SHARED_RESERVED: u32 = 1024;
const SHARED_PIECE: u32 = 128;

impl Gpu {
    /// Blocks that a multiprocessor holds at once.
    pub fn blocks(&self, threads: u32, registers: u32, shared: u32) -> u32 {
        let warps = threads.div_ceil(32).max(1);
        let a_warp = (registers * 32).next_multiple_of(REGISTER_PIECE).max(REGISTER_PIECE);
        let by_registers = REGISTERS / SCHEDULERS / a_warp * SCHEDULERS / warps;
        let by_shared = self.shared / (shared + SHARED_RESERVED).next_multiple_of(SHARED_PIECE);
        BLOCKS.min(WARPS / warps).min(by_registers).min(by_shared)
    }

    /// Warps at once, as a share of those that there is room for.
    pub fn occupancy(&self, threads: u32, registers: u32, shared: u32) -> f64 {
        f64::from(self.blocks(threads, registers, shared) * threads.div_ceil(32)) / f64::from(WARPS)
    }
}

#[cfg(test)]
mod tests {
    use super::GPUS;

    /// Against `cudaOccMaxActiveBlocksPerMultiprocessor` of cuda_occupancy.h.
    #[test]
    fn blocks_are_those_of_the_occupancy_calculator() {
        let [a100, h100, b200] = &GPUS;
        assert_eq!(a100.blocks(128, 78, 20480), 6);
        assert_eq!(h100.blocks(128, 78, 20480), 6);
        assert_eq!(b200.blocks(128, 78, 20480), 6);
        assert_eq!((a100.blocks(128, 32, 40000), h100.blocks(128, 32, 40000)), (4, 5));
        assert_eq!(a100.blocks(1024, 64, 0), 1);
        assert_eq!(a100.blocks(32, 16, 0), 32);
        assert_eq!(a100.blocks(128, 32, 170_000), 0);
        assert!((a100.occupancy(128, 78, 20480) - 0.375).abs() < 1e-12);
    }
}

//! How many blocks of a kernel a multiprocessor holds: threads, blocks and shared memory are counted. Registers are
//! not, since PTX does not say how many a GPU would give.

use super::attributes::{
    MULTIPROCESSOR_BLOCKS, MULTIPROCESSOR_THREADS, MULTIPROCESSORS, SHARED_MULTIPROCESSOR, SHARED_RESERVED,
};
use super::entry::{Out, exports};
use super::error::{Code, Result};
use super::module::Function;
use super::state::{Driver, Handle, driver};

/// Threads are given out by warps of so many.
const WARP: u32 = 32;

/// Blocks of `threads` threads and `dynamic` bytes that fit a multiprocessor.
fn resident_blocks(function: &Function, threads: u32, dynamic: usize) -> Result<u32> {
    if threads == 0 {
        return Err(Code::INVALID_VALUE);
    }
    if threads > function.block_threads()? || dynamic > function.dynamic_limit as usize {
        return Ok(0);
    }
    let shared = function.entry()?.shared_bytes + dynamic as u32 + SHARED_RESERVED;
    let by_threads = MULTIPROCESSOR_THREADS / threads.next_multiple_of(WARP);
    Ok(by_threads.min(SHARED_MULTIPROCESSOR / shared).min(MULTIPROCESSOR_BLOCKS))
}

impl Driver {
    fn resident_blocks(&self, function: Handle, threads: i32, dynamic: usize) -> Result<i32> {
        self.context()?;
        let threads = u32::try_from(threads).map_err(|_| Code::INVALID_VALUE)?;
        Ok(resident_blocks(self.functions.get(function)?, threads, dynamic)? as i32)
    }
}

/// Grid and block size with the most resident threads; of equals the larger block.
fn potential_block_size(
    function: Handle,
    shared_of: Option<extern "C" fn(i32) -> usize>,
    dynamic: usize,
    limit: i32,
) -> Result<(i32, i32)> {
    let largest = {
        let driver = driver();
        driver.context()?;
        driver.functions.get(function)?.block_threads()?
    };
    let largest = if limit > 0 { largest.min(limit as u32) } else { largest };
    let mut best = (0, 0, 0);
    for threads in (1..=largest.div_ceil(WARP)).rev().map(|warps| (warps * WARP).min(largest)) {
        // The program's function is called with the driver unlocked.
        let dynamic = shared_of.map_or(dynamic, |shared_of| shared_of(threads as i32));
        let blocks = driver().resident_blocks(function, threads as i32, dynamic)?;
        if blocks * threads as i32 > best.0 {
            best = (blocks * threads as i32, blocks * MULTIPROCESSORS, threads as i32);
        }
    }
    if best.0 == 0 { Err(Code::INVALID_VALUE) } else { Ok((best.1, best.2)) }
}

exports! {
    /// Blocks that fit a multiprocessor.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: Out<i32>, function: Handle, threads: i32,
        dynamic: usize) [driver] {
        blocks.set(driver.resident_blocks(function, threads, dynamic)?)
    }

    /// Blocks that fit a multiprocessor; the flags concern caches.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks: Out<i32>, function: Handle, threads: i32,
        dynamic: usize, _flags: u32) [driver] {
        blocks.set(driver.resident_blocks(function, threads, dynamic)?)
    }

    /// Grid and block size that fill the device.
    fn cuOccupancyMaxPotentialBlockSize(grid: Out<i32>, block: Out<i32>, function: Handle,
        shared_of: Option<extern "C" fn(i32) -> usize>, dynamic: usize, limit: i32) [] {
        let found = potential_block_size(function, shared_of, dynamic, limit)?;
        grid.set(found.0)?;
        block.set(found.1)
    }

    /// Grid and block size that fill the device; the flags concern caches.
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(grid: Out<i32>, block: Out<i32>, function: Handle,
        shared_of: Option<extern "C" fn(i32) -> usize>, dynamic: usize, limit: i32, _flags: u32) [] {
        let found = potential_block_size(function, shared_of, dynamic, limit)?;
        grid.set(found.0)?;
        block.set(found.1)
    }

    /// Dynamic shared memory that each of so many blocks of a multiprocessor may have.
    fn cuOccupancyAvailableDynamicSMemPerBlock(bytes: Out<usize>, function: Handle, blocks: i32,
        threads: i32) [driver] {
        let possible = driver.resident_blocks(function, threads, 0)?;
        let blocks = u32::try_from(blocks).ok().filter(|&count| count > 0 && count <= possible as u32);
        let share = SHARED_MULTIPROCESSOR / blocks.ok_or(Code::INVALID_VALUE)?;
        let function = driver.functions.get(function)?;
        let left = share.saturating_sub(SHARED_RESERVED + function.entry()?.shared_bytes);
        bytes.set(left.min(function.dynamic_limit) as usize)
    }
}

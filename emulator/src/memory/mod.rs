//! Device memory: allocations in one sparse address space, with a record of which bytes were ever written.
//!
//! Addresses are never handed out twice and lie at least 4 KiB apart, so a use after free and an overrun both miss every live allocation.
//! Fresh memory holds `0xFF` bytes (a NaN in every float format) and counts as unwritten.

mod allocation;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

pub(crate) use allocation::Allocation;

/// Addresses of allocations start here, far above the windows of shared, local and parameter memory.
const FIRST_ADDRESS: u64 = 0x7000_0000_0000;
/// Every allocation starts at a multiple of this.
const ALIGNMENT: u64 = 256;
/// Unmapped bytes behind every allocation, at least.
const GUARD: u64 = 4096;
/// How many freed allocations are remembered for messages.
const REMEMBERED: usize = 1 << 14;

/// Why a memory operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The device has not so many bytes left.
    #[error("out of memory: {requested} bytes requested, {free} of {total} free")]
    OutOfMemory {
        /// Bytes asked for.
        requested: u64,
        /// Bytes left.
        free: u64,
        /// Bytes of the device.
        total: u64,
    },
    /// A range that does not lie inside one live allocation.
    #[error("{bytes} bytes at {address:#x} are out of bounds: {detail}")]
    OutOfBounds {
        /// First byte.
        address: u64,
        /// Length of the range.
        bytes: u64,
        /// What lies nearest.
        detail: String,
    },
    /// A pointer that `alloc` did not return, or that was freed before.
    #[error("{address:#x} cannot be freed: {detail}")]
    InvalidFree {
        /// The pointer.
        address: u64,
        /// What is wrong with it.
        detail: String,
    },
}

/// The memory of one device. All methods take `&self`; concurrent use is safe.
#[derive(Debug)]
pub struct Memory {
    total: u64,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<u64, Arc<Allocation>>,
    freed: BTreeMap<u64, u64>,
    used: u64,
    next: u64,
}

impl Memory {
    /// Memory of `total` bytes, all free.
    pub fn new(total: u64) -> Self {
        Self { total, state: RwLock::new(State { next: FIRST_ADDRESS, ..State::default() }) }
    }

    /// Allocates `bytes` bytes, which count as unwritten, at a multiple of 256. Zero bytes give an address that cannot be accessed.
    pub fn alloc(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.insert(bytes, false)
    }

    /// As [`alloc`](Self::alloc), for a module's constants: kernels may read but not write it.
    pub(crate) fn alloc_constant(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.insert(bytes, true)
    }

    fn insert(&self, bytes: u64, constant: bool) -> Result<u64, MemoryError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let free = self.total.saturating_sub(state.used);
        let refused = MemoryError::OutOfMemory { requested: bytes, free, total: self.total };
        if bytes > free {
            return Err(refused);
        }
        let address = state.next;
        let allocation = Allocation::new(address, bytes as usize, constant).ok_or(refused)?;
        state.next = (address + bytes + GUARD).next_multiple_of(ALIGNMENT);
        state.used += bytes;
        state.live.insert(address, Arc::new(allocation));
        Ok(address)
    }

    /// Frees what [`alloc`](Self::alloc) returned.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let Some(allocation) = state.live.remove(&address) else {
            let detail = match state.freed.get(&address) {
                Some(_) => "it was freed before".to_owned(),
                None => state.describe(address),
            };
            return Err(MemoryError::InvalidFree { address, detail });
        };
        let bytes = allocation.len() as u64;
        state.used -= bytes;
        if state.freed.len() >= REMEMBERED {
            state.freed.pop_first();
        }
        state.freed.insert(address, bytes);
        Ok(())
    }

    /// Copies bytes to the host. Unwritten bytes read as `0xFF`.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (allocation, offset) = self.locate(address, bytes.len() as u64)?;
        allocation.copy_out(offset, bytes);
        Ok(())
    }

    /// Copies bytes from the host.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (allocation, offset) = self.locate(address, bytes.len() as u64)?;
        allocation.copy_in(offset, bytes);
        Ok(())
    }

    /// Writes `pattern` `count` times, one after the other.
    pub fn fill(&self, address: u64, pattern: &[u8], count: u64) -> Result<(), MemoryError> {
        let bytes = (pattern.len() as u64).saturating_mul(count);
        if bytes == 0 {
            return Ok(());
        }
        let (allocation, offset) = self.locate(address, bytes)?;
        let per_chunk = (4096 / pattern.len()).max(1);
        let chunk = pattern.repeat(per_chunk);
        let mut done = 0;
        while done < bytes as usize {
            let length = chunk.len().min(bytes as usize - done);
            allocation.copy_in(offset + done, &chunk[..length]);
            done += length;
        }
        allocation.note_written(offset, bytes as usize);
        Ok(())
    }

    /// Copies bytes inside the device, and with them the record of what was written. The ranges may overlap.
    pub fn copy(&self, destination: u64, source: u64, bytes: u64) -> Result<(), MemoryError> {
        if bytes == 0 {
            return Ok(());
        }
        let (from, from_offset) = self.locate(source, bytes)?;
        let (to, to_offset) = self.locate(destination, bytes)?;
        let mut data = vec![0; bytes as usize];
        from.copy_out(from_offset, &mut data);
        let written = from.written_bytes(from_offset, data.len());
        to.copy_in(to_offset, &data);
        if let Some(written) = written {
            to.set_written_bytes(to_offset, &written);
        }
        Ok(())
    }

    /// First address and length of the live allocation that holds `address`.
    pub fn allocation_of(&self, address: u64) -> Option<(u64, u64)> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let (&start, allocation) = state.live.range(..=address).next_back()?;
        let length = allocation.len() as u64;
        (address == start || address - start < length).then_some((start, length))
    }

    /// Whether every byte of the range was written since it was allocated.
    pub fn is_initialised(&self, address: u64, bytes: u64) -> Result<bool, MemoryError> {
        if bytes == 0 {
            return Ok(true);
        }
        let (allocation, offset) = self.locate(address, bytes)?;
        Ok(allocation.is_written(offset, bytes as usize))
    }

    /// Bytes in live allocations.
    pub fn used(&self) -> u64 {
        self.state.read().unwrap_or_else(PoisonError::into_inner).used
    }

    /// Bytes of the device.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn locate(&self, address: u64, bytes: u64) -> Result<(Arc<Allocation>, usize), MemoryError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((&start, allocation)) = state.live.range(..=address).next_back() {
            let offset = address - start;
            let length = allocation.len() as u64;
            if offset < length && bytes <= length - offset {
                return Ok((Arc::clone(allocation), offset as usize));
            }
        }
        Err(MemoryError::OutOfBounds { address, bytes, detail: state.describe(address) })
    }

    /// What lies nearest to an address, for messages.
    pub(crate) fn describe(&self, address: u64) -> String {
        self.state.read().unwrap_or_else(PoisonError::into_inner).describe(address)
    }

    /// The live allocations in the order of their addresses.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Allocation>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).live.values().cloned().collect()
    }
}

impl State {
    fn describe(&self, address: u64) -> String {
        let live = self.live.range(..=address).next_back().map(|(&start, a)| (start, a.len() as u64));
        let freed = self.freed.range(..=address).next_back().map(|(&start, &bytes)| (start, bytes));
        if let Some((start, bytes)) = freed
            && address - start < bytes
            && live.is_none_or(|(other, _)| other < start)
        {
            return format!("byte {} of the freed allocation {start:#x} of {bytes} bytes", address - start);
        }
        match live {
            Some((start, bytes)) if address - start < bytes => {
                format!("byte {} of allocation {start:#x} of {bytes} bytes", address - start)
            }
            Some((start, bytes)) => {
                format!(
                    "{} bytes behind the end of allocation {start:#x} of {bytes} bytes",
                    address - start - bytes
                )
            }
            None => match self.live.first_key_value() {
                Some((start, _)) => format!("below the lowest allocation {start:#x}"),
                None => "nothing is allocated".to_owned(),
            },
        }
    }
}

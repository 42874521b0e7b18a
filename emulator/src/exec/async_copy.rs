//! `cp.async`: copies from global to shared memory that end at a wait (PTX ISA 9.7.9.25.3).

use super::access::Addresses;
use super::block::Env;
use super::code::{Address, Slot};
use super::lanes::lanes;
use super::shared::Touch;
use super::warp::Warp;
use crate::fault::{Fault, Space};
use crate::options::AsyncCopies;

/// Bytes that one lane copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopySize {
    B4,
    B8,
    B16,
}

impl CopySize {
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::B4 => 4,
            Self::B8 => 8,
            Self::B16 => 16,
        }
    }
}

/// What one instruction copies.
#[derive(Debug)]
struct Copy {
    mask: u32,
    bytes: u32,
    to: [u32; 32],
    from: Addresses,
    /// Bytes read; zeros fill the rest.
    source_bytes: [u32; 32],
    /// Number of the group of each lane.
    group: [u32; 32],
}

/// Copies of a warp that no wait has ended.
#[derive(Debug, Default)]
pub(crate) struct CopyQueue {
    copies: Vec<Copy>,
    /// Groups committed so far, by lane.
    committed: Vec<u32>,
}

impl CopyQueue {
    pub(super) fn clear(&mut self) {
        self.copies.clear();
        self.committed.clear();
        self.committed.resize(32, 0);
    }

    pub(super) fn commit(&mut self, mask: u32) {
        for lane in lanes(mask) {
            self.committed[lane] += 1;
        }
    }
}

impl Env<'_> {
    /// Starts a copy. Both ends are checked at once; the bytes move now or at the wait.
    pub(super) fn copy_async(
        &mut self,
        warp: &mut Warp,
        size: CopySize,
        (to, from): (Address, Address),
        (source_bytes, ignored): (Option<Slot>, u32),
        mask: u32,
    ) -> Result<(), Box<Fault>> {
        let bytes = size.bytes();
        let (to, from) = (warp.registers.addresses(to), warp.registers.addresses(from));
        let wanted = source_bytes.map_or([bytes; 32], |slot| *warp.registers.word(slot));
        let mut source_bytes = [0; 32];
        let mut reading = 0;
        for lane in lanes(mask & !ignored) {
            source_bytes[lane] = wanted[lane].min(bytes);
            reading |= u32::from(source_bytes[lane] > 0) << lane;
        }
        // Lanes that read only part of the source are held to that part, and to the alignment of the whole.
        let whole = lanes(reading).filter(|&i| source_bytes[i] == bytes).fold(0, |m, i| m | 1 << i);
        self.check(Space::Global, &from, whole, bytes, warp, Touch::Read)?;
        for lane in lanes(reading & !whole) {
            if from[lane] % u64::from(bytes) != 0 {
                let site = super::access::at_lane(lane);
                return Err(Box::new(Fault::Misaligned {
                    site,
                    space: Space::Global,
                    address: from[lane],
                    bytes,
                }));
            }
            for byte in 0..u64::from(source_bytes[lane]) {
                let single = [from[lane].wrapping_add(byte); 32];
                self.check(Space::Global, &single, 1 << lane, 1, warp, Touch::Read)?;
            }
        }
        self.check(Space::Shared, &to, mask, bytes, warp, Touch::Async)?;
        let group = std::array::from_fn(|lane| warp.copies.committed[lane]);
        let copy = Copy { mask, bytes, to: to.map(|at| at as u32), from, source_bytes, group };
        match self.launch.options.async_copies {
            AsyncCopies::Early => self.transfer(&copy, mask),
            AsyncCopies::Late => {
                for lane in lanes(mask) {
                    self.shared.slice_mut(copy.to[lane] as usize, bytes as usize).fill(0xFF);
                }
            }
        }
        warp.copies.copies.push(copy);
        Ok(())
    }

    fn transfer(&mut self, copy: &Copy, mask: u32) {
        let bytes = copy.bytes as usize;
        for lane in lanes(mask) {
            let mut data = [0; 16];
            let (from, length) = (copy.from[lane], copy.source_bytes[lane] as usize);
            if length > 0
                && let Some(allocation) = self.launch.globals.find(from, &mut self.hint)
            {
                let offset = (from - allocation.start()) as usize;
                if length == bytes {
                    for (i, word) in data[..bytes].chunks_exact_mut(4).enumerate() {
                        word.copy_from_slice(&allocation.load32(offset + 4 * i).to_le_bytes());
                    }
                } else {
                    for (i, byte) in data[..length].iter_mut().enumerate() {
                        *byte = allocation.load8(offset + i);
                    }
                }
            }
            let to = copy.to[lane] as usize;
            match bytes {
                16 => self.shared.store(to, data),
                _ => self.shared.slice_mut(to, bytes).copy_from_slice(&data[..bytes]),
            }
        }
    }

    /// Ends every copy of the lanes of `mask` but those of the last `pending` groups and those of no group; `None` ends all.
    pub(super) fn wait_copies(&mut self, warp: &mut Warp, pending: Option<u32>, mask: u32) {
        let mut copies = std::mem::take(&mut warp.copies.copies);
        for copy in &mut copies {
            let ended = lanes(copy.mask & mask)
                .filter(|&lane| match pending {
                    Some(pending) => copy.group[lane] + pending < warp.copies.committed[lane],
                    None => true,
                })
                .fold(0, |m, lane| m | 1 << lane);
            if ended == 0 {
                continue;
            }
            if self.launch.options.async_copies == AsyncCopies::Late {
                self.transfer(copy, ended);
            }
            for lane in lanes(ended) {
                self.shared.land((warp.index, lane), copy.to[lane] as usize, copy.bytes as usize);
            }
            copy.mask &= !ended;
        }
        copies.retain(|copy| copy.mask != 0);
        warp.copies.copies = copies;
    }
}

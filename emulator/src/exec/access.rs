//! Loads and stores of a warp (PTX ISA 9.7.9): addresses, bounds, alignment, and the memory of each space.

use std::sync::Arc;

use super::block::Env;
use super::code::{Access, Address, Base, Slot};
use super::lanes::{Registers, lanes};
use super::shared::{Conflict, Touch};
use super::warp::Warp;
use crate::fault::{Fault, Site, Space};
use crate::memory::Allocation;

/// Generic addresses of shared, local and parameter memory start at these.
pub(crate) const SHARED_WINDOW: u64 = 1 << 40;
pub(crate) const LOCAL_WINDOW: u64 = 2 << 40;
pub(crate) const PARAM_WINDOW: u64 = 3 << 40;
/// Size of a window.
const WINDOW: u64 = 1 << 32;

/// Start of a space's window.
pub(crate) fn window(space: Space) -> u64 {
    match space {
        Space::Shared => SHARED_WINDOW,
        Space::Local => LOCAL_WINDOW,
        Space::Param => PARAM_WINDOW,
        _ => 0,
    }
}

/// The space of a generic address.
pub(crate) fn space_of(address: u64) -> Space {
    for space in [Space::Shared, Space::Local, Space::Param] {
        if address.wrapping_sub(window(space)) < WINDOW {
            return space;
        }
    }
    Space::Global
}

/// A place known by its lane only; the block fills in the rest.
pub(crate) fn at_lane(lane: usize) -> Box<Site> {
    Box::new(Site { thread: [lane as u32, 0, 0], ..Site::default() })
}

pub(crate) type Addresses = [u64; 32];

impl Registers {
    #[inline(always)]
    pub(super) fn addresses(&self, address: Address) -> Addresses {
        let offset = address.offset as u64;
        match address.base {
            Base::None => [offset; 32],
            Base::Word(slot) => {
                let base = self.word(slot);
                std::array::from_fn(|i| u64::from(base[i]).wrapping_add(offset))
            }
            Base::Long(slot) => {
                let base = self.long(slot);
                std::array::from_fn(|i| base[i].wrapping_add(offset))
            }
        }
    }

    /// Writes one loaded element to the lanes of `mask`.
    #[inline(always)]
    fn deliver(&mut self, access: Access, d: Option<Slot>, mask: u32, mut value: impl FnMut(usize) -> u64) {
        let Some(d) = d else { return };
        let unused = 64 - 8 * u32::from(access.bytes);
        let mut extended = |i| match access.signed {
            true => ((value(i) << unused) as i64 >> unused) as u64,
            false => value(i),
        };
        match (access.long, access.half) {
            (true, _) => self.set_long(d, mask, extended),
            (false, true) => self.set_word(d, mask, |i| extended(i) as u32 & 0xFFFF),
            (false, false) => self.set_word(d, mask, |i| extended(i) as u32),
        }
    }

    #[inline(always)]
    fn stored(&self, access: Access, a: Slot, lane: usize) -> u64 {
        match access.long {
            true => self.long(a)[lane],
            false => u64::from(self.word(a)[lane]),
        }
    }
}

/// The live allocations at the time of a launch.
#[derive(Debug, Default)]
pub(crate) struct Globals {
    pub(crate) allocations: Vec<Arc<Allocation>>,
}

impl Globals {
    /// The allocation that `address` lies in; `hint` is the index of the one found last.
    #[inline(always)]
    pub(crate) fn find(&self, address: u64, hint: &mut usize) -> Option<&Allocation> {
        let inside =
            |allocation: &Allocation| address.wrapping_sub(allocation.start()) < allocation.len() as u64;
        if let Some(allocation) = self.allocations.get(*hint)
            && inside(allocation)
        {
            return Some(allocation);
        }
        let after = self.allocations.partition_point(|allocation| allocation.start() <= address);
        let allocation = self.allocations.get(after.checked_sub(1)?)?;
        *hint = after - 1;
        inside(allocation).then_some(allocation)
    }
}

/// Calls `$body` for every space that the lanes' generic addresses lie in, with the lanes and the addresses inside the space.
macro_rules! by_space {
    ($address:expr, $addresses:ident, $mask:expr, |$space:ident, $lanes:ident| $body:expr) => {
        if $address.space == Space::Generic {
            let all = $mask;
            let first = space_of($addresses[all.trailing_zeros() as usize & 31]);
            let same = lanes(all).all(|i| space_of($addresses[i]) == first);
            let candidates = [Space::Global, Space::Shared, Space::Local, Space::Param];
            for $space in candidates.into_iter().filter(|&space| !same || space == first) {
                let $lanes =
                    lanes(all).filter(|&i| space_of($addresses[i]) == $space).fold(0, |m, i| m | 1 << i);
                if $lanes != 0 {
                    for i in lanes($lanes) {
                        $addresses[i] -= window($space);
                    }
                    $body;
                    for i in lanes($lanes) {
                        $addresses[i] = $addresses[i].wrapping_add(window($space));
                    }
                }
            }
        } else {
            let ($space, $lanes) = ($address.space, $mask);
            $body
        }
    };
}
pub(super) use by_space;

impl Env<'_> {
    pub(super) fn load(
        &mut self,
        warp: &mut Warp,
        access: Access,
        d: [Option<Slot>; 4],
        from: Address,
        mask: u32,
    ) -> Result<(), Box<Fault>> {
        let mut addresses = warp.registers.addresses(from);
        let (bytes, count) = (usize::from(access.bytes), usize::from(access.count));
        by_space!(from, addresses, mask, |space, lanes| {
            self.check(space, &addresses, lanes, (bytes * count) as u32, warp, Touch::Read)?;
            for (k, &d) in d.iter().enumerate().take(count) {
                let at = |i: usize| addresses[i] as usize + k * bytes;
                let registers = &mut warp.registers;
                match space {
                    Space::Shared => {
                        let shared = &self.shared;
                        match bytes {
                            1 => {
                                registers.deliver(access, d, lanes, |i| u64::from(shared.load::<1>(at(i))[0]))
                            }
                            2 => registers.deliver(access, d, lanes, |i| {
                                u64::from(u16::from_le_bytes(shared.load(at(i))))
                            }),
                            4 => registers.deliver(access, d, lanes, |i| {
                                u64::from(u32::from_le_bytes(shared.load(at(i))))
                            }),
                            _ => registers
                                .deliver(access, d, lanes, |i| u64::from_le_bytes(shared.load(at(i)))),
                        }
                    }
                    Space::Local => {
                        let local = &warp.local;
                        registers.deliver(access, d, lanes, |i| local.load(i, at(i), bytes));
                    }
                    Space::Param => {
                        let params = self.launch.params;
                        registers.deliver(access, d, lanes, |i| {
                            params[at(i)..at(i) + bytes]
                                .iter()
                                .rev()
                                .fold(0, |v, &byte| v << 8 | u64::from(byte))
                        });
                    }
                    _ => {
                        let (globals, hint) = (&self.launch.globals, &mut self.hint);
                        let lowest = addresses[lanes.trailing_zeros() as usize & 31];
                        let Some(mut allocation) = globals.find(lowest, hint) else { continue };
                        let mut value = |i: usize| {
                            let address = at(i) as u64;
                            let mut offset = address.wrapping_sub(allocation.start());
                            if offset >= allocation.len() as u64 {
                                allocation = globals.find(address, hint).unwrap_or(allocation);
                                offset = address.wrapping_sub(allocation.start());
                            }
                            let offset = offset as usize;
                            match bytes {
                                1 => u64::from(allocation.load8(offset)),
                                2 => u64::from(allocation.load16(offset)),
                                4 => u64::from(allocation.load32(offset)),
                                _ => allocation.load64(offset),
                            }
                        };
                        registers.deliver(access, d, lanes, &mut value);
                    }
                }
            }
        });
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        warp: &mut Warp,
        access: Access,
        a: [Slot; 4],
        to: Address,
        mask: u32,
    ) -> Result<(), Box<Fault>> {
        let mut addresses = warp.registers.addresses(to);
        let (bytes, count) = (usize::from(access.bytes), usize::from(access.count));
        by_space!(to, addresses, mask, |space, among| {
            self.check(space, &addresses, among, (bytes * count) as u32, warp, Touch::Write)?;
            for (k, &a) in a.iter().enumerate().take(count) {
                for i in lanes(among) {
                    let at = addresses[i] as usize + k * bytes;
                    let value = warp.registers.stored(access, a, i);
                    match space {
                        Space::Shared => match bytes {
                            1 => self.shared.store(at, [value as u8]),
                            2 => self.shared.store(at, (value as u16).to_le_bytes()),
                            4 => self.shared.store(at, (value as u32).to_le_bytes()),
                            _ => self.shared.store(at, value.to_le_bytes()),
                        },
                        Space::Local => warp.local.store(i, at, bytes, value),
                        _ => {
                            let Some(allocation) = self.launch.globals.find(at as u64, &mut self.hint) else {
                                continue;
                            };
                            let offset = at - allocation.start() as usize;
                            match bytes {
                                1 => allocation.store8(offset, value as u8),
                                2 => allocation.store16(offset, value as u16),
                                4 => allocation.store32(offset, value as u32),
                                _ => allocation.store64(offset, value),
                            }
                        }
                    }
                }
            }
        });
        Ok(())
    }

    /// Bounds, alignment, and what the access finds or changes in the records of its space.
    #[inline(always)]
    pub(super) fn check(
        &mut self,
        space: Space,
        addresses: &Addresses,
        mask: u32,
        bytes: u32,
        warp: &Warp,
        touch: Touch,
    ) -> Result<(), Box<Fault>> {
        let misaligned = lanes(mask).fold(0, |all, i| all | addresses[i]) & u64::from(bytes - 1);
        if misaligned != 0 {
            return Err(misalignment(space, addresses, mask, bytes));
        }
        let length = u64::from(bytes);
        match space {
            Space::Global | Space::Const | Space::Generic => {
                for i in lanes(mask) {
                    let address = addresses[i];
                    let Some(allocation) = self.launch.globals.find(address, &mut self.hint) else {
                        return Err(self.out_of_bounds(space, address, bytes, i));
                    };
                    let offset = address - allocation.start();
                    if offset + length > allocation.len() as u64
                        || touch != Touch::Read && allocation.is_constant()
                    {
                        return Err(self.out_of_bounds(space, address, bytes, i));
                    }
                    let reads = matches!(touch, Touch::Read | Touch::Atomic);
                    if reads
                        && self.launch.options.checks
                        && !allocation.is_complete()
                        && !allocation.is_written(offset as usize, bytes as usize)
                    {
                        return Err(uninitialised(space, address, bytes, i));
                    }
                }
            }
            Space::Shared => {
                for i in lanes(mask) {
                    let address = addresses[i];
                    if address >= self.shared.len() as u64 || address + length > self.shared.len() as u64 {
                        return Err(self.out_of_bounds(space, address, bytes, i));
                    }
                    if let Err(conflict) =
                        self.shared.touch((warp.index, i), address as usize, bytes as usize, touch)
                    {
                        return Err(conflicting(conflict, address, bytes, i));
                    }
                }
            }
            Space::Local => {
                for i in lanes(mask) {
                    let address = addresses[i];
                    let size = self.launch.code.local_bytes;
                    if address >= u64::from(size) || address + length > u64::from(size) {
                        return Err(self.out_of_bounds(space, address, bytes, i));
                    }
                    let (at, checks) = (address as usize, self.launch.options.checks);
                    if touch == Touch::Read && checks && !warp.local.is_written(i, at, bytes as usize) {
                        return Err(uninitialised(space, address, bytes, i));
                    }
                }
            }
            Space::Param => {
                for i in lanes(mask) {
                    let address = addresses[i];
                    let size = self.launch.params.len() as u64;
                    if touch != Touch::Read || address >= size || address + length > size {
                        return Err(self.out_of_bounds(space, address, bytes, i));
                    }
                }
            }
        }
        Ok(())
    }

    #[cold]
    pub(super) fn out_of_bounds(&self, space: Space, address: u64, bytes: u32, lane: usize) -> Box<Fault> {
        let detail = match space {
            Space::Shared => format!("the block has {} bytes", self.shared.len()),
            Space::Local => format!("the thread has {} bytes", self.launch.code.local_bytes),
            Space::Param => format!("the entry has {} bytes, which are read only", self.launch.params.len()),
            _ => self.launch.memory.describe(address),
        };
        Box::new(Fault::OutOfBounds { site: at_lane(lane), space, address, bytes, detail })
    }
}

#[cold]
fn misalignment(space: Space, addresses: &Addresses, mask: u32, bytes: u32) -> Box<Fault> {
    let lane = lanes(mask).find(|&i| !addresses[i].is_multiple_of(u64::from(bytes))).unwrap_or(0);
    Box::new(Fault::Misaligned { site: at_lane(lane), space, address: addresses[lane], bytes })
}

#[cold]
fn uninitialised(space: Space, address: u64, bytes: u32, lane: usize) -> Box<Fault> {
    Box::new(Fault::Uninitialised { site: at_lane(lane), space, address, bytes })
}

/// A conflict in shared memory as a fault.
#[cold]
pub(super) fn conflicting(conflict: Conflict, address: u64, bytes: u32, lane: usize) -> Box<Fault> {
    let site = at_lane(lane);
    Box::new(match conflict {
        Conflict::Unwritten => Fault::Uninitialised { site, space: Space::Shared, address, bytes },
        Conflict::InFlight { detail } => Fault::AsyncInFlight { site, address, detail },
        Conflict::Race { detail } => Fault::Race { site, address, detail },
    })
}

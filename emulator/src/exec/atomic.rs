//! `atom` and `red` (PTX ISA 9.7.13.5, 9.7.13.7): lanes one after the other, blocks through the host's atomics.

use super::access::{by_space, space_of, window};
use super::block::Env;
use super::code::{Address, Atomic, Half, Slot};
use super::lanes::lanes;
use super::rounding::{Direction, format_of, narrow, sum_to_odd, widen};
use super::shared::Touch;
use super::warp::Warp;
use crate::fault::{Fault, Space};

fn add_half(kind: Half, old: u16, value: u16) -> u32 {
    let sum = sum_to_odd(f64::from(widen(old, kind)), f64::from(widen(value, kind)));
    narrow(sum, format_of(kind), Direction::NearestEven)
}

fn changed32(op: Atomic, old: u32, b: u32, c: u32) -> u32 {
    match op {
        Atomic::Add => old.wrapping_add(b),
        Atomic::MinU => old.min(b),
        Atomic::MaxU => old.max(b),
        Atomic::MinS => (old as i32).min(b as i32) as u32,
        Atomic::MaxS => (old as i32).max(b as i32) as u32,
        Atomic::And => old & b,
        Atomic::Or => old | b,
        Atomic::Xor => old ^ b,
        Atomic::Exch => b,
        Atomic::Cas => {
            if old == b {
                c
            } else {
                old
            }
        }
        Atomic::Inc => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        Atomic::Dec => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        Atomic::AddF32 => (f32::from_bits(old) + f32::from_bits(b)).to_bits(),
        Atomic::AddHalves(kind) => {
            add_half(kind, old as u16, b as u16) | add_half(kind, (old >> 16) as u16, (b >> 16) as u16) << 16
        }
        Atomic::AddHalf(kind) => add_half(kind, old as u16, b as u16),
        // 64 bits only.
        Atomic::AddF64 => old,
    }
}

fn changed64(op: Atomic, old: u64, b: u64, c: u64) -> u64 {
    match op {
        Atomic::Add => old.wrapping_add(b),
        Atomic::MinU => old.min(b),
        Atomic::MaxU => old.max(b),
        Atomic::MinS => (old as i64).min(b as i64) as u64,
        Atomic::MaxS => (old as i64).max(b as i64) as u64,
        Atomic::And => old & b,
        Atomic::Or => old | b,
        Atomic::Xor => old ^ b,
        Atomic::Exch => b,
        Atomic::Cas => {
            if old == b {
                c
            } else {
                old
            }
        }
        Atomic::Inc => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        Atomic::Dec => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        Atomic::AddF64 => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        // 32 and 16 bits only.
        Atomic::AddF32 | Atomic::AddHalves(_) | Atomic::AddHalf(_) => old,
    }
}

/// 16 bits inside the aligned word that holds them.
fn changed16(op: Atomic, word: u32, upper: bool, b: u32, c: u32) -> u32 {
    let shift = if upper { 16 } else { 0 };
    let new = changed32(op, word >> shift & 0xFFFF, b & 0xFFFF, c & 0xFFFF) & 0xFFFF;
    word & !(0xFFFF << shift) | new << shift
}

impl Env<'_> {
    pub(super) fn atomic(
        &mut self,
        warp: &mut Warp,
        (op, long, bytes): (Atomic, bool, u8),
        d: Option<Slot>,
        at: Address,
        (b, c): (Slot, Slot),
        mask: u32,
    ) -> Result<(), Box<Fault>> {
        let mut addresses = warp.registers.addresses(at);
        // An exchange of what nothing wrote is a first write.
        let touch = if op == Atomic::Exch && d.is_none() { Touch::Write } else { Touch::Atomic };
        by_space!(at, addresses, mask, |space, among| {
            self.check(space, &addresses, among, u32::from(bytes), warp, touch)?;
            for i in lanes(among) {
                let address = addresses[i];
                let operands = |slot: Slot| match long {
                    true => warp.registers.long(slot)[i],
                    false => u64::from(warp.registers.word(slot)[i]),
                };
                let (b, c) = (operands(b), operands(c));
                let (upper, word) = (address & 2 != 0, (address & !3) as usize);
                let old = match space {
                    Space::Shared => match bytes {
                        8 => {
                            let old = u64::from_le_bytes(self.shared.load(address as usize));
                            self.shared.store(address as usize, changed64(op, old, b, c).to_le_bytes());
                            old
                        }
                        4 => {
                            let old = u32::from_le_bytes(self.shared.load(address as usize));
                            let new = changed32(op, old, b as u32, c as u32);
                            self.shared.store(address as usize, new.to_le_bytes());
                            u64::from(old)
                        }
                        _ => {
                            let old = u16::from_le_bytes(self.shared.load(address as usize));
                            let new = changed16(op, u32::from(old), false, b as u32, c as u32);
                            self.shared.store(address as usize, (new as u16).to_le_bytes());
                            u64::from(old)
                        }
                    },
                    Space::Global => {
                        let Some(allocation) = self.launch.globals.find(address, &mut self.hint) else {
                            continue;
                        };
                        let offset = (address - allocation.start()) as usize;
                        match bytes {
                            8 => allocation.update64(offset, |old| changed64(op, old, b, c)),
                            4 => u64::from(
                                allocation.update32(offset, |old| changed32(op, old, b as u32, c as u32)),
                            ),
                            _ => {
                                let offset = word - allocation.start() as usize;
                                let change = |old| changed16(op, old, upper, b as u32, c as u32);
                                let old = allocation.update32(offset, change);
                                u64::from(old >> if upper { 16 } else { 0 } & 0xFFFF)
                            }
                        }
                    }
                    _ => return Err(self.out_of_bounds(space, address, u32::from(bytes), i)),
                };
                match (d, long) {
                    (Some(d), true) => warp.registers.longs[d as usize][i] = old,
                    (Some(d), false) => warp.registers.words[d as usize][i] = old as u32,
                    (None, _) => {}
                }
            }
        });
        Ok(())
    }
}

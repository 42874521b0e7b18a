//! `mov` between a register and a vector of smaller ones.

use super::code::{Op, Slot};
use super::lanes::Registers;

impl Registers {
    fn set_optional(&mut self, d: Option<Slot>, mask: u32, value: impl FnMut(usize) -> u32) {
        if let Some(d) = d {
            self.set_word(d, mask, value);
        }
    }

    /// The `Pack…` and `Unpack…` operations; the first part is the lowest.
    pub(super) fn pack(&mut self, op: &Op, mask: u32) {
        match *op {
            Op::Pack16 { d, a, b } => {
                let (a, b) = (*self.word(a), *self.word(b));
                self.set_word(d, mask, |i| a[i] & 0xFFFF | b[i] << 16);
            }
            Op::Unpack16 { d, e, a } => {
                let a = *self.word(a);
                self.set_optional(d, mask, |i| a[i] & 0xFFFF);
                self.set_optional(e, mask, |i| a[i] >> 16);
            }
            Op::Pack32 { d, a, b } => {
                let (a, b) = (*self.word(a), *self.word(b));
                self.set_long(d, mask, |i| u64::from(a[i]) | u64::from(b[i]) << 32);
            }
            Op::Unpack32 { d, e, a } => {
                let a = *self.long(a);
                self.set_optional(d, mask, |i| a[i] as u32);
                self.set_optional(e, mask, |i| (a[i] >> 32) as u32);
            }
            Op::Pack64x16 { d, a } => {
                let a = a.map(|slot| *self.word(slot));
                self.set_long(d, mask, |i| {
                    a.iter().rev().fold(0, |value, part| value << 16 | u64::from(part[i] & 0xFFFF))
                });
            }
            Op::Unpack64x16 { d, a } => {
                let a = *self.long(a);
                for (part, d) in d.into_iter().enumerate() {
                    self.set_optional(d, mask, |i| (a[i] >> (16 * part)) as u32 & 0xFFFF);
                }
            }
            Op::Pack8 { d, a, count } => {
                let a = a.map(|slot| *self.word(slot));
                self.set_word(d, mask, |i| {
                    a[..usize::from(count)].iter().rev().fold(0, |value, part| value << 8 | part[i] & 0xFF)
                });
            }
            Op::Unpack8 { d, a } => {
                let a = *self.word(a);
                for (part, d) in d.into_iter().enumerate() {
                    self.set_optional(d, mask, |i| a[i] >> (8 * part) & 0xFF);
                }
            }
            // No other operation is handed over.
            _ => {}
        }
    }
}

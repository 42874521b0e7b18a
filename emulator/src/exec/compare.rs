//! Comparisons and selection (PTX ISA 9.7.6, 9.7.7).

use super::code::{Combine, Compare, Half, Logic, Operands, SetAs, Slot};
use super::lanes::{Registers, flags};
use super::rounding::widen;

/// One bit a lane: `$x` op `$y` for integers.
macro_rules! integers {
    ($op:expr, $x:expr, $y:expr) => {
        match $op {
            Compare::Eq | Compare::Equ => flags(|i| $x(i) == $y(i)),
            Compare::Ne | Compare::Neu => flags(|i| $x(i) != $y(i)),
            Compare::Lt | Compare::Ltu => flags(|i| $x(i) < $y(i)),
            Compare::Le | Compare::Leu => flags(|i| $x(i) <= $y(i)),
            Compare::Gt | Compare::Gtu => flags(|i| $x(i) > $y(i)),
            Compare::Ge | Compare::Geu => flags(|i| $x(i) >= $y(i)),
            Compare::Num => u32::MAX,
            Compare::Nan => 0,
        }
    };
}

/// As `integers` for floating point: the plain comparisons are false on NaN, those with `u` true.
macro_rules! floats {
    ($op:expr, $x:expr, $y:expr) => {
        match $op {
            Compare::Eq => flags(|i| $x(i) == $y(i)),
            Compare::Ne => flags(|i| $x(i) < $y(i) || $x(i) > $y(i)),
            Compare::Lt => flags(|i| $x(i) < $y(i)),
            Compare::Le => flags(|i| $x(i) <= $y(i)),
            Compare::Gt => flags(|i| $x(i) > $y(i)),
            Compare::Ge => flags(|i| $x(i) >= $y(i)),
            Compare::Equ => flags(|i| !($x(i) < $y(i) || $x(i) > $y(i))),
            Compare::Neu => flags(|i| $x(i) != $y(i)),
            Compare::Ltu => flags(|i| !($x(i) >= $y(i))),
            Compare::Leu => flags(|i| !($x(i) > $y(i))),
            Compare::Gtu => flags(|i| !($x(i) <= $y(i))),
            Compare::Geu => flags(|i| !($x(i) < $y(i))),
            Compare::Num => flags(|i| !($x(i).is_nan() || $y(i).is_nan())),
            Compare::Nan => flags(|i| $x(i).is_nan() || $y(i).is_nan()),
        }
    };
}

fn flushed(bits: u32, flush: bool) -> f32 {
    let value = f32::from_bits(bits);
    if flush && value.is_subnormal() { 0f32.copysign(value) } else { value }
}

impl Registers {
    /// Results of a comparison, lower halves first where it compares pairs.
    #[allow(clippy::neg_cmp_op_on_partial_ord)]
    fn compared(&self, op: Compare, of: Operands, flush: bool, a: Slot, b: Slot) -> (u32, u32) {
        let half = |kind: Half, shift: u32| {
            let (a, b) = (self.word(a), self.word(b));
            let x = |i: usize| widen((a[i] >> shift) as u16, kind);
            let y = |i: usize| widen((b[i] >> shift) as u16, kind);
            floats!(op, x, y)
        };
        let result = match of {
            Operands::F64 => {
                let (a, b) = (self.long(a), self.long(b));
                let (x, y) = (|i: usize| f64::from_bits(a[i]), |i: usize| f64::from_bits(b[i]));
                floats!(op, x, y)
            }
            Operands::U64 => {
                let (a, b) = (self.long(a), self.long(b));
                let (x, y) = (|i: usize| a[i], |i: usize| b[i]);
                integers!(op, x, y)
            }
            Operands::S64 => {
                let (a, b) = (self.long(a), self.long(b));
                let (x, y) = (|i: usize| a[i] as i64, |i: usize| b[i] as i64);
                integers!(op, x, y)
            }
            Operands::F16 => half(Half::F16, 0),
            Operands::Bf16 => half(Half::Bf16, 0),
            Operands::F16x2 => return (half(Half::F16, 0), half(Half::F16, 16)),
            Operands::Bf16x2 => return (half(Half::Bf16, 0), half(Half::Bf16, 16)),
            _ => {
                let (a, b) = (self.word(a), self.word(b));
                match of {
                    Operands::F32 if flush => {
                        let (x, y) = (|i: usize| flushed(a[i], true), |i: usize| flushed(b[i], true));
                        floats!(op, x, y)
                    }
                    Operands::F32 => {
                        let (x, y) = (|i: usize| f32::from_bits(a[i]), |i: usize| f32::from_bits(b[i]));
                        floats!(op, x, y)
                    }
                    Operands::S32 => {
                        let (x, y) = (|i: usize| a[i] as i32, |i: usize| b[i] as i32);
                        integers!(op, x, y)
                    }
                    Operands::S16 => {
                        let (x, y) = (|i: usize| a[i] as i16, |i: usize| b[i] as i16);
                        integers!(op, x, y)
                    }
                    Operands::U16 => {
                        let (x, y) = (|i: usize| a[i] as u16, |i: usize| b[i] as u16);
                        integers!(op, x, y)
                    }
                    _ => {
                        let (x, y) = (|i: usize| a[i], |i: usize| b[i]);
                        integers!(op, x, y)
                    }
                }
            }
        };
        (result, result)
    }

    fn combined(&self, value: u32, combine: Option<Combine>) -> u32 {
        let Some(Combine { op, slot, negated }) = combine else {
            return value;
        };
        let other = self.pred(slot) ^ if negated { u32::MAX } else { 0 };
        logic(op, value, other)
    }

    /// `setp`: `p` and, if given, `q`, which gets the opposite; of pairs, `p` gets the lower and `q` the upper result.
    pub(super) fn set_predicate(
        &mut self,
        (op, of, flush, combine): (Compare, Operands, bool, Option<Combine>),
        mask: u32,
        (p, q): (Option<Slot>, Option<Slot>),
        (a, b): (Slot, Slot),
    ) {
        let (low, high) = self.compared(op, of, flush, a, b);
        let pairs = matches!(of, Operands::F16x2 | Operands::Bf16x2);
        let first = self.combined(low, combine);
        let second = self.combined(if pairs { high } else { !low }, combine);
        if let Some(p) = p {
            self.set_pred(p, mask, first);
        }
        if let Some(q) = q {
            self.set_pred(q, mask, second);
        }
    }

    /// `set`: a truth value as a number.
    pub(super) fn set_number(
        &mut self,
        (op, of, flush, combine): (Compare, Operands, bool, Option<Combine>),
        how: SetAs,
        mask: u32,
        d: Slot,
        (a, b): (Slot, Slot),
    ) {
        let (low, high) = self.compared(op, of, flush, a, b);
        let (low, high) = (self.combined(low, combine), self.combined(high, combine));
        let one = |kind| if kind == Half::F16 { 0x3C00 } else { 0x3F80 };
        self.set_word(d, mask, |i| {
            let (low, high) = (low >> i & 1, high >> i & 1);
            match how {
                SetAs::Ones => low * u32::MAX,
                SetAs::Ones16 => low * 0xFFFF,
                SetAs::One32 => low * 1f32.to_bits(),
                SetAs::HalfOne(kind) => low * one(kind),
                SetAs::PairOnes => (low * 0xFFFF) | (high * 0xFFFF_0000),
                SetAs::PairOne(kind) => (low * one(kind)) | ((high * one(kind)) << 16),
            }
        });
    }

    /// `slct`: `a` where `c >= 0`, else `b`.
    pub(super) fn select_by_sign(
        &mut self,
        float: bool,
        long: bool,
        mask: u32,
        d: Slot,
        (a, b, c): (Slot, Slot, Slot),
    ) {
        let c = self.word(c);
        let first = match float {
            true => flags(|i| f32::from_bits(c[i]) >= 0.0),
            false => flags(|i| c[i] as i32 >= 0),
        };
        match long {
            true => self.select64(first, mask, d, a, b),
            false => self.select32(first, mask, d, a, b),
        }
    }

    #[inline(always)]
    pub(super) fn select32(&mut self, first: u32, mask: u32, d: Slot, a: Slot, b: Slot) {
        let (a, b) = (*self.word(a), *self.word(b));
        self.set_word(d, mask, |i| if first >> i & 1 == 1 { a[i] } else { b[i] });
    }

    #[inline(always)]
    pub(super) fn select64(&mut self, first: u32, mask: u32, d: Slot, a: Slot, b: Slot) {
        let (a, b) = (*self.long(a), *self.long(b));
        self.set_long(d, mask, |i| if first >> i & 1 == 1 { a[i] } else { b[i] });
    }
}

pub(super) fn logic(op: Logic, a: u32, b: u32) -> u32 {
    match op {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
    }
}

//! Conversions (PTX ISA 9.7.9.21, `cvt`).

use super::code::{Cvt, CvtRound, Half, Number, Slot};
use super::float::{bits32, flush, saturate};
use super::lanes::Registers;
use super::rounding::{BF16, Direction, F16, F32, TF32, integer_to_odd, narrow, to_bf16, widen};

impl Registers {
    /// `cvt` between registers of 64 bits (`long_*`) or at most 32.
    pub(super) fn convert(
        &mut self,
        how: Cvt,
        mask: u32,
        d: Slot,
        a: Slot,
        (long_d, long_a, half_d): (bool, bool, bool),
    ) {
        let plain = !how.saturate && !how.flush && !how.relu;
        match (how.to, how.from, long_d, long_a) {
            (Number::U64 | Number::S64, Number::U32, true, false) => {
                let a = *self.word(a);
                return self.set_long(d, mask, |i| u64::from(a[i]));
            }
            (Number::U64 | Number::S64, Number::S32, true, false) if plain => {
                let a = *self.word(a);
                return self.set_long(d, mask, |i| i64::from(a[i] as i32) as u64);
            }
            (Number::U32 | Number::S32, Number::U64 | Number::S64, false, true) if plain => {
                let a = *self.long(a);
                return self.set_word(d, mask, |i| a[i] as u32);
            }
            (Number::F32, Number::S32, false, false) if plain && how.round == CvtRound::Nearest => {
                let a = *self.word(a);
                return self.set_word(d, mask, |i| (a[i] as i32 as f32).to_bits());
            }
            (Number::F32, Number::F32, false, false) if how.round == CvtRound::None && !how.relu => {
                let a = *self.word(a);
                return self.set_word(d, mask, |i| {
                    let x = f32::from_bits(a[i]);
                    let x = if how.flush { flush(x) } else { x };
                    bits32(if how.saturate { saturate(x) } else { x })
                });
            }
            // Clamped, and zero for a NaN: what Rust's casts do too.
            (Number::S32, Number::F32, false, false) if plain && how.round == CvtRound::IntZero => {
                let a = *self.word(a);
                return self.set_word(d, mask, |i| f32::from_bits(a[i]) as i32 as u32);
            }
            (Number::U32, Number::F32, false, false) if plain && how.round == CvtRound::IntZero => {
                let a = *self.word(a);
                return self.set_word(d, mask, |i| f32::from_bits(a[i]) as u32);
            }
            (Number::F32, Number::Bf16, false, false) if plain => {
                let a = *self.word(a);
                return self.set_word(d, mask, |i| a[i] << 16);
            }
            (Number::Bf16, Number::F32, false, false) if plain && how.round == CvtRound::Nearest => {
                let a = *self.word(a);
                return self.set_word(d, mask, |i| to_bf16(a[i]));
            }
            _ => {}
        }
        let source = |registers: &Self, i: usize| match long_a {
            true => registers.long(a)[i],
            false => u64::from(registers.word(a)[i]),
        };
        let mut values = [0; 32];
        for (i, value) in values.iter_mut().enumerate() {
            *value = number(how, source(self, i));
        }
        match long_d {
            true => self.set_long(d, mask, |i| values[i]),
            false if half_d => self.set_word(d, mask, |i| values[i] as u32 & 0xFFFF),
            false => self.set_word(d, mask, |i| values[i] as u32),
        }
    }

    /// `cvt.rn.bf16x2.f32 d, a, b` and its kin: `a` to the upper half, `b` to the lower.
    pub(super) fn convert_pair(&mut self, how: Cvt, mask: u32, d: Slot, a: Slot, b: Slot) {
        let (a, b) = (*self.word(a), *self.word(b));
        if how.to == Number::Bf16 && how.round == CvtRound::Nearest && !how.relu {
            return self.set_word(d, mask, |i| to_bf16(a[i]) << 16 | to_bf16(b[i]));
        }
        self.set_word(d, mask, |i| {
            (number(how, u64::from(a[i])) << 16 | number(how, u64::from(b[i]))) as u32
        });
    }
}

/// A value between the formats.
enum Value {
    Integer(i128),
    /// Exact in f64 for every source format.
    Float(f64),
}

fn width(number: Number) -> u32 {
    match number {
        Number::U8 | Number::S8 => 8,
        Number::U16 | Number::S16 | Number::F16 | Number::Bf16 => 16,
        Number::U32 | Number::S32 | Number::F32 | Number::Tf32 => 32,
        Number::U64 | Number::S64 | Number::F64 => 64,
    }
}

fn is_signed(number: Number) -> bool {
    matches!(number, Number::S8 | Number::S16 | Number::S32 | Number::S64)
}

fn read(from: Number, bits: u64) -> Value {
    match from {
        Number::F16 => Value::Float(f64::from(widen(bits as u16, Half::F16))),
        Number::Bf16 => Value::Float(f64::from(widen(bits as u16, Half::Bf16))),
        Number::F32 | Number::Tf32 => Value::Float(f64::from(f32::from_bits(bits as u32))),
        Number::F64 => Value::Float(f64::from_bits(bits)),
        _ => {
            let unused = 64 - width(from);
            match is_signed(from) {
                true => Value::Integer(i128::from((bits << unused) as i64 >> unused)),
                false => Value::Integer(i128::from(bits << unused >> unused)),
            }
        }
    }
}

fn limits(to: Number) -> (i128, i128) {
    let bits = width(to);
    match is_signed(to) {
        true => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        false => (0, (1 << bits) - 1),
    }
}

fn round_to_integer(value: f64, round: CvtRound) -> f64 {
    match round {
        CvtRound::IntNearest => value.round_ties_even(),
        CvtRound::IntZero => value.trunc(),
        CvtRound::IntDown => value.floor(),
        CvtRound::IntUp => value.ceil(),
        _ => value,
    }
}

/// One conversion; the result is zero- or sign-extended to 64 bits.
fn number(how: Cvt, bits: u64) -> u64 {
    let subnormal32 = |value: f64| value != 0.0 && value.abs() < f64::from(f32::MIN_POSITIVE);
    let mut value = read(how.from, bits);
    if let (Value::Float(x), true, Number::F32) = (&mut value, how.flush, how.from)
        && subnormal32(*x)
    {
        *x = 0f64.copysign(*x);
    }
    match how.to {
        Number::F16 | Number::Bf16 | Number::Tf32 | Number::F32 | Number::F64 => {
            let x = match value {
                Value::Integer(value) => integer_to_odd(value),
                Value::Float(value) => round_to_integer(value, how.round),
            };
            let same_f64 = how.to == Number::F64 && matches!(value, Value::Float(_));
            let x = if how.saturate && how.to != Number::Tf32 {
                if x > 0.0 { x.min(1.0) } else { 0.0 }
            } else {
                x
            };
            let x = if how.relu && x <= 0.0 { 0.0 } else { x };
            write_float(how, x, value, same_f64)
        }
        to => {
            let (low, high) = limits(to);
            let result = match value {
                Value::Integer(value) if how.saturate => value.clamp(low, high),
                Value::Integer(value) => value,
                // PTX ISA: NaN gives zero unless one of the sides has 64 bits.
                Value::Float(x) if x.is_nan() => match how.from == Number::F64 || width(to) == 64 {
                    true => 1 << (width(to) - 1),
                    false => 0,
                },
                // Conversions from floating-point numbers to integers always clamp.
                Value::Float(x) => (round_to_integer(x, how.round) as i128).clamp(low, high),
            };
            let unused = 64 - width(to);
            let kept = (result as u64) << unused;
            if is_signed(to) { (kept as i64 >> unused) as u64 } else { kept >> unused }
        }
    }
}

fn write_float(how: Cvt, x: f64, source: Value, same_f64: bool) -> u64 {
    let direction = Direction::from(how.round);
    match how.to {
        Number::F16 => u64::from(narrow(x, F16, direction)),
        Number::Bf16 => u64::from(narrow(x, BF16, direction)),
        Number::Tf32 => u64::from(narrow(x, TF32, direction)) << 13,
        Number::F32 => {
            let bits = narrow(x, F32, direction);
            let subnormal = bits & 0x7F80_0000 == 0;
            u64::from(if how.flush && subnormal { bits & 0x8000_0000 } else { bits })
        }
        _ if same_f64 => match x.is_nan() {
            true => 0x7FFF_FFFF_FFFF_FFFF,
            false => x.to_bits(),
        },
        _ => match source {
            Value::Integer(value) => integer_to_f64(value, direction).to_bits(),
            Value::Float(_) => x.to_bits(),
        },
    }
}

/// A whole number of at most 64 bits in f64.
fn integer_to_f64(value: i128, direction: Direction) -> f64 {
    let nearest = value as f64;
    let off = nearest as i128 - value;
    match direction {
        Direction::NearestEven | Direction::NearestAway => nearest,
        Direction::Down if off > 0 => nearest.next_down(),
        Direction::Up if off < 0 => nearest.next_up(),
        Direction::Zero if off > 0 && value > 0 => nearest.next_down(),
        Direction::Zero if off < 0 && value < 0 => nearest.next_up(),
        _ => nearest,
    }
}

//! Rounding that the host's arithmetic does not offer: to narrow formats and in given directions.

use super::code::{CvtRound, Half, Round};

/// A binary floating-point format: bits of the fraction and of the exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) fraction: u32,
    pub(crate) exponent: u32,
}

pub(crate) const F16: Format = Format { fraction: 10, exponent: 5 };
pub(crate) const BF16: Format = Format { fraction: 7, exponent: 8 };
pub(crate) const TF32: Format = Format { fraction: 10, exponent: 8 };
pub(crate) const F32: Format = Format { fraction: 23, exponent: 8 };

/// Rounding of [`narrow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    NearestEven,
    NearestAway,
    Zero,
    Down,
    Up,
}

impl From<Round> for Direction {
    fn from(round: Round) -> Self {
        match round {
            Round::Nearest => Self::NearestEven,
            Round::Zero => Self::Zero,
            Round::Down => Self::Down,
            Round::Up => Self::Up,
        }
    }
}

impl From<CvtRound> for Direction {
    fn from(round: CvtRound) -> Self {
        match round {
            CvtRound::Zero | CvtRound::IntZero => Self::Zero,
            CvtRound::Down | CvtRound::IntDown => Self::Down,
            CvtRound::Up | CvtRound::IntUp => Self::Up,
            CvtRound::NearestAway => Self::NearestAway,
            CvtRound::None | CvtRound::Nearest | CvtRound::IntNearest => Self::NearestEven,
        }
    }
}

/// Bits of `x` in `format`. A NaN becomes the format's positive one with all fraction bits set.
pub(crate) fn narrow(x: f64, format: Format, direction: Direction) -> u32 {
    let Format { fraction, exponent } = format;
    let bits = x.to_bits();
    let negative = bits >> 63 == 1;
    let sign = u64::from(negative) << (fraction + exponent);
    let infinity = ((1 << exponent) - 1) << fraction;
    if x.is_nan() {
        return (infinity | ((1 << fraction) - 1)) as u32;
    }
    if x.is_infinite() {
        return (sign | infinity) as u32;
    }
    let (significand, power) = match bits >> 52 & 0x7FF {
        0 => (bits & ((1 << 52) - 1), -1022),
        biased => (bits & ((1 << 52) - 1) | 1 << 52, biased as i32 - 1023),
    };
    let bias = (1 << (exponent - 1)) - 1;
    let lowest = 1 - bias;
    // Bits below the last one kept: more of them where the result is subnormal.
    let dropped = (52 - fraction as i32 + (lowest - power).max(0)).min(63) as u32;
    let (kept, rest, half) = (significand >> dropped, significand & ((1 << dropped) - 1), 1 << (dropped - 1));
    let up = match direction {
        Direction::NearestEven => rest > half || rest == half && kept & 1 == 1,
        Direction::NearestAway => rest >= half,
        Direction::Zero => false,
        Direction::Down => negative && rest > 0,
        Direction::Up => !negative && rest > 0,
    };
    // A carry out of the fraction moves into the exponent by itself.
    let base = if power < lowest { 0 } else { ((power + bias) as u64) << fraction };
    let implicit = if power < lowest { 0 } else { 1 << fraction };
    let magnitude = base + (kept - implicit.min(kept)) + u64::from(up);
    if magnitude >= infinity {
        let stays_finite = match direction {
            Direction::NearestEven | Direction::NearestAway => false,
            Direction::Zero => true,
            Direction::Down => !negative,
            Direction::Up => negative,
        };
        return (sign | if stays_finite { infinity - 1 } else { infinity }) as u32;
    }
    (sign | magnitude) as u32
}

/// `a * b + c` of values that are exact in f32, in f64 with the last bit telling of what was lost (round to odd), so that one more
/// rounding to a format of at most 50 fraction bits gives the correctly rounded result.
pub(crate) fn fused_to_odd(a: f32, b: f32, c: f32) -> f64 {
    // 24 + 24 bits: exact.
    let product = f64::from(a) * f64::from(b);
    sum_to_odd(product, f64::from(c))
}

/// `a + b` in f64, rounded to odd.
pub(crate) fn sum_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if !sum.is_finite() || sum == 0.0 {
        return sum;
    }
    // The exact error of the sum (Knuth's two-sum).
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    if error == 0.0 || sum.to_bits() & 1 == 1 {
        return sum;
    }
    let away = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if away { sum.to_bits() + 1 } else { sum.to_bits() - 1 })
}

/// A whole number in f64, rounded to odd.
pub(crate) fn integer_to_odd(value: i128) -> f64 {
    let magnitude = value.unsigned_abs();
    let dropped = (128 - magnitude.leading_zeros()).saturating_sub(53);
    let mut kept = magnitude >> dropped;
    if kept << dropped != magnitude {
        kept |= 1;
    }
    let scaled = kept as f64 * 2f64.powi(dropped as i32);
    if value < 0 { -scaled } else { scaled }
}

/// A 16-bit float as f32, exactly.
#[inline(always)]
pub(crate) fn widen(bits: u16, kind: Half) -> f32 {
    match kind {
        Half::Bf16 => f32::from_bits(u32::from(bits) << 16),
        Half::F16 => half::f16::from_bits(bits).to_f32(),
    }
}

pub(crate) fn format_of(kind: Half) -> Format {
    match kind {
        Half::F16 => F16,
        Half::Bf16 => BF16,
    }
}

/// f32 to bf16, nearest even.
#[inline(always)]
pub(crate) fn to_bf16(value: u32) -> u32 {
    let rounded = value.wrapping_add(0x7FFF + (value >> 16 & 1)) >> 16;
    if value & 0x7FFF_FFFF > 0x7F80_0000 { 0x7FFF } else { rounded }
}

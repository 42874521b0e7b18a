//! Floating-point arithmetic (PTX ISA 9.7.3 to 9.7.5).
//!
//! Results that are NaN have the devices' canonical bits. The approximate functions are computed to within one unit in the last place of
//! f32, which is inside the ISA's error bounds but not bit-equal to a device.

use super::code::{Float, FloatMode, Half, Round, Slot, Test};
use super::lanes::{Registers, flags};
use super::rounding::{Direction, format_of, fused_to_odd, narrow, sum_to_odd, widen};

/// The NaN that f32 instructions give.
const NAN32: u32 = 0x7FFF_FFFF;
const NAN64: u64 = 0x7FFF_FFFF_FFFF_FFFF;

const PLAIN: FloatMode = FloatMode { round: Round::Nearest, flush: false, saturate: false, relu: false };

#[inline(always)]
pub(super) fn bits32(value: f32) -> u32 {
    if value.is_nan() { NAN32 } else { value.to_bits() }
}

#[inline(always)]
fn bits64(value: f64) -> u64 {
    if value.is_nan() { NAN64 } else { value.to_bits() }
}

/// Subnormal numbers to zeros of their sign.
#[inline(always)]
pub(super) fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

/// To [0, 1]; NaN to zero.
#[inline(always)]
pub(super) fn saturate(value: f32) -> f32 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}

macro_rules! minimum {
    ($a:expr, $b:expr) => {{
        let (a, b) = ($a, $b);
        if a.is_nan() || b < a || b == a && b.is_sign_negative() { b } else { a }
    }};
}
macro_rules! maximum {
    ($a:expr, $b:expr) => {{
        let (a, b) = ($a, $b);
        if a.is_nan() || b > a || b == a && b.is_sign_positive() { b } else { a }
    }};
}

macro_rules! each32 {
    ($self:ident, $d:expr, $mask:expr, |$($x:ident),+| $f:expr) => {
        $self.set_word($d, $mask, |i| { $(let $x = f32::from_bits($x[i]);)+ $f })
    };
}
macro_rules! each64 {
    ($self:ident, $d:expr, $mask:expr, |$($x:ident),+| $f:expr) => {
        $self.set_long($d, $mask, |i| { $(let $x = f64::from_bits($x[i]);)+ $f })
    };
}

impl Registers {
    /// f32 arithmetic, with vectors and fused multiplication where the processor has them; the results are the same.
    #[inline(always)]
    pub(super) fn float32(&mut self, op: Float, mode: FloatMode, mask: u32, d: Slot, abc: [Slot; 3]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA.
            return unsafe { self.float32_fma(op, mode, mask, d, abc) };
        }
        self.float32_any(op, mode, mask, d, abc);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn float32_fma(&mut self, op: Float, mode: FloatMode, mask: u32, d: Slot, abc: [Slot; 3]) {
        self.float32_any(op, mode, mask, d, abc);
    }

    #[inline(always)]
    fn float32_any(&mut self, op: Float, mode: FloatMode, mask: u32, d: Slot, [a, b, c]: [Slot; 3]) {
        let (a, b, c) = (*self.word(a), *self.word(b), *self.word(c));
        if mode != PLAIN {
            return each32!(self, d, mask, |a, b, c| general32(op, mode, a, b, c));
        }
        match op {
            Float::Add => each32!(self, d, mask, |a, b| bits32(a + b)),
            Float::Sub => each32!(self, d, mask, |a, b| bits32(a - b)),
            Float::Mul => each32!(self, d, mask, |a, b| bits32(a * b)),
            Float::Fma => each32!(self, d, mask, |a, b, c| bits32(a.mul_add(b, c))),
            Float::Div => each32!(self, d, mask, |a, b| bits32(a / b)),
            Float::Sqrt => each32!(self, d, mask, |a| bits32(a.sqrt())),
            Float::Rcp => each32!(self, d, mask, |a| bits32(1.0 / a)),
            Float::Neg => each32!(self, d, mask, |a| (-a).to_bits()),
            Float::Abs => each32!(self, d, mask, |a| a.abs().to_bits()),
            Float::CopySign => each32!(self, d, mask, |a, b| b.copysign(a).to_bits()),
            Float::Min => each32!(self, d, mask, |a, b| bits32(minimum!(a, b))),
            Float::Max => each32!(self, d, mask, |a, b| bits32(maximum!(a, b))),
            _ => each32!(self, d, mask, |a, b, c| bits32(single(op, a, b, c))),
        }
    }

    #[inline(always)]
    pub(super) fn float64(&mut self, op: Float, mask: u32, d: Slot, [a, b, c]: [Slot; 3]) {
        let (a, b, c) = (*self.long(a), *self.long(b), *self.long(c));
        match op {
            Float::Add => each64!(self, d, mask, |a, b| bits64(a + b)),
            Float::Sub => each64!(self, d, mask, |a, b| bits64(a - b)),
            Float::Mul => each64!(self, d, mask, |a, b| bits64(a * b)),
            Float::Fma => each64!(self, d, mask, |a, b, c| bits64(a.mul_add(b, c))),
            Float::Neg => each64!(self, d, mask, |a| (-a).to_bits()),
            Float::Abs => each64!(self, d, mask, |a| a.abs().to_bits()),
            _ => each64!(self, d, mask, |a, b, c| bits64(double(op, a, b, c))),
        }
    }

    pub(super) fn float16(
        &mut self,
        (op, mode, kind, packed): (Float, FloatMode, Half, bool),
        mask: u32,
        d: Slot,
        [a, b, c]: [Slot; 3],
    ) {
        let (a, b, c) = (*self.word(a), *self.word(b), *self.word(c));
        self.set_word(d, mask, |i| {
            let low = half(op, mode, kind, [a[i] as u16, b[i] as u16, c[i] as u16]);
            if !packed {
                return low;
            }
            let upper = |word: u32| (word >> 16) as u16;
            low | half(op, mode, kind, [upper(a[i]), upper(b[i]), upper(c[i])]) << 16
        });
    }

    /// `testp` (PTX ISA 9.7.3.1).
    pub(super) fn test(&mut self, test: Test, long: bool, mask: u32, p: Slot, a: Slot) {
        macro_rules! class {
            ($x:expr) => {
                match test {
                    Test::Finite => $x.is_finite(),
                    Test::Infinite => $x.is_infinite(),
                    Test::Number => !$x.is_nan(),
                    Test::NotANumber => $x.is_nan(),
                    Test::Normal => $x.is_normal(),
                    Test::Subnormal => $x.is_subnormal(),
                }
            };
        }
        let value = match long {
            true => flags(|i| class!(f64::from_bits(self.long(a)[i]))),
            false => flags(|i| class!(f32::from_bits(self.word(a)[i]))),
        };
        self.set_pred(p, mask, value);
    }
}

#[inline(always)]
fn single(op: Float, a: f32, b: f32, c: f32) -> f32 {
    match op {
        Float::Add => a + b,
        Float::Sub => a - b,
        Float::Mul => a * b,
        Float::Fma => a.mul_add(b, c),
        Float::Div => a / b,
        Float::Sqrt => a.sqrt(),
        Float::Rsqrt => (1.0 / f64::from(a).sqrt()) as f32,
        Float::Rcp => 1.0 / a,
        Float::Ex2 => libm::exp2f(a),
        Float::Lg2 => libm::log2f(a),
        Float::Sin => libm::sinf(a),
        Float::Cos => libm::cosf(a),
        Float::Tanh => libm::tanhf(a),
        Float::Abs => a.abs(),
        Float::Neg => -a,
        Float::Min => minimum!(a, b),
        Float::Max => maximum!(a, b),
        Float::MinNan if a.is_nan() || b.is_nan() => f32::NAN,
        Float::MaxNan if a.is_nan() || b.is_nan() => f32::NAN,
        Float::MinNan => minimum!(a, b),
        Float::MaxNan => maximum!(a, b),
        // The sign of the first operand on the second (PTX ISA 9.7.3.2).
        Float::CopySign => b.copysign(a),
    }
}

/// f32 operations with a rounding direction, flushing of subnormals, or saturation.
#[inline(always)]
fn general32(op: Float, mode: FloatMode, a: f32, b: f32, c: f32) -> u32 {
    let (a, b, c) = if mode.flush { (flush(a), flush(b), flush(c)) } else { (a, b, c) };
    let directed = |exact: f64| {
        // A sum of nothing but zeros, or one that cancels, is -0 when rounding down (IEEE 754 6.3).
        if exact == 0.0 && mode.round == Round::Down && !exact.is_sign_negative() {
            let cancels = match op {
                Float::Add => a != 0.0 || b.is_sign_negative() || a.is_sign_negative(),
                Float::Sub => a != 0.0 || b.is_sign_positive() || a.is_sign_negative(),
                _ => false,
            };
            return if cancels { -0f32 } else { 0f32 };
        }
        directed32(exact, mode.round)
    };
    let value = match (op, mode.round) {
        (_, Round::Nearest) => single(op, a, b, c),
        (Float::Add, _) => directed(sum_to_odd(f64::from(a), f64::from(b))),
        (Float::Sub, _) => directed(sum_to_odd(f64::from(a), -f64::from(b))),
        (Float::Mul, _) => directed(f64::from(a) * f64::from(b)),
        (Float::Fma, _) => directed(fused_to_odd(a, b, c)),
        _ => single(op, a, b, c),
    };
    let value = if mode.flush { flush(value) } else { value };
    bits32(if mode.saturate { saturate(value) } else { value })
}

/// f64 to f32 in a direction: to the nearest, then back over the value if that went past it.
#[inline(always)]
fn directed32(exact: f64, round: Round) -> f32 {
    let nearest = exact as f32;
    let (above, below) = (f64::from(nearest) > exact, f64::from(nearest) < exact);
    match round {
        Round::Down if above => nearest.next_down(),
        Round::Up if below => nearest.next_up(),
        Round::Zero if above && exact > 0.0 => nearest.next_down(),
        Round::Zero if below && exact < 0.0 => nearest.next_up(),
        _ => nearest,
    }
}

fn double(op: Float, a: f64, b: f64, c: f64) -> f64 {
    match op {
        Float::Add => a + b,
        Float::Sub => a - b,
        Float::Mul => a * b,
        Float::Fma => a.mul_add(b, c),
        Float::Div => a / b,
        Float::Sqrt => a.sqrt(),
        Float::Rsqrt => 1.0 / a.sqrt(),
        Float::Rcp => 1.0 / a,
        Float::Ex2 => libm::exp2(a),
        Float::Lg2 => libm::log2(a),
        Float::Sin => libm::sin(a),
        Float::Cos => libm::cos(a),
        Float::Tanh => libm::tanh(a),
        Float::Abs => a.abs(),
        Float::Neg => -a,
        Float::MinNan if a.is_nan() || b.is_nan() => f64::NAN,
        Float::MaxNan if a.is_nan() || b.is_nan() => f64::NAN,
        Float::Min | Float::MinNan => minimum!(a, b),
        Float::Max | Float::MaxNan => maximum!(a, b),
        Float::CopySign => b.copysign(a),
    }
}

/// An operation on 16-bit floats, rounded once.
fn half(op: Float, mode: FloatMode, kind: Half, bits: [u16; 3]) -> u32 {
    let sign = 0x8000;
    match op {
        Float::Neg => return u32::from(bits[0] ^ sign),
        Float::Abs => return u32::from(bits[0] & !sign),
        Float::CopySign => return u32::from(bits[1] & !sign | bits[0] & sign),
        _ => {}
    }
    let [a, b, c] = bits.map(|bits| {
        let value = widen(bits, kind);
        let subnormal = value != 0.0 && value.abs() < 6.103_515_6e-5;
        if mode.flush && kind == Half::F16 && subnormal { 0f32.copysign(value) } else { value }
    });
    let exact = match op {
        Float::Add => sum_to_odd(f64::from(a), f64::from(b)),
        Float::Sub => sum_to_odd(f64::from(a), -f64::from(b)),
        Float::Mul => f64::from(a) * f64::from(b),
        Float::Fma => fused_to_odd(a, b, c),
        _ => double(op, f64::from(a), f64::from(b), f64::from(c)),
    };
    let exact = match mode.saturate {
        true if exact > 0.0 => exact.min(1.0),
        true => 0.0,
        false => exact,
    };
    let exact = if mode.relu && exact <= 0.0 { 0.0 } else { exact };
    let rounded = narrow(exact, format_of(kind), Direction::from(mode.round));
    let subnormal = rounded & 0x7C00 == 0;
    if mode.flush && kind == Half::F16 && subnormal { rounded & 0x8000 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::ALL;
    use super::super::rounding::F32;
    use super::*;

    /// Bits that look random and are the same in every run.
    fn random(mut bits: u64) -> impl FnMut() -> u64 {
        move || {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bits >> 16
        }
    }

    #[test]
    fn every_processor_gives_the_same_bits() {
        use Float::*;
        let mut random = random(3);
        let mut registers = Registers { words: vec![[0; 32]; 4], ..Registers::default() };
        for round in [Round::Nearest, Round::Zero, Round::Down, Round::Up] {
            for (flush, saturate) in [(false, false), (true, false), (false, true)] {
                let mode = FloatMode { round, flush, saturate, relu: false };
                for op in [Add, Sub, Mul, Fma, Div, Sqrt, Rcp, Rsqrt, Ex2, Lg2, Sin, Cos, Tanh, Min, Max] {
                    for word in registers.words[..3].iter_mut().flatten() {
                        *word = random() as u32;
                    }
                    registers.float32_any(op, mode, ALL, 3, [0, 1, 2]);
                    let plain = registers.words[3];
                    registers.float32(op, mode, ALL, 3, [0, 1, 2]);
                    assert_eq!(registers.words[3], plain, "{op:?} {mode:?}");
                }
            }
        }
    }

    #[test]
    fn directed_rounding_agrees_with_the_one_for_every_format() {
        let mut next = random(1);
        let hard =
            [0.0, -0.0, f64::INFINITY, f64::MAX, f64::MIN, 1e39, -1e39, 1e-46, -1e-46, 1.0 + 1e-12, f64::NAN];
        let random = std::iter::from_fn(|| {
            // Exponents that f32 has, and a few around them.
            let (sign, exponent, fraction) =
                (next() << 63, 860 + next() % 310, next() << 5 & ((1 << 52) - 1));
            Some(f64::from_bits(sign | exponent << 52 | fraction))
        });
        for exact in hard.into_iter().chain(random.take(200_000)) {
            for round in [Round::Nearest, Round::Zero, Round::Down, Round::Up] {
                let expected = narrow(exact, F32, round.into());
                assert_eq!(bits32(directed32(exact, round)), expected, "{exact:e} {round:?}");
            }
        }
    }
}

//! Floating-point arithmetic and conversions against the host's, with special values.

#[path = "common/snippet.rs"]
mod snippet;

use half::{bf16, f16};
use snippet::{check16, check32, check64, run, triples};

const NAN: u32 = 0x7FFF_FFFF;

/// Bits of an f32 with the devices' NaN.
fn bits(x: f32) -> u32 {
    if x.is_nan() { NAN } else { x.to_bits() }
}

fn f(x: u32) -> f32 {
    f32::from_bits(x)
}

#[test]
fn arithmetic_of_f32() {
    check32("add.f32 %d, %a, %b;", |a, b, _| bits(f(a) + f(b)));
    check32("sub.rn.f32 %d, %a, %b;", |a, b, _| bits(f(a) - f(b)));
    check32("mul.f32 %d, %a, %b;", |a, b, _| bits(f(a) * f(b)));
    check32("fma.rn.f32 %d, %a, %b, %c;", |a, b, c| bits(f(a).mul_add(f(b), f(c))));
    check32("div.rn.f32 %d, %a, %b;", |a, b, _| bits(f(a) / f(b)));
    check32("sqrt.rn.f32 %d, %a;", |a, _, _| bits(f(a).sqrt()));
    check32("rcp.rn.f32 %d, %a;", |a, _, _| bits(1.0 / f(a)));
    check32("neg.f32 %d, %a;", |a, _, _| a ^ 0x8000_0000);
    check32("abs.f32 %d, %a;", |a, _, _| a & 0x7FFF_FFFF);
    check32("copysign.f32 %d, %a, %b;", |a, b, _| b & 0x7FFF_FFFF | a & 0x8000_0000);
    check32("add.sat.f32 %d, %a, %b;", |a, b, _| {
        let sum = f(a) + f(b);
        if sum.is_nan() || sum <= 0.0 { 0 } else { sum.min(1.0).to_bits() }
    });
    check32("mul.ftz.f32 %d, %a, 0f3F000000;", |a, _, _| {
        let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
        bits(flush(flush(f(a)) * 0.5))
    });
}

#[test]
fn minima_treat_nan_and_zeros_as_the_isa_says() {
    // A NaN loses; -0 lies below +0.
    let less = |x: f32, y: f32| x < y || x == y && x.is_sign_negative() && !y.is_sign_negative();
    let min = move |a: u32, b: u32| match (f(a).is_nan(), f(b).is_nan()) {
        (true, true) => NAN,
        (true, false) => b,
        (false, true) => a,
        _ => {
            if less(f(b), f(a)) {
                b
            } else {
                a
            }
        }
    };
    check32("min.f32 %d, %a, %b;", |a, b, _| min(a, b));
    check32("max.f32 %d, %a, %b;", |a, b, _| match (f(a).is_nan(), f(b).is_nan()) {
        (false, false) => {
            if less(f(b), f(a)) {
                a
            } else {
                b
            }
        }
        _ => min(a, b),
    });
    check32(
        "min.NaN.f32 %d, %a, %b;",
        |a, b, _| {
            if f(a).is_nan() || f(b).is_nan() { NAN } else { min(a, b) }
        },
    );
}

#[test]
fn directed_rounding_of_f32_brackets_the_exact_result() {
    let inputs = triples();
    let results = |mnemonic: &str, mode: &str, operands: &str| {
        run(&format!("{mnemonic}.{mode}.f32 %d, {operands};"), &inputs)
    };
    for (mnemonic, operands) in [("add", "%a, %b"), ("mul", "%a, %b"), ("fma", "%a, %b, %c")] {
        let [down, up, zero, near] = ["rm", "rp", "rz", "rn"].map(|mode| results(mnemonic, mode, operands));
        for (i, &[a, b, c]) in inputs.iter().enumerate() {
            let [down, up, zero, near] = [down[i], up[i], zero[i], near[i]].map(|bits| f(bits as u32));
            let context = format!("{mnemonic} of {a:#x}, {b:#x}, {c:#x}: {down:e} {near:e} {up:e} {zero:e}");
            if near.is_nan() {
                assert!(down.is_nan() && up.is_nan() && zero.is_nan(), "{context}");
                continue;
            }
            assert!(down <= near && near <= up, "{context}");
            assert!(down == up || down.next_up() == up, "{context}");
            let toward_zero = if near > 0.0 || down >= 0.0 { down } else { up };
            assert!(zero == toward_zero, "{context}");
            // Products are exact in f64, so there the bracket itself can be checked.
            if mnemonic == "mul" {
                let exact = f64::from(f(a)) * f64::from(f(b));
                assert!(f64::from(down) <= exact && exact <= f64::from(up), "{context}");
            }
        }
    }
}

#[test]
fn approximations_stay_within_two_units_in_the_last_place() {
    let inputs: Vec<[u32; 3]> = (0..4000).map(|i| [(0.01 + i as f32 * 0.0237).to_bits(), 0, 0]).collect();
    let check = |body: &str, expected: &dyn Fn(f64) -> f64| {
        for (&[a, ..], found) in inputs.iter().zip(run(body, &inputs)) {
            let (exact, found) = (expected(f64::from(f(a))), f64::from(f(found as u32)));
            // Units of the result, or of 1 where it is smaller, for the functions that the ISA bounds absolutely.
            let unit = exact.abs().max(1.0) * 2f64.powi(-23);
            assert!((found - exact).abs() <= 2.0 * unit, "{body} of {}: {found}, not {exact}", f(a));
        }
    };
    check("ex2.approx.f32 %d, %a;", &|x| x.exp2());
    check("lg2.approx.f32 %d, %a;", &|x| x.log2());
    check("sin.approx.f32 %d, %a;", &|x| x.sin());
    check("cos.approx.f32 %d, %a;", &|x| x.cos());
    check("tanh.approx.f32 %d, %a;", &|x| x.tanh());
    check("rsqrt.approx.f32 %d, %a;", &|x| 1.0 / x.sqrt());
    check("rcp.approx.ftz.f32 %d, %a;", &|x| 1.0 / x);
    check("div.full.f32 %d, %a, 0f40400000;", &|x| x / 3.0);
    check("sqrt.approx.f32 %d, %a;", &|x| x.sqrt());
}

#[test]
fn arithmetic_of_f64() {
    let g = f64::from_bits;
    let bits = |x: f64| if x.is_nan() { 0x7FFF_FFFF_FFFF_FFFF } else { x.to_bits() };
    check64("add.rn.f64 %ld, %la, %lb;", |a, b, _| bits(g(a) + g(b)));
    check64("mul.f64 %ld, %la, %lb;", |a, b, _| bits(g(a) * g(b)));
    check64("fma.rn.f64 %ld, %la, %lb, %lc;", |a, b, c| bits(g(a).mul_add(g(b), g(c))));
    check64("div.rn.f64 %ld, %la, %lb;", |a, b, _| bits(g(a) / g(b)));
    check64("sqrt.rn.f64 %ld, %la;", |a, _, _| bits(g(a).sqrt()));
    check64("add.f64 %ld, %la, 0d3FF0000000000000;", |a, _, _| bits(g(a) + 1.0));
}

#[test]
fn arithmetic_of_16_bit_floats_rounds_once() {
    // Sums and products of two are exact in f64, which rounds to 16 bits once.
    let b = |x: u16| f64::from(bf16::from_bits(x));
    let bf = |x: f64| if x.is_nan() { 0x7FFF } else { bf16::from_f64(x).to_bits() };
    check16("mul.rn.bf16 %hd, %ha, %hb;", |x, y, _| bf(b(x) * b(y)));
    let h = |x: u16| f64::from(f16::from_bits(x));
    let hf = |x: f64| if x.is_nan() { 0x7FFF } else { f16::from_f64(x).to_bits() };
    check16("add.rn.f16 %hd, %ha, %hb;", |x, y, _| hf(h(x) + h(y)));
    check16("mul.rn.f16 %hd, %ha, %hb;", |x, y, _| hf(h(x) * h(y)));
    // Products of 22 bits and a term of 11 bits within 2^±15: exact in f64 but for the extremes, which round alike.
    check16("fma.rn.f16 %hd, %ha, %hb, %hc;", |x, y, z| hf(h(x).mul_add(h(y), h(z))));
    check16("neg.bf16 %hd, %ha;", |x, _, _| x ^ 0x8000);
    check16("max.bf16 %hd, %ha, %hb;", |x, y, _| match (b(x).is_nan(), b(y).is_nan()) {
        (true, true) => 0x7FFF,
        (true, false) => y,
        (false, true) => x,
        _ => {
            if b(x) > b(y) || b(x) == b(y) && x < y {
                x
            } else {
                y
            }
        }
    });
    let pair = |a: u32, b: u32, c: u32| {
        let lane = |s: u32| u32::from(hf(h((a >> s) as u16).mul_add(h((b >> s) as u16), h((c >> s) as u16))));
        lane(0) | lane(16) << 16
    };
    check32("fma.rn.f16x2 %d, %a, %b, %c;", pair);
}

#[test]
fn a_sum_of_bf16_that_f64_cannot_hold_rounds_once() {
    // 2^0 + 2^-8 is a tie that 2^-100 breaks upwards; rounding to f64 first would lose it.
    let (one, tiny) = (0x3F80, bf16::from_f64(2f64.powi(-100)).to_bits());
    let half_unit = bf16::from_f64(2f64.powi(-8)).to_bits();
    let found =
        run("fma.rn.bf16 %hd, %ha, %hb, %hc; cvt.u32.u16 %d, %hd;", &[[one, u32::from(half_unit), one]]);
    assert_eq!(found, [0x3F80]);
    // (1 + 2^-7) * 2^-8 exceeds the tie.
    let found =
        run("fma.rn.bf16 %hd, %ha, %hb, %hc; cvt.u32.u16 %d, %hd;", &[[0x3F81, u32::from(half_unit), one]]);
    assert_eq!(found, [0x3F81]);
    let found = run("add.rn.bf16 %hd, %ha, %hb; cvt.u32.u16 %d, %hd;", &[[one, u32::from(tiny), 0]]);
    assert_eq!(found, [0x3F80]);
}

#[test]
fn conversions_between_floats() {
    let bf = |x: f32| if x.is_nan() { 0x7FFF } else { bf16::from_f32(x).to_bits() };
    let hf = |x: f32| if x.is_nan() { 0x7FFF } else { f16::from_f32(x).to_bits() };
    check32("cvt.rn.bf16.f32 %hd, %a; cvt.u32.u16 %d, %hd;", |a, _, _| u32::from(bf(f(a))));
    check32("cvt.rn.f16.f32 %hd, %a; cvt.u32.u16 %d, %hd;", |a, _, _| u32::from(hf(f(a))));
    check32("cvt.rn.bf16x2.f32 %d, %a, %b;", |a, b, _| u32::from(bf(f(a))) << 16 | u32::from(bf(f(b))));
    check32("cvt.rn.f16x2.f32 %d, %a, %b;", |a, b, _| u32::from(hf(f(a))) << 16 | u32::from(hf(f(b))));
    check32(
        "cvt.rz.bf16.f32 %hd, %a; cvt.u32.u16 %d, %hd;",
        |a, _, _| if f(a).is_nan() { 0x7FFF } else { a >> 16 },
    );
    check32("cvt.rn.relu.bf16.f32 %hd, %a; cvt.u32.u16 %d, %hd;", |a, _, _| {
        if f(a) <= 0.0 { 0 } else { u32::from(bf(f(a))) }
    });
    // To nearest, ties away from zero: half a unit of the last of ten fraction bits added to the magnitude.
    check32("cvt.rna.tf32.f32 %d, %a;", |a, _, _| match f(a) {
        x if x.is_nan() => 0x7FFF_E000,
        x if x.is_infinite() => a,
        _ => (a + 0x1000) & 0xFFFF_E000,
    });
    check32("cvt.f32.bf16 %d, %ha;", |a, _, _| a << 16);
    check32("cvt.f32.f16 %d, %ha;", |a, _, _| bits(f16::from_bits(a as u16).to_f32()));
    let double = |low: u32, high: u32| f64::from_bits(u64::from(low) | u64::from(high) << 32);
    check32("cvt.rn.f32.f64 %d, %la;", |a, b, _| bits(double(a, b) as f32));
    check64("cvt.f64.f32 %ld, %a;", |a, _, _| {
        let x = f64::from(f(a as u32));
        if x.is_nan() { 0x7FFF_FFFF_FFFF_FFFF } else { x.to_bits() }
    });
    check32("cvt.rni.f32.f32 %d, %a;", |a, _, _| bits(f(a).round_ties_even()));
    check32("cvt.rmi.f32.f32 %d, %a;", |a, _, _| bits(f(a).floor()));
    check32("cvt.sat.f32.f32 %d, %a;", |a, _, _| if f(a) > 0.0 { f(a).min(1.0).to_bits() } else { 0 });
}

#[test]
fn conversions_between_integers_and_floats() {
    check32("cvt.rn.f32.s32 %d, %a;", |a, _, _| (a as i32 as f32).to_bits());
    check32("cvt.rn.f32.u32 %d, %a;", |a, _, _| (a as f32).to_bits());
    check32("cvt.rz.f32.u32 %d, %a;", |a, _, _| {
        let near = a as f32;
        (if f64::from(near) > f64::from(a) { near.next_down() } else { near }).to_bits()
    });
    check32("cvt.rn.f32.s64 %d, %la;", |a, b, _| {
        ((u64::from(a) | u64::from(b) << 32) as i64 as f32).to_bits()
    });
    check64("cvt.rn.f64.u64 %ld, %la;", |a, _, _| (a as f64).to_bits());
    check64("cvt.rn.f64.s32 %ld, %a;", |a, _, _| f64::from(a as i32).to_bits());
    // Rust's casts saturate and turn NaN into zero, as these do.
    check32("cvt.rzi.s32.f32 %d, %a;", |a, _, _| f(a) as i32 as u32);
    check32("cvt.rni.s32.f32 %d, %a;", |a, _, _| f(a).round_ties_even() as i32 as u32);
    check32("cvt.rpi.u32.f32 %d, %a;", |a, _, _| f(a).ceil() as u32);
    check64("cvt.rzi.s64.f32 %ld, %a;", |a, _, _| {
        let x = f(a as u32);
        if x.is_nan() { 1 << 63 } else { x as i64 as u64 }
    });
}

#[test]
fn conversions_between_integers() {
    check64("cvt.s64.s32 %ld, %a;", |a, _, _| a as i32 as i64 as u64);
    check64("cvt.u64.u32 %ld, %a;", |a, _, _| a & 0xFFFF_FFFF);
    check32("cvt.u32.u64 %d, %lb;", |_, b, _| b);
    check32("cvt.s32.s8 %d, %a;", |a, _, _| a as i8 as i32 as u32);
    check32("cvt.u32.u8 %d, %a;", |a, _, _| a & 0xFF);
    check32("cvt.s32.s16 %d, %ha;", |a, _, _| a as i16 as i32 as u32);
    check32("cvt.sat.s8.s32 %d, %a;", |a, _, _| (a as i32).clamp(-128, 127) as u32);
    check32("cvt.sat.u16.s32 %d, %a;", |a, _, _| (a as i32).clamp(0, 65_535) as u32);
}

#[test]
fn comparisons_of_floats_with_nan() {
    let truth = |x: bool| u32::from(x);
    for (name, ordered, on_nan) in [
        ("lt", 0, false),
        ("ltu", 0, true),
        ("ge", 1, false),
        ("geu", 1, true),
        ("eq", 2, false),
        ("neu", 3, true),
    ] {
        let body = format!("setp.{name}.f32 %p, %a, %b; selp.b32 %d, 1, 0, %p;");
        check32(&body, |a, b, _| {
            let (x, y) = (f(a), f(b));
            if x.is_nan() || y.is_nan() {
                return truth(on_nan);
            }
            truth([x < y, x >= y, x == y, x != y][ordered])
        });
    }
    check32("setp.num.f32 %p, %a, %b; selp.b32 %d, 1, 0, %p;", |a, b, _| {
        truth(!f(a).is_nan() && !f(b).is_nan())
    });
    check32("testp.finite.f32 %p, %a; selp.b32 %d, 1, 0, %p;", |a, _, _| truth(f(a).is_finite()));
}

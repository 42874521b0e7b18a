//! Integer arithmetic and bit operations against wide host arithmetic.

#[path = "common/snippet.rs"]
mod snippet;

use snippet::{check16, check32, check64, run};

#[test]
fn sums_and_products_of_32_bits() {
    check32("add.s32 %d, %a, %b;", |a, b, _| (u64::from(a) + u64::from(b)) as u32);
    check32("sub.s32 %d, %a, %b;", |a, b, _| (i64::from(a) - i64::from(b)) as u32);
    check32("mul.lo.u32 %d, %a, %b;", |a, b, _| (u64::from(a) * u64::from(b)) as u32);
    check32("mul.hi.u32 %d, %a, %b;", |a, b, _| ((u64::from(a) * u64::from(b)) >> 32) as u32);
    check32("mul.hi.s32 %d, %a, %b;", |a, b, _| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32);
    check32("mad.lo.s32 %d, %a, %b, %c;", |a, b, c| (u64::from(a) * u64::from(b) + u64::from(c)) as u32);
    check32("mad.hi.u32 %d, %a, %b, %c;", |a, b, c| {
        (((u64::from(a) * u64::from(b)) >> 32) + u64::from(c)) as u32
    });
    check32("add.sat.s32 %d, %a, %b;", |a, b, _| {
        (i64::from(a as i32) + i64::from(b as i32)).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as u32
    });
    check32("mul24.lo.u32 %d, %a, %b;", |a, b, _| {
        (u64::from(a & 0xFF_FFFF) * u64::from(b & 0xFF_FFFF)) as u32
    });
    check32("sad.u32 %d, %a, %b, %c;", |a, b, c| {
        ((i64::from(a) - i64::from(b)).unsigned_abs() + u64::from(c)) as u32
    });
    check32("sad.s32 %d, %a, %b, %c;", |a, b, c| {
        ((i64::from(a as i32) - i64::from(b as i32)).unsigned_abs() + u64::from(c)) as u32
    });
}

#[test]
fn quotients_and_order_of_32_bits() {
    let nonzero = |b: u32| if b == 0 { 5 } else { b };
    let guard = "setp.eq.u32 %p, %b, 0; selp.u32 %b, 5, %b, %p;";
    check32(&format!("{guard} div.u32 %d, %a, %b;"), |a, b, _| a / nonzero(b));
    check32(&format!("{guard} rem.u32 %d, %a, %b;"), |a, b, _| a % nonzero(b));
    check32(&format!("{guard} div.s32 %d, %a, %b;"), |a, b, _| {
        (i64::from(a as i32) / i64::from(nonzero(b) as i32)) as u32
    });
    check32(&format!("{guard} rem.s32 %d, %a, %b;"), |a, b, _| {
        (i64::from(a as i32) % i64::from(nonzero(b) as i32)) as u32
    });
    check32("min.u32 %d, %a, %b;", |a, b, _| if a < b { a } else { b });
    check32("max.u32 %d, %a, %b;", |a, b, _| if a > b { a } else { b });
    check32("min.s32 %d, %a, %b;", |a, b, _| if (a as i32) < b as i32 { a } else { b });
    check32("max.s32 %d, %a, %b;", |a, b, _| if a as i32 > b as i32 { a } else { b });
    check32("abs.s32 %d, %a;", |a, _, _| if a >> 31 == 1 { 0u32.wrapping_sub(a) } else { a });
    check32("neg.s32 %d, %a;", |a, _, _| 0u32.wrapping_sub(a));
}

#[test]
fn bits_of_32() {
    check32("and.b32 %d, %a, %b;", |a, b, _| a & b);
    check32("or.b32 %d, %a, %b;", |a, b, _| a | b);
    check32("xor.b32 %d, %a, %b;", |a, b, _| a ^ b);
    check32("not.b32 %d, %a;", |a, _, _| !a);
    check32("cnot.b32 %d, %a;", |a, _, _| u32::from(a == 0));
    // The table of a function is its value on these three bytes.
    check32("lop3.b32 %d, %a, %b, %c, 0xE8;", |a, b, c| a & b | a & c | b & c);
    check32("lop3.b32 %d, %a, %b, %c, 0x96;", |a, b, c| a ^ b ^ c);
    check32("lop3.b32 %d, %a, %b, %c, 0xCA;", |a, b, c| a & b | !a & c);
    check32("shl.b32 %d, %a, %b;", |a, b, _| if b > 31 { 0 } else { (u64::from(a) << b) as u32 });
    check32("shr.u32 %d, %a, %b;", |a, b, _| if b > 31 { 0 } else { a >> b });
    check32("shr.s32 %d, %a, %b;", |a, b, _| (i64::from(a as i32) >> b.min(40)) as u32);
    check32("shf.l.wrap.b32 %d, %a, %b, %c;", |a, b, c| {
        let joined = u64::from(b) << 32 | u64::from(a);
        ((joined << (c & 31)) >> 32) as u32
    });
    check32("shf.r.clamp.b32 %d, %a, %b, %c;", |a, b, c| {
        let joined = u64::from(b) << 32 | u64::from(a);
        if c >= 32 { b } else { (joined >> c) as u32 }
    });
    check32("popc.b32 %d, %a;", |a, _, _| (0..32).map(|i| a >> i & 1).sum());
    check32("clz.b32 %d, %a;", |a, _, _| (0..32).take_while(|i| a >> (31 - i) & 1 == 0).count() as u32);
    check32("brev.b32 %d, %a;", |a, _, _| (0..32).fold(0, |r, i| r | (a >> i & 1) << (31 - i)));
    let highest = |a: u32| (0..32).rev().find(|i| a >> i & 1 == 1);
    check32("bfind.u32 %d, %a;", |a, _, _| highest(a).unwrap_or(u32::MAX));
    check32("bfind.shiftamt.u32 %d, %a;", |a, _, _| highest(a).map_or(u32::MAX, |i| 31 - i));
    check32("bfind.s32 %d, %a;", |a, _, _| highest(if a >> 31 == 1 { !a } else { a }).unwrap_or(u32::MAX));
}

#[test]
fn fields_and_bytes() {
    // The pseudocode of PTX ISA 9.7.1.20, bit by bit.
    let bfe = |a: u32, b: u32, c: u32, signed: bool| {
        let (position, length) = (b & 0xFF, c & 0xFF);
        let sign = match signed && length > 0 {
            true => a >> (position + length - 1).min(31) & 1,
            false => 0,
        };
        (0..32).fold(0, |d, i| {
            let bit = if i < length && position + i < 32 { a >> (position + i) & 1 } else { sign };
            d | bit << i
        })
    };
    check32("bfe.u32 %d, %a, %b, %c;", |a, b, c| bfe(a, b, c, false));
    check32("bfe.s32 %d, %a, %b, %c;", |a, b, c| bfe(a, b, c, true));
    check32("bfi.b32 %d, %a, %b, 5, %c;", |a, b, c| {
        (0..32).fold(b, |f, i| match i >= 5 && i - 5 < (c & 0xFF) {
            true => f & !(1 << i) | (a >> (i - 5) & 1) << i,
            false => f,
        })
    });
    check32("prmt.b32 %d, %a, %b, %c;", |a, b, c| {
        let bytes = [a.to_le_bytes(), b.to_le_bytes()].concat();
        let byte = |n: u32| {
            let selector = c >> (4 * n) & 15;
            let byte = bytes[selector as usize & 7];
            if selector > 7 { if byte > 127 { 255 } else { 0 } } else { byte }
        };
        u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
    });
    let dot = |a: u32, b: u32, c: u32| {
        let products = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
        products.map(|(x, y)| i64::from(x as i8) * i64::from(y as i8)).sum::<i64>().wrapping_add(i64::from(c))
            as u32
    };
    check32("dp4a.s32.s32 %d, %a, %b, %c;", dot);
    check32("dp4a.u32.u32 %d, %a, %b, %c;", |a, b, c| {
        let products = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
        products.map(|(x, y)| u32::from(x) * u32::from(y)).sum::<u32>().wrapping_add(c)
    });
}

#[test]
fn numbers_of_64_bits() {
    let wide = |a: u64, b: u64| u128::from(a) * u128::from(b);
    check64("add.s64 %ld, %la, %lb;", |a, b, _| (u128::from(a) + u128::from(b)) as u64);
    check64("sub.s64 %ld, %la, %lb;", |a, b, _| (i128::from(a) - i128::from(b)) as u64);
    check64("mul.lo.s64 %ld, %la, %lb;", |a, b, _| wide(a, b) as u64);
    check64("mul.hi.u64 %ld, %la, %lb;", |a, b, _| (wide(a, b) >> 64) as u64);
    check64("mul.hi.s64 %ld, %la, %lb;", |a, b, _| {
        ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
    });
    check64("mad.lo.s64 %ld, %la, %lb, %lc;", |a, b, c| (wide(a, b) as u64).wrapping_add(c));
    check64("or.b64 %lb, %lb, 1; div.s64 %ld, %la, %lb;", |a, b, _| {
        (i128::from(a as i64) / i128::from((b | 1) as i64)) as u64
    });
    check64("or.b64 %lb, %lb, 1; rem.u64 %ld, %la, %lb;", |a, b, _| a % (b | 1));
    check64("min.s64 %ld, %la, %lb;", |a, b, _| (a as i64).min(b as i64) as u64);
    check64("max.u64 %ld, %la, %lb;", |a, b, _| a.max(b));
    check64("shl.b64 %ld, %la, %b;", |a, b, _| if b as u32 > 63 { 0 } else { a << (b as u32) });
    check64("shr.u64 %ld, %la, %b;", |a, b, _| if b as u32 > 63 { 0 } else { a >> (b as u32) });
    check64("shr.s64 %ld, %la, %b;", |a, b, _| (i128::from(a as i64) >> (b as u32).min(100)) as u64);
    check64("not.b64 %ld, %la;", |a, _, _| !a);
    check64("neg.s64 %ld, %la;", |a, _, _| 0u64.wrapping_sub(a));
    check64("brev.b64 %ld, %la;", |a, _, _| (0..64).fold(0, |r, i| r | (a >> i & 1) << (63 - i)));
    check64("popc.b64 %d, %la; cvt.u64.u32 %ld, %d;", |a, _, _| u64::from(a.count_ones()));
    check64("clz.b64 %d, %la; cvt.u64.u32 %ld, %d;", |a, _, _| u64::from(a.leading_zeros()));
    check64("mul.wide.u32 %ld, %a, %b;", |a, b, _| (a & 0xFFFF_FFFF) * (b & 0xFFFF_FFFF));
    check64("mul.wide.s32 %ld, %a, %b;", |a, b, _| (i64::from(a as i32) * i64::from(b as i32)) as u64);
    check64("mad.wide.s32 %ld, %a, %b, %lc;", |a, b, c| {
        ((i64::from(a as i32) * i64::from(b as i32)) as u64).wrapping_add(c)
    });
    check64("bfi.b64 %ld, %la, %lb, 8, 48;", |a, b, _| {
        b & !(0xFFFF_FFFF_FFFF << 8) | (a & 0xFFFF_FFFF_FFFF) << 8
    });
    check64("bfe.u64 %ld, %la, 4, 40;", |a, _, _| a >> 4 & 0xFF_FFFF_FFFF);
}

#[test]
fn carries_run_through_long_sums() {
    // 64-bit and 96-bit arithmetic out of 32-bit pieces.
    check64("add.cc.u32 %d, %a, %b; addc.u32 %e, %b, %c; mov.b64 %ld, {%d, %e};", |a, b, _| {
        a.wrapping_add(b)
    });
    check64("sub.cc.u32 %d, %a, %b; subc.u32 %e, %b, %c; mov.b64 %ld, {%d, %e};", |a, b, _| {
        a.wrapping_sub(b)
    });
    check64("mad.lo.cc.u32 %d, %a, %b, %c; madc.hi.u32 %e, %a, %b, 7; mov.b64 %ld, {%d, %e};", |a, b, c| {
        (a & 0xFFFF_FFFF).wrapping_mul(b & 0xFFFF_FFFF).wrapping_add(c & 0xFFFF_FFFF).wrapping_add(7 << 32)
    });
    check64("add.cc.u64 %ld, %la, %lb; addc.u64 %ld, 0, 0;", |a, b, _| u64::from(a.checked_add(b).is_none()));
}

#[test]
fn numbers_of_16_bits() {
    check16("add.s16 %hd, %ha, %hb;", |a, b, _| a.wrapping_add(b));
    check16("mul.lo.s16 %hd, %ha, %hb;", |a, b, _| (u32::from(a) * u32::from(b)) as u16);
    check16("mad.lo.s16 %hd, %ha, %hb, %hc;", |a, b, c| (u32::from(a) * u32::from(b) + u32::from(c)) as u16);
    check16("min.s16 %hd, %ha, %hb;", |a, b, _| (a as i16).min(b as i16) as u16);
    check32("shr.s16 %hd, %ha, %b; cvt.u32.u16 %d, %hd;", |a, b, _| {
        u32::from((i32::from(a as u16 as i16) >> b.min(20)) as u16)
    });
    check32("mul.wide.s16 %d, %ha, %hb;", |a, b, _| (i32::from(a as i16) * i32::from(b as i16)) as u32);
    check32("mul.wide.u16 %d, %ha, %hb;", |a, b, _| u32::from(a as u16) * u32::from(b as u16));
    check16("xor.b16 %hd, %ha, %hb;", |a, b, _| a ^ b);
    check16("neg.s16 %hd, %ha;", |a, _, _| 0u16.wrapping_sub(a));
}

#[test]
fn packing_and_unpacking() {
    check32("mov.b32 %d, {%ha, %hb};", |a, b, _| a & 0xFFFF | b << 16);
    check32("mov.b32 {%hd, %he}, %a; mov.b32 %d, {%he, %hd};", |a, _, _| a.rotate_left(16));
    check64("mov.b64 {%d, %e}, %la; mov.b64 %ld, {%e, %d};", |a, _, _| a.rotate_left(32));
    check64("mov.b64 %ld, {%ha, %hb, %hc, %ha};", |a, b, c| {
        a & 0xFFFF | (b & 0xFFFF) << 16 | (c & 0xFFFF) << 32 | (a & 0xFFFF) << 48
    });
    check64("mov.b64 {%hd, _, %he, _}, %la; mov.b64 %ld, {%he, %hd, %hd, %he};", |a, _, _| {
        let (low, third) = (a & 0xFFFF, a >> 32 & 0xFFFF);
        third | low << 16 | low << 32 | third << 48
    });
}

#[test]
fn comparisons_and_selection() {
    check32("setp.lt.s32 %p, %a, %b; selp.b32 %d, %a, %b, %p;", |a, b, _| (a as i32).min(b as i32) as u32);
    check32("setp.hi.u32 %p, %a, %b; selp.b32 %d, 1, 0, %p;", |a, b, _| u32::from(a > b));
    check32("setp.ge.u64 %p, %la, %lb; selp.b32 %d, 1, 0, %p;", |a, b, c| u32::from((b, a) >= (c, b)));
    check32(
        "setp.eq.u32 %q, %b, %c; setp.ne.and.s32 %p|%s, %a, %b, !%q; selp.b32 %d, 1, 0, %p; selp.b32 %e, 2, 0, %s; or.b32 %d, %d, %e;",
        |a, b, c| {
            let other = b != c;
            u32::from(a != b && other) | (u32::from(a == b && other) * 2)
        },
    );
    check32("set.le.u32.s32 %d, %a, %b;", |a, b, _| if a as i32 <= b as i32 { u32::MAX } else { 0 });
    check32("slct.s32.s32 %d, %a, %b, %c;", |a, b, c| if c as i32 >= 0 { a } else { b });
    check32(
        "setp.lt.u32 %p, %a, %b; setp.lt.u32 %q, %b, %c; xor.pred %p, %p, %q; not.pred %p, %p; selp.b32 %d, 1, 0, %p;",
        |a, b, c| u32::from((a < b) == (b < c)),
    );
}

#[test]
fn guards_leave_the_other_lanes_alone() {
    check32(
        "setp.lt.u32 %p, %a, %b; mov.u32 %d, %c; @%p add.u32 %d, %a, 1; @!%p mul.lo.u32 %d, %d, 3;",
        |a, b, c| {
            if a < b { a.wrapping_add(1) } else { c.wrapping_mul(3) }
        },
    );
    let found = run("mov.u32 %d, %laneid; mov.u32 %e, %lanemask_lt;", &[[0; 3]; 64]);
    for (i, &value) in found.iter().enumerate() {
        let lane = i as u64 % 32;
        assert_eq!(value, lane | ((1 << lane) - 1) << 32);
    }
}

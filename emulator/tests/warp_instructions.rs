//! Operations between lanes, atomics, memory and control flow.

mod common;
#[path = "common/snippet.rs"]
mod snippet;

use common::{Arg, Bench};
use cuda::{Fault, Options};
use snippet::run;

/// One warp; lane `i` has `a = 3 i + 1`, `b = 31 - i`, `c = i`.
fn warp() -> Vec<[u32; 3]> {
    (0..32).map(|i| [3 * i + 1, 31 - i, i]).collect()
}

fn words(body: &str) -> Vec<u32> {
    run(body, &warp()).into_iter().map(|value| value as u32).collect()
}

fn expect(body: &str, expected: impl Fn(u32) -> u32) {
    let wanted: Vec<u32> = (0..32).map(expected).collect();
    assert_eq!(words(body), wanted, "{body}");
}

#[test]
fn shuffles() {
    let a = |lane: u32| 3 * lane + 1;
    expect("shfl.sync.bfly.b32 %d, %a, 5, 31, -1;", |i| a(i ^ 5));
    expect("shfl.sync.down.b32 %d, %a, 4, 31, -1;", |i| if i < 28 { a(i + 4) } else { a(i) });
    expect("shfl.sync.up.b32 %d, %a, 4, 0, -1;", |i| if i >= 4 { a(i - 4) } else { a(i) });
    expect("shfl.sync.idx.b32 %d, %a, %b, 31, -1;", |i| a(31 - i));
    expect("shfl.sync.down.b32 %d|%p, %a, 4, 31, -1; selp.b32 %d, 1, 0, %p;", |i| u32::from(i < 28));
    // Segments of eight: (32 - 8) << 8 | clamp (CUDA's width argument).
    expect("shfl.sync.down.b32 %d, %a, 3, 0x181F, -1;", |i| if i % 8 < 5 { a(i + 3) } else { a(i) });
    expect("shfl.sync.up.b32 %d, %a, 3, 0x1800, -1;", |i| if i % 8 >= 3 { a(i - 3) } else { a(i) });
    expect("shfl.sync.idx.b32 %d, %a, 2, 0x181F, -1;", |i| a(i / 8 * 8 + 2));
}

#[test]
fn votes_matches_and_reductions() {
    let odd = "and.b32 %x, %c, 1; setp.eq.u32 %p, %x, 1;";
    expect(&format!("{odd} vote.sync.ballot.b32 %d, %p, -1;"), |_| 0xAAAA_AAAA);
    expect(&format!("{odd} vote.sync.any.pred %q, %p, -1; selp.b32 %d, 1, 0, %q;"), |_| 1);
    expect(&format!("{odd} vote.sync.all.pred %q, %p, -1; selp.b32 %d, 1, 0, %q;"), |_| 0);
    expect("activemask.b32 %d;", |_| u32::MAX);
    expect("shr.u32 %x, %c, 3; match.any.sync.b32 %d, %x, -1;", |i| 0xFF << (i / 8 * 8));
    expect("match.all.sync.b32 %d|%p, %c, -1;", |_| 0);
    expect("redux.sync.add.s32 %d, %a, -1;", |_| (0..32).map(|i| 3 * i + 1).sum());
    expect("redux.sync.max.u32 %d, %a, -1;", |_| 94);
    expect("sub.s32 %x, %c, 9; redux.sync.min.s32 %d, %x, -1;", |_| -9i32 as u32);
    // Two halves of the warp, each with its own members, at the same instruction.
    let halves = "setp.lt.u32 %p, %c, 16; selp.b32 %x, 0xFFFF, 0xFFFF0000, %p;";
    expect(&format!("{halves} redux.sync.add.u32 %d, %c, %x;"), |i| if i < 16 { 120 } else { 376 });
}

#[test]
fn lanes_meet_again_after_they_part() {
    // Lane i runs i times through the loop; then all take part in the ballot.
    let body = "mov.u32 %x, 0; LOOP: setp.ge.u32 %p, %x, %c; @%p bra DONE; add.u32 %x, %x, 1; bra LOOP; DONE: \
                vote.sync.ballot.b32 %d, 1, -1; mad.lo.u32 %d, %x, 0, %d;";
    expect(body, |_| u32::MAX);
    // A warp barrier reached at two places by two halves.
    let body = "setp.lt.u32 %p, %c, 16; @%p bra LOW; bar.warp.sync -1; mov.u32 %d, 2; bra END; LOW: bar.warp.sync -1; \
                mov.u32 %d, 1; END: add.u32 %d, %d, 10;";
    expect(body, |i| if i < 16 { 11 } else { 12 });
}

#[test]
fn a_lock_between_lanes_of_a_warp_does_not_hang() {
    // Each lane takes the lock in turn; the loop that waits stands before the code that releases.
    let ptx = ".version 8.0 .target sm_80 .address_size 64
        .visible .entry lock(.param .u64 p) { .reg .b64 %rd<3>; .reg .b32 %r<5>; .reg .pred %p;
        ld.param.u64 %rd1, [p];
        TAKE: atom.global.cas.b32 %r1, [%rd1], 0, 1; setp.ne.u32 %p, %r1, 0; @%p bra TAKE;
        ld.global.u32 %r2, [%rd1+4]; add.u32 %r2, %r2, 1; st.global.u32 [%rd1+4], %r2;
        atom.global.exch.b32 %r3, [%rd1], 0; ret; }";
    let options = Options { warp_instruction_limit: 10_000_000, ..Options::default() };
    let bench = Bench::new(ptx, options);
    let p = bench.upload(&[0u32, 0]);
    bench.launch("lock", [1, 1, 1], [32, 1, 1], 0, &[Arg::Pointer(p)]).expect("no fault");
    assert_eq!(bench.download::<u32>(p, 2), [0, 32]);
}

#[test]
fn atomics_of_blocks_on_two_threads_lose_nothing() {
    let ptx = ".version 8.0 .target sm_80 .address_size 64
        .visible .entry count(.param .u64 p) { .reg .b64 %rd<3>; .reg .b32 %r<8>; .reg .f32 %f<3>;
        ld.param.u64 %rd1, [p]; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %tid.x;
        red.global.add.u32 [%rd1], 1;
        atom.global.max.s32 %r3, [%rd1+4], %r1;
        atom.global.min.u32 %r3, [%rd1+8], %r2;
        red.global.or.b32 [%rd1+12], %r1;
        atom.global.inc.u32 %r3, [%rd1+16], 9;
        red.global.add.f32 [%rd1+20], 0f3F000000;
        atom.global.add.u64 %rd2, [%rd1+24], 4294967297;
        ret; }";
    let bench = Bench::new(ptx, Options { threads: 2, ..Options::default() });
    let p = bench.upload(&[0u32, 0, 1000, 0, 0, 0, 0, 0]);
    bench.launch("count", [500, 1, 1], [64, 1, 1], 0, &[Arg::Pointer(p)]).expect("no fault");
    let found = bench.download::<u32>(p, 8);
    assert_eq!(found, [32_000, 499, 0, 511, 0, 16_000f32.to_bits(), 32_000, 32_000]);
}

#[test]
fn memory_of_every_space_and_width() {
    let ptx = ".version 8.0 .target sm_80 .address_size 64
        .const .align 4 .b8 table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        .global .align 8 .u64 where = generic(table);
        .extern .shared .align 16 .b8 dynamic[];
        .visible .entry spaces(.param .align 4 .b8 pair[8], .param .u64 p) {
        .local .align 8 .b8 depot[16]; .shared .align 8 .b8 fixed[24];
        .reg .b64 %rd<12>; .reg .b32 %r<20>; .reg .b16 %rs<4>; .reg .pred %p<3>;
        ld.param.u64 %rd1, [p]; ld.param.u32 %r1, [pair+4]; st.global.u32 [%rd1], %r1;
        ld.const.s8 %r2, [table+6]; st.global.u32 [%rd1+4], %r2;
        ld.global.u64 %rd2, [where]; ld.u16 %rs1, [%rd2+2]; st.global.u16 [%rd1+8], %rs1; st.global.u8 [%rd1+10], %rs1;
        st.global.b8 [%rd1+11], 200;
        mov.u64 %rd3, depot; cvta.local.u64 %rd4, %rd3; st.local.u32 [%rd3+4], 77; ld.u32 %r3, [%rd4+4]; st.global.u32 [%rd1+12], %r3;
        mov.u32 %r4, dynamic; st.shared.v2.u32 [%r4+8], {%r1, %r2};
        cvt.u64.u32 %rd5, %r4; cvta.shared.u64 %rd6, %rd5; isspacep.shared %p1, %rd6; isspacep.global %p2, %rd6;
        selp.b32 %r5, 1, 0, %p1; selp.b32 %r6, 2, 0, %p2; ld.v2.u32 {%r7, %r8}, [%rd6+8];
        st.global.v4.u32 [%rd1+16], {%r5, %r6, %r7, %r8};
        mov.u32 %r9, fixed; st.global.u32 [%rd1+32], %r9; st.global.u32 [%rd1+36], %r4;
        ret; }";
    let bench = Bench::new(ptx, Options::default());
    assert_eq!(bench.module.variable("table").map(|v| v.1), Some(8));
    let entry = bench.module.entry("spaces").expect("the entry");
    assert_eq!(
        (entry.params[1].offset, entry.param_bytes, entry.shared_bytes, entry.local_bytes),
        (8, 16, 32, 16)
    );
    let p = bench.empty(64);
    let args = [Arg::I32(5), Arg::I32(6), Arg::Pointer(p)];
    bench.launch("spaces", [1, 1, 1], [1, 1, 1], 16, &args).expect("no fault");
    let found = bench.download::<u32>(p, 10);
    assert_eq!(found, [6, 7, 0xC803_0403, 77, 1, 0, 6, 7, 0, 32]);
    let fault = bench.launch("spaces", [1, 1, 1], [1, 1, 1], 8, &args).expect_err("8 bytes are too few");
    assert!(matches!(fault, Fault::OutOfBounds { .. }), "{fault}");
}

#[test]
fn functions_and_tables_of_branches() {
    let ptx = ".version 8.0 .target sm_80 .address_size 64
        .func (.param .b32 out) power(.param .b32 base, .param .b32 n);
        .func (.param .b32 out) twice(.param .b32 x) { .reg .b32 %r<3>;
          ld.param.b32 %r1, [x]; add.u32 %r1, %r1, %r1; st.param.b32 [out+0], %r1; ret; }
        .func (.param .b32 out) power(.param .b32 base, .param .b32 n) { .reg .b32 %r<5>; .reg .pred %p;
          ld.param.b32 %r1, [base]; ld.param.b32 %r2, [n]; mov.u32 %r3, 1;
          L: setp.eq.u32 %p, %r2, 0; @%p bra D; mul.lo.u32 %r3, %r3, %r1; sub.u32 %r2, %r2, 1; bra L;
          D: { .param .b32 a; st.param.b32 [a+0], %r3; .param .b32 r; call.uni (r), twice, (a); ld.param.b32 %r3, [r+0]; }
          st.param.b32 [out+0], %r3; ret; }
        .visible .entry run(.param .u64 p) { .reg .b64 %rd<3>; .reg .b32 %r<8>; .reg .pred %p;
          ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; mad.wide.u32 %rd2, %r1, 4, %rd1; and.b32 %r2, %r1, 3;
          T: .branchtargets A, B, C;
          setp.eq.u32 %p, %r2, 3; @%p bra C;
          brx.idx %r2, T;
          A: mov.u32 %r3, 100; bra E;
          B: { .param .b32 a; st.param.b32 [a+0], 3; .param .b32 b; st.param.b32 [b+0], %r1; .param .b32 r;
               call.uni (r), power, (a, b); ld.param.b32 %r3, [r+0]; } bra E;
          C: { .param .b32 a; st.param.b32 [a+0], 2; .param .b32 b; st.param.b32 [b+0], %r1; .param .b32 r;
               call.uni (r), power, (a, b); ld.param.b32 %r3, [r+0]; }
          E: st.global.u32 [%rd2], %r3; ret; }";
    let bench = Bench::new(ptx, Options::default());
    let p = bench.empty(64);
    bench.launch("run", [1, 1, 1], [16, 1, 1], 0, &[Arg::Pointer(p)]).expect("no fault");
    let expected: Vec<u32> = (0..16u32)
        .map(|i| match i % 4 {
            0 => 100,
            1 => 2 * 3u32.pow(i),
            _ => 2 * 2u32.pow(i),
        })
        .collect();
    assert_eq!(bench.download::<u32>(p, 16), expected);
}

#[test]
fn recursion_is_refused_where_it_is_called() {
    let ptx = ".version 8.0 .target sm_80 .address_size 64
        .func again(.param .b32 n) { .param .b32 a; st.param.b32 [a+0], 1; call.uni again, (a); ret; }
        .visible .entry run() { .param .b32 a; st.param.b32 [a+0], 1; call.uni again, (a); ret; }";
    let fault = Bench::new(ptx, Options::default())
        .launch("run", [1, 1, 1], [1, 1, 1], 0, &[])
        .expect_err("recursion");
    assert!(matches!(&fault, Fault::Unsupported { detail, .. } if detail.contains("recursive")), "{fault}");
}

#[test]
fn reductions_at_barriers() {
    let ptx = ".version 8.0 .target sm_80 .address_size 64
        .visible .entry run(.param .u64 p) { .reg .b64 %rd<3>; .reg .b32 %r<8>; .reg .pred %p<5>;
          ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; mad.wide.u32 %rd2, %r1, 4, %rd1; setp.lt.u32 %p1, %r1, 40;
          barrier.red.popc.aligned.u32 %r2, 0, %p1; bar.red.and.pred %p2, 1, 96, !%p1; bar.red.or.pred %p3, 0, %p1;
          selp.b32 %r3, 1000, 0, %p2; selp.b32 %r4, 2000, 0, %p3; add.u32 %r2, %r2, %r3; add.u32 %r2, %r2, %r4;
          st.global.u32 [%rd2], %r2; ret; }";
    let bench = Bench::new(ptx, Options::default());
    let p = bench.empty(96 * 4);
    bench.launch("run", [1, 1, 1], [96, 1, 1], 0, &[Arg::Pointer(p)]).expect("no fault");
    assert_eq!(bench.download::<u32>(p, 96), [2040; 96]);
}

#[test]
fn a_warp_may_wait_for_what_another_one_writes() {
    // Warp 0 spins on a flag that warp 1 sets.
    let ptx = ".version 8.0 .target sm_80 .address_size 64
        .visible .entry wait(.param .u64 p) { .reg .b64 %rd<3>; .reg .b32 %r<5>; .reg .pred %p;
        ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; setp.ge.u32 %p, %r1, 32; @%p bra SET;
        SPIN: ld.volatile.global.u32 %r2, [%rd1]; setp.eq.u32 %p, %r2, 0; @%p bra SPIN;
        ret;
        SET: st.volatile.global.u32 [%rd1], 1; ret; }";
    for options in common::all_options() {
        let bench = Bench::new(ptx, Options { warp_instruction_limit: 1_000_000, ..options });
        let p = bench.upload(&[0u32]);
        bench.launch("wait", [1, 1, 1], [64, 1, 1], 0, &[Arg::Pointer(p)]).expect("no fault");
    }
}

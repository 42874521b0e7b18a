//! Parameters read through a register that holds their address.

mod common;

use common::{Arg, Bench};
use cuda::Options;

const PTX: &str = r#"
.version 8.0
.target sm_80
.address_size 64
.visible .entry pick(.param .align 8 .b8 pick_param_0[20]) {
    .reg .b32 %r<4>;
    .reg .b64 %rd<4>;
    mov.b64 %rd1, pick_param_0;
    add.s64 %rd2, %rd1, 16;
    ld.param.u64 %rd3, [%rd2+-16];
    ld.param.v2.u32 {%r1, %r2}, [%rd1+8];
    ld.param.u32 %r3, [%rd2];
    cvta.to.global.u64 %rd3, %rd3;
    st.global.u32 [%rd3], %r1;
    st.global.u32 [%rd3+4], %r2;
    st.global.u32 [%rd3+8], %r3;
    ret;
}"#;

#[test]
fn a_register_may_hold_a_parameters_address() {
    let bench = Bench::new(PTX, Options::default());
    let found = bench.empty(12);
    let args = [Arg::Pointer(found), Arg::I32(7), Arg::I32(-3), Arg::I32(11)];
    bench.launch("pick", [1, 1, 1], [1, 1, 1], 0, &args).expect("no fault");
    assert_eq!(bench.download::<i32>(found, 3), [7, -3, 11]);
}

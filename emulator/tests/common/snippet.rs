//! A few PTX instructions run on lists of values.
#![allow(dead_code)]

use cuda::{Device, LaunchConfig, Options};

/// Values worth trying as 32-bit integers and as f32.
pub const WORDS: [u32; 24] = [
    0,
    1,
    2,
    3,
    7,
    31,
    32,
    33,
    0x7FFF_FFFF,
    0x8000_0000,
    0x8000_0001,
    0xFFFF_FFFF,
    0xFFFF_FFFE,
    0x1234_5678,
    0xDEAD_BEEF,
    0x0000_8000,
    0x3F80_0000,
    0xBF80_0000,
    0x7F80_0000,
    0x7FC0_0000,
    0x0000_FFFF,
    0x4049_0FDB,
    0x0100_0001,
    0x00FF_00FF,
];

/// Every combination of three of the values above, thinned out to a few thousand.
pub fn triples() -> Vec<[u32; 3]> {
    let mut all = Vec::new();
    for (i, &a) in WORDS.iter().enumerate() {
        for (j, &b) in WORDS.iter().enumerate() {
            for k in 0..6 {
                all.push([a, b, WORDS[(i * 5 + j * 3 + k * 7) % WORDS.len()]]);
            }
        }
    }
    all
}

/// Runs `body` for each input. It finds the input's words in `%a`, `%b`, `%c` (and as 64 bits `%la` = a with b above, `%lb` = b with c
/// above, `%lc` = c with a above) and leaves 64 bits of result in `%d` (lower) and `%e` (upper).
pub fn run(body: &str, inputs: &[[u32; 3]]) -> Vec<u64> {
    let text = format!(
        ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry snippet(.param .u64 input, .param .u64 output, .param .u32 count)\n\
         {{\n.reg .b32 %a, %b, %c, %d, %e, %i, %n, %bd, %x, %y, %z;\n.reg .b64 %la, %lb, %lc, %ld, %le, %in, %out, %at;\n\
         .reg .b16 %ha, %hb, %hc, %hd, %he;\n.reg .pred %p, %q, %s;\n\
         ld.param.u64 %in, [input];\nld.param.u64 %out, [output];\nld.param.u32 %n, [count];\n\
         mov.u32 %x, %ctaid.x;\nmov.u32 %bd, %ntid.x;\nmov.u32 %i, %tid.x;\nmad.lo.u32 %i, %x, %bd, %i;\n\
         setp.ge.u32 %p, %i, %n;\n@%p ret;\n\
         mad.wide.u32 %at, %i, 12, %in;\nld.global.u32 %a, [%at];\nld.global.u32 %b, [%at+4];\nld.global.u32 %c, [%at+8];\n\
         mov.b64 %la, {{%a, %b}};\nmov.b64 %lb, {{%b, %c}};\nmov.b64 %lc, {{%c, %a}};\n\
         cvt.u16.u32 %ha, %a;\ncvt.u16.u32 %hb, %b;\ncvt.u16.u32 %hc, %c;\nmov.u32 %d, 0;\nmov.u32 %e, 0;\n\
         {body}\n\
         mad.wide.u32 %at, %i, 8, %out;\nst.global.v2.u32 [%at], {{%d, %e}};\nret;\n}}\n"
    );
    let device = Device::new(Options { threads: 1, ..Options::default() });
    let module = device.load_module(&text).unwrap_or_else(|error| panic!("{body}: {error}"));
    let memory = device.memory();
    let input = memory.alloc(inputs.len() as u64 * 12).expect("memory");
    let bytes: Vec<u8> = inputs.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
    memory.write(input, &bytes).expect("in bounds");
    let output = memory.alloc(inputs.len() as u64 * 8).expect("memory");
    let mut params = [input.to_le_bytes(), output.to_le_bytes()].concat();
    params.extend((inputs.len() as u32).to_le_bytes());
    let config =
        LaunchConfig { grid: [inputs.len().div_ceil(64) as u32, 1, 1], block: [64, 1, 1], shared_bytes: 0 };
    device.launch(&module, "snippet", &config, &params).unwrap_or_else(|fault| panic!("{body}: {fault}"));
    let mut bytes = vec![0; inputs.len() * 8];
    memory.read(output, &mut bytes).expect("in bounds");
    bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes"))).collect()
}

/// Compares a 32-bit result, left in `%d` by `body`, with `expected` on all [`triples`].
pub fn check32(body: &str, expected: impl Fn(u32, u32, u32) -> u32) {
    let inputs = triples();
    for (&[a, b, c], found) in inputs.iter().zip(run(body, &inputs)) {
        let wanted = expected(a, b, c);
        assert_eq!(found as u32, wanted, "{body} of {a:#x}, {b:#x}, {c:#x}: {found:#x}, not {wanted:#x}");
    }
}

/// As [`check32`] for 64 bits in `%ld`.
pub fn check64(body: &str, expected: impl Fn(u64, u64, u64) -> u64) {
    let inputs = triples();
    let whole = format!("{body} mov.b64 {{%d, %e}}, %ld;");
    for (&[a, b, c], found) in inputs.iter().zip(run(&whole, &inputs)) {
        let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let (x, y, z) = (join(a, b), join(b, c), join(c, a));
        let wanted = expected(x, y, z);
        assert_eq!(found, wanted, "{body} of {x:#x}, {y:#x}, {z:#x}: {found:#x}, not {wanted:#x}");
    }
}

/// As [`check32`] for 16 bits in `%hd`.
pub fn check16(body: &str, expected: impl Fn(u16, u16, u16) -> u16) {
    check32(&format!("{body} cvt.u32.u16 %d, %hd;"), |a, b, c| {
        u32::from(expected(a as u16, b as u16, c as u16))
    });
}

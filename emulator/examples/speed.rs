//! Measures the emulator: a tensor-core GEMM and a softmax, per second of processor time on one thread, and per second on two.
//! `cargo run --release -p emo-emulator --example speed`

use std::sync::Arc;
use std::time::Instant;

use cuda::{Device, LaunchConfig, Module, Options, Stats};

const GEMM: &str = include_str!("../tests/kernels/gemm.ptx");
const ROWS: &str = include_str!("../tests/kernels/rows.ptx");

/// Seconds that the main thread spent on a processor; elsewhere than on Linux, seconds since `start`.
fn seconds(start: Instant, threads: usize) -> f64 {
    let scheduled = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds =
        scheduled.and_then(|text| text.split(' ').next().and_then(|first| first.parse::<f64>().ok()));
    match nanoseconds {
        Some(nanoseconds) if threads == 1 => nanoseconds / 1e9,
        _ => start.elapsed().as_secs_f64(),
    }
}

/// Repeats a launch for a second; what it did in all, and the seconds it took.
fn measure(
    device: &Device,
    module: &Arc<Module>,
    entry: &str,
    config: &LaunchConfig,
    params: &[u8],
) -> Result<(Stats, f64), Box<dyn std::error::Error>> {
    let (start, threads) = (Instant::now(), device.options().threads);
    let before = seconds(start, threads);
    let mut total = Stats::default();
    while start.elapsed().as_secs_f64() < 1.0 {
        let stats = device.launch(module, entry, config, params)?;
        total.thread_instructions += stats.thread_instructions;
        total.mma_flops += stats.mma_flops;
    }
    Ok((total, seconds(start, threads) - before))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (threads, checks) in [(1, true), (1, false), (2, true)] {
        println!("{threads} thread(s), checks {checks}");
        let device = Device::new(Options { threads, checks, ..Options::default() });
        let memory = device.memory();

        let module = device.load_module(GEMM)?;
        let n: u64 = 256;
        let (a, b, c) = (memory.alloc(n * n * 2)?, memory.alloc(n * n * 2)?, memory.alloc(n * n * 4)?);
        memory.fill(a, &0x3F80_u16.to_le_bytes(), n * n)?;
        memory.fill(b, &0x3F80_u16.to_le_bytes(), n * n)?;
        let mut params: Vec<u8> = [a, b, c].iter().flat_map(|p| p.to_le_bytes()).collect();
        params.extend([n as u32; 3].iter().flat_map(|p| p.to_le_bytes()));
        let config = LaunchConfig { grid: [4, 4, 1], block: [128, 1, 1], shared_bytes: 0 };
        let (stats, time) = measure(&device, &module, "gemm_bf16", &config, &params)?;
        let rate = |count: u64| count as f64 / time / 1e6;
        let (flops, instructions) = (rate(stats.mma_flops), rate(stats.thread_instructions));
        println!("  gemm 256 x 256 x 256: {flops:.0} MFLOP/s, {instructions:.0} M thread instructions/s");

        let module = device.load_module(ROWS)?;
        let (rows, width) = (64u64, 1000u64);
        let (x, y) = (memory.alloc(rows * width * 4)?, memory.alloc(rows * width * 4)?);
        memory.fill(x, &1f32.to_le_bytes(), rows * width)?;
        let mut params: Vec<u8> = [x, y].iter().flat_map(|p| p.to_le_bytes()).collect();
        params.extend((width as u32).to_le_bytes());
        let config = LaunchConfig { grid: [rows as u32, 1, 1], block: [128, 1, 1], shared_bytes: 0 };
        let (stats, time) = measure(&device, &module, "softmax", &config, &params)?;
        println!(
            "  softmax 64 x 1000: {:.0} M thread instructions/s",
            stats.thread_instructions as f64 / time / 1e6
        );
    }
    Ok(())
}

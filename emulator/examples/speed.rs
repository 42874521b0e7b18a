//! Measures the emulator: a tensor-core GEMM and a scalar loop, on one thread and on all.
//! `cargo run --release -p emo-emulator --example speed`

use std::time::Instant;

use cuda::{Device, LaunchConfig, Options};

const GEMM: &str = include_str!("../tests/kernels/gemm.ptx");
const ROWS: &str = include_str!("../tests/kernels/rows.ptx");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (threads, checks) in [(1, true), (1, false), (2, true)] {
        println!("{threads} thread(s), checks {checks}");
        let options = Options { threads, checks, ..Options::default() };
        let device = Device::new(options);
        let n: u64 = 256;
        let module = device.load_module(GEMM)?;
        let (a, b, c) = (
            device.memory().alloc(n * n * 2)?,
            device.memory().alloc(n * n * 2)?,
            device.memory().alloc(n * n * 4)?,
        );
        device.memory().fill(a, &0x3F80_u16.to_le_bytes(), n * n)?;
        device.memory().fill(b, &0x3F80_u16.to_le_bytes(), n * n)?;
        let mut params: Vec<u8> = [a, b, c].iter().flat_map(|p| p.to_le_bytes()).collect();
        params.extend([n as u32; 3].iter().flat_map(|p| p.to_le_bytes()));
        let config = LaunchConfig { grid: [4, 4, 1], block: [128, 1, 1], shared_bytes: 0 };
        let start = Instant::now();
        let mut flops = 0;
        let mut instructions = 0;
        while start.elapsed().as_secs_f64() < 1.0 {
            let stats = device.launch(&module, "gemm_bf16", &config, &params)?;
            flops += stats.mma_flops;
            instructions += stats.thread_instructions;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "  gemm 256x256x256: {:.0} MFLOP/s, {:.0} M thread instructions/s",
            flops as f64 / seconds / 1e6,
            instructions as f64 / seconds / 1e6
        );
        let module = device.load_module(ROWS)?;
        let (rows, width) = (64u64, 1000u64);
        let (x, y) = (device.memory().alloc(rows * width * 4)?, device.memory().alloc(rows * width * 4)?);
        device.memory().fill(x, &1f32.to_le_bytes(), rows * width)?;
        let mut params: Vec<u8> = [x, y].iter().flat_map(|p| p.to_le_bytes()).collect();
        params.extend((width as u32).to_le_bytes());
        let config = LaunchConfig { grid: [rows as u32, 1, 1], block: [128, 1, 1], shared_bytes: 0 };
        let (start, mut instructions) = (Instant::now(), 0);
        while start.elapsed().as_secs_f64() < 1.0 {
            instructions += device.launch(&module, "softmax", &config, &params)?.thread_instructions;
        }
        let rate = instructions as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("  softmax 64x1000: {rate:.0} M thread instructions/s");
    }
    Ok(())
}

//! Kernels as `nvcc` compiled them, against the same sums in plain Rust.

mod common;

use common::{Arg, Bench, Numbers, all_options, from_bf16, to_bf16};
use cuda::{Options, Stats};

const GEMM: &str = include_str!("kernels/gemm.ptx");
const ROWS: &str = include_str!("kernels/rows.ptx");

fn gemm(options: Options, [m, n, k]: [usize; 3]) -> (Vec<f32>, Vec<f64>, Stats) {
    let bench = Bench::new(GEMM, options);
    let mut numbers = Numbers(7);
    let a: Vec<u16> = numbers.take(m * k).into_iter().map(to_bf16).collect();
    let b: Vec<u16> = numbers.take(n * k).into_iter().map(to_bf16).collect();
    let (pa, pb, pc) = (bench.upload(&a), bench.upload(&b), bench.empty(m * n * 4));
    let grid = [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1];
    let args = [
        Arg::Pointer(pa),
        Arg::Pointer(pb),
        Arg::Pointer(pc),
        Arg::I32(m as i32),
        Arg::I32(n as i32),
        Arg::I32(k as i32),
    ];
    let stats = bench.launch("gemm_bf16", grid, [128, 1, 1], 0, &args).expect("no fault");
    let mut expected = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            let products =
                (0..k).map(|p| f64::from(from_bf16(a[i * k + p])) * f64::from(from_bf16(b[j * k + p])));
            expected[i * n + j] = products.sum();
        }
    }
    (bench.download(pc, m * n), expected, stats)
}

#[test]
fn a_tensor_core_gemm_agrees_under_every_schedule() {
    for options in all_options() {
        let (found, expected, stats) = gemm(options, [70, 50, 96]);
        let worst = found.iter().zip(&expected).map(|(&x, &y)| (f64::from(x) - y).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-5, "{worst}");
        assert_eq!(stats.mma_flops, 2 * 128 * 64 * 96);
    }
}

#[test]
fn softmax_agrees_under_every_schedule() {
    for options in all_options() {
        let bench = Bench::new(ROWS, options);
        let (rows, n) = (5, 1000);
        let x = Numbers(3).take(rows * n);
        let (px, py) = (bench.upload(&x), bench.empty(rows * n * 4));
        let args = [Arg::Pointer(px), Arg::Pointer(py), Arg::I32(n as i32)];
        bench.launch("softmax", [rows as u32, 1, 1], [128, 1, 1], 0, &args).expect("no fault");
        let y: Vec<f32> = bench.download(py, rows * n);
        for row in 0..rows {
            let x = &x[row * n..(row + 1) * n];
            let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
            for (&x, &y) in x.iter().zip(&y[row * n..]) {
                let expected = f64::from(x).exp() / sum;
                assert!((f64::from(y) - expected).abs() < 2e-6 * expected, "{y} {expected}");
            }
        }
    }
}

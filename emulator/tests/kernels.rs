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

#[test]
fn rms_norm_of_bf16_with_dynamic_shared_memory_agrees() {
    for options in all_options() {
        let bench = Bench::new(ROWS, options);
        let (rows, n, eps) = (3, 200, 1e-5f32);
        let mut numbers = Numbers(11);
        let x: Vec<u16> = numbers.take(rows * n).into_iter().map(to_bf16).collect();
        let g = numbers.take(n);
        let (px, pg, py) = (bench.upload(&x), bench.upload(&g), bench.empty(rows * n * 2));
        let args = [Arg::Pointer(px), Arg::Pointer(pg), Arg::Pointer(py), Arg::I32(n as i32), Arg::F32(eps)];
        bench.launch("rmsnorm", [rows as u32, 1, 1], [64, 1, 1], n as u32 * 4, &args).expect("no fault");
        let y: Vec<u16> = bench.download(py, rows * n);
        for row in 0..rows {
            let x: Vec<f64> = x[row * n..(row + 1) * n].iter().map(|&x| f64::from(from_bf16(x))).collect();
            let scale = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / n as f64 + f64::from(eps)).sqrt();
            for (i, &y) in y[row * n..(row + 1) * n].iter().enumerate() {
                let expected = x[i] * scale * f64::from(g[i]);
                assert!((f64::from(from_bf16(y)) - expected).abs() <= expected.abs() / 250.0 + 1e-30);
            }
        }
    }
}

#[test]
fn adamw_with_powf_agrees() {
    let bench = Bench::new(ROWS, Options::default());
    let n = 1000;
    let mut numbers = Numbers(13);
    let (p, m, g) = (numbers.take(n), numbers.take(n), numbers.take(n));
    let v: Vec<f32> = numbers.take(n).into_iter().map(f32::abs).collect();
    let buffers =
        [bench.upload(&p), bench.upload(&m), bench.upload(&v), bench.upload(&g), bench.empty(n * 2)];
    let [lr, b1, b2, eps, decay] = [1e-2f32, 0.9, 0.95, 1e-8, 0.1];
    let mut args: Vec<Arg> = buffers.into_iter().map(Arg::Pointer).collect();
    args.push(Arg::I32(n as i32));
    args.extend([lr, b1, b2, eps, decay].map(Arg::F32));
    args.push(Arg::I32(7));
    bench.launch("adamw", [8, 1, 1], [128, 1, 1], 0, &args).expect("no fault");
    let found: Vec<f32> = bench.download(buffers[0], n);
    let rounded: Vec<u16> = bench.download(buffers[4], n);
    let [lr, b1, b2, eps, decay] = [lr, b1, b2, eps, decay].map(f64::from);
    for i in 0..n {
        let [p, m, v, g] = [p[i], m[i], v[i], g[i]].map(f64::from);
        let (m, v) = (b1 * m + (1.0 - b1) * g, b2 * v + (1.0 - b2) * g * g);
        let update = (m / (1.0 - b1.powi(7))) / ((v / (1.0 - b2.powi(7))).sqrt() + eps) + decay * p;
        let expected = p - lr * update;
        assert!(
            (f64::from(found[i]) - expected).abs() < 1e-5 * (1.0 + expected.abs()),
            "{} {expected}",
            found[i]
        );
        assert_eq!(rounded[i], to_bf16(found[i]));
    }
}

#[test]
fn rope_with_large_angles_agrees() {
    // Positions up to 200000 take the slow path of sincosf, with its table in local memory.
    let bench = Bench::new(ROWS, Options::default());
    let (n, d) = (4, 8);
    let x = Numbers(17).take(n * d);
    let px = bench.upload(&x);
    for base in [10_000f32, 1e-12] {
        bench
            .device
            .memory()
            .write(px, &x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
            .expect("in bounds");
        let args = [Arg::Pointer(px), Arg::I32(n as i32), Arg::I32(d as i32), Arg::F32(base)];
        bench.launch("rope", [1, 1, 1], [32, 1, 1], 0, &args).expect("no fault");
        let found: Vec<f32> = bench.download(px, n * d);
        for t in 0..n {
            for j in 0..d / 2 {
                // The angle in f32, as the kernel has it; its sine exactly.
                let frequency = (f64::from(base)).powf(-2.0 * j as f64 / d as f64) as f32;
                let (a, b) = (f64::from(x[t * d + j]), f64::from(x[t * d + j + d / 2]));
                let angle = f64::from(t as f32 * frequency);
                let expected = a * angle.cos() - b * angle.sin();
                // powf is good to a few units in the last place, which a large angle magnifies.
                let tolerance = 1e-5 + 1e-6 * angle;
                assert!((f64::from(found[t * d + j]) - expected).abs() < tolerance, "{t} {j} {angle}");
            }
        }
    }
}

#[test]
fn device_functions_tables_and_counters_agree() {
    let bench = Bench::new(ROWS, Options::default());
    let x: Vec<f32> = (0..64).map(|i| i as f32 / 64.0).collect();
    let px = bench.upload(&x);
    bench.launch("calls", [1, 1, 1], [64, 1, 1], 0, &[Arg::Pointer(px), Arg::I32(6)]).expect("no fault");
    let slow = |a: f32, n: i32| (0..n).fold(0f32, |s, i| s.mul_add(a, i as f32));
    let mut expected: Vec<f32> =
        x.iter().enumerate().map(|(i, &x)| slow(x, 6) + slow(2.0, i as i32)).collect();
    // Case 6 of the switch, in every thread: x[9] = x[8].
    expected[9] = expected[8];
    assert_eq!(bench.download::<f32>(px, 64), expected);

    bench.launch("glob", [1, 1, 1], [64, 1, 1], 0, &[Arg::Pointer(px)]).expect("no fault");
    let found: Vec<f32> = bench.download(px, 64);
    assert!(found.iter().enumerate().all(|(i, &x)| x == (i % 4 + 1) as f32));
    let (counter, bytes) = bench.module.variable("counter").expect("the variable");
    assert_eq!(bytes, 4);
    assert_eq!(bench.download::<i32>(counter, 1), [(0..64).map(|i| i % 3 + 1).sum::<i32>()]);
}

#[test]
fn warp_intrinsics_of_cuda_agree() {
    let bench = Bench::new(ROWS, Options::default());
    let x: Vec<i32> = (0..65).map(|i| i % 10).collect();
    let (px, out, o64) = (bench.upload(&x), bench.upload(&vec![0i32; 300]), bench.upload(&vec![0u64; 80]));
    let dd = bench.upload(&vec![0.5f64; 64]);
    let h =
        bench.upload(&(0..64).map(|i| half::f16::from_f32(i as f32 / 8.0).to_bits()).collect::<Vec<u16>>());
    let ho = bench.empty(128);
    let args = [px, out, o64, dd, h, ho].map(Arg::Pointer);
    let args: Vec<Arg> = args.into_iter().chain([Arg::I32(64)]).collect();
    bench.launch("misc", [2, 1, 1], [32, 1, 1], 0, &args).expect("no fault");
    let out: Vec<i32> = bench.download(out, 300);
    for warp in 0..2usize {
        let lanes = &x[warp * 32..warp * 32 + 32];
        for (i, &value) in lanes.iter().enumerate() {
            let same = lanes
                .iter()
                .enumerate()
                .filter(|(_, other)| **other == value)
                .fold(0u32, |m, (j, _)| m | 1 << j);
            assert_eq!(out[8 + warp * 32 + i] as u32, same);
        }
    }
    let ballot = |warp: usize| (0..32).filter(|&i| x[warp * 32 + i] > 3).fold(0u32, |m, i| m | 1 << i);
    assert_eq!(out[0] as u32, ballot(0).wrapping_mul(32).wrapping_add(ballot(1).wrapping_mul(32)));
    assert_eq!(out[1], 9);
    assert_eq!(f32::from_bits(out[4] as u32), 96.0);
    let halves: Vec<u16> = bench.download(ho, 64);
    for (i, &found) in halves.iter().enumerate() {
        let value = i as f32 / 8.0;
        assert_eq!(found, half::f16::from_f32(value * value + value).to_bits());
    }
    let doubles: Vec<f64> = bench.download(dd, 64);
    for (i, &found) in doubles.iter().enumerate() {
        let q = f64::from(x[i] * x[i] / 7);
        let expected = q.sqrt() + 0.5f64.exp() * 0.5f64.sin();
        assert!((found - expected).abs() < 1e-14, "{found} {expected}");
    }
}

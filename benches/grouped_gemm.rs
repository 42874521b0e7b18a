//! Matrix products and expert MLPs on the CPU: GFLOP/s, and the share of the multiply-add peak measured in alternation.
//!
//! `cargo bench -p emo --bench grouped_gemm` uses every core; add `-- --quick` for a short run.

use criterion::{Criterion, Throughput};
use emo::cpu::experts::{self, BackwardInputs, BackwardOutputs, Rows, Slots};
use emo::cpu::gemm::Machine;
use emo::cpu::grouped_gemm::{self, Gather, Shape};
use emo::cpu::isa::Isa;
use emo::cpu::threads::Threads;
use emo::cpu::{linear, peak};
use emo::ops::activation::Activation;
use std::time::{Duration, Instant};

/// Pseudo-random values of mean 0 that neither overflow nor turn denormal.
fn values(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

/// Tokens that choose `k` of `experts` each, as a plan: offsets, the token of each row and the slot of each row.
/// The loads are as uneven as random choices make them.
fn plan(tokens: usize, experts: usize, k: usize) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let mut of_expert = vec![vec![]; experts];
    let mut state = 7u32;
    for token in 0..tokens {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let first = (state >> 8) as usize;
        // An odd stride below the number of experts keeps a token's choices distinct when that is a power of two.
        let stride = (first / experts % experts) | 1;
        for choice in 0..k {
            of_expert[(first + choice * stride) % experts].push((token * k + choice) as u32);
        }
    }
    let mut offsets = vec![0];
    of_expert.iter().for_each(|slots| offsets.push(offsets[offsets.len() - 1] + slots.len() as u32));
    let order: Vec<u32> = of_expert.into_iter().flatten().collect();
    let token = order.iter().map(|slot| slot / k as u32).collect();
    (offsets, token, order)
}

/// Prints best and median GFLOP/s of `op` and the median share of the peak, measured just before each run; then hands
/// the op to criterion.
fn report(c: &mut Criterion, machine: Machine, name: &str, flops: f64, mut op: impl FnMut()) {
    op();
    let (mut rates, mut shares) = (vec![], vec![]);
    for _ in 0..15 {
        let peak = peak::fma_gflops(machine.threads, machine.isa, Duration::from_millis(10));
        let (start, mut runs) = (Instant::now(), 0.0);
        while runs == 0.0 || start.elapsed() < Duration::from_millis(10) {
            op();
            runs += 1.0;
        }
        let rate = runs * flops * 1e-9 / start.elapsed().as_secs_f64();
        rates.push(rate);
        shares.push(rate / peak);
    }
    rates.sort_by(f64::total_cmp);
    shares.sort_by(f64::total_cmp);
    println!(
        "{name}: best {:.0}, median {:.0} GFLOP/s, median share of peak {:.0} %",
        rates[14],
        rates[7],
        100.0 * shares[7]
    );
    let mut group = c.benchmark_group("gemm");
    group.throughput(Throughput::Elements(flops as u64));
    group.bench_function(name, |b| b.iter(&mut op));
    group.finish();
}

fn dense(c: &mut Criterion, machine: Machine, rows: usize, n: usize, k: usize) {
    let (x, w, dy) = (values(rows * k), values(n * k), values(rows * n));
    let (mut y, mut dx, mut dw) = (vec![0.0; rows * n], vec![0.0; rows * k], vec![0.0; n * k]);
    let mut workspace = vec![0.0; linear::workspace_len(n, k, machine.threads.len())];
    let shape = linear::Shape { rows, n, k };
    let flops = 2.0 * (rows * n * k) as f64;
    let name = |op: &str| format!("dense {op} {rows}x{n}x{k}");
    report(c, machine, &name("forward"), flops, || {
        linear::forward(machine, shape, &x, &w, None, &mut y, &mut workspace).unwrap();
    });
    report(c, machine, &name("dgrad"), flops, || {
        linear::dgrad(machine, shape, &dy, &w, &mut dx, false, &mut workspace).unwrap();
    });
    report(c, machine, &name("wgrad"), flops, || {
        linear::wgrad(machine, shape, &dy, &x, &mut dw, None, &mut workspace).unwrap();
    });
}

fn grouped(
    c: &mut Criterion,
    machine: Machine,
    tokens: usize,
    experts: usize,
    top: usize,
    n: usize,
    k: usize,
) {
    let (offsets, token, _) = plan(tokens, experts, top);
    let rows = token.len();
    let (x, w, dy) = (values(tokens * k), values(experts * n * k), values(tokens * n));
    let (mut y, mut dx, mut dw) = (vec![0.0; rows * n], vec![0.0; rows * k], vec![0.0; experts * n * k]);
    let mut workspace = vec![0.0; grouped_gemm::workspace_len(experts, n, k, machine.threads.len())];
    let shape = Shape { offsets: &offsets, n, k };
    let flops = 2.0 * (rows * n * k) as f64;
    let name = |op: &str| format!("grouped {op} E{experts} top{top} {tokens} tokens {n}x{k}");
    let (x, dy) = (Gather { data: &x, index: Some(&token) }, Gather { data: &dy, index: Some(&token) });
    report(c, machine, &name("forward"), flops, || {
        grouped_gemm::forward(machine, shape, x, &w, &mut y, &mut workspace).unwrap();
    });
    report(c, machine, &name("dgrad"), flops, || {
        grouped_gemm::dgrad(machine, shape, dy, &w, &mut dx, false, &mut workspace).unwrap();
    });
    report(c, machine, &name("wgrad"), flops, || {
        grouped_gemm::wgrad(machine, shape, dy, x, &mut dw, &mut workspace).unwrap();
    });
}

fn mlp(c: &mut Criterion, machine: Machine, tokens: usize, top: usize, shape: experts::Shape) {
    let experts::Shape { experts, width, hidden, .. } = shape;
    let (offsets, token, order) = plan(tokens, experts, top);
    let rows = token.len();
    let (x, dy, weights) = (values(tokens * width), values(tokens * width), values(tokens * top));
    let (w_in, w_out) = (values(experts * shape.pre_width() * width), values(experts * width * hidden));
    let (mut pre, mut y) = (vec![0.0; rows * shape.pre_width()], vec![0.0; rows * width]);
    let (mut dx, mut dweights) = (vec![0.0; rows * width], vec![0.0; tokens * top]);
    let (mut dw_in, mut dw_out) = (vec![0.0; w_in.len()], vec![0.0; w_out.len()]);
    let threads = machine.threads.len();
    let workspace_len = shape.forward_workspace_len(threads).max(shape.backward_workspace_len(rows, threads));
    let mut workspace = vec![0.0; workspace_len];
    let plan = Rows { offsets: &offsets, token: Some(&token) };
    let flops = 2.0 * (rows * width * (shape.pre_width() + hidden)) as f64;
    let name = |op: &str| format!("experts {op} E{experts} top{top} {tokens} tokens d{width} h{hidden}");
    report(c, machine, &name("forward"), flops, || {
        experts::forward(machine, shape, plan, &x, &w_in, &w_out, &mut pre, &mut y, &mut workspace).unwrap();
    });
    report(c, machine, &name("backward"), 2.0 * flops, || {
        let slots = Slots { order: &order, weights: &weights, dweights: &mut dweights };
        let inputs = BackwardInputs { x: &x, pre: &pre, w_in: &w_in, w_out: &w_out, dy: &dy, row_grad: None };
        let outputs = BackwardOutputs { dx: &mut dx, dw_in: &mut dw_in, dw_out: &mut dw_out };
        experts::backward(machine, shape, plan, Some(slots), inputs, outputs, &mut workspace).unwrap();
    });
}

fn main() {
    let n = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = Threads::new(n).unwrap_or_else(|e| panic!("{e}"));
    let machine = Machine { threads: &threads, isa: Isa::detect() };
    let best = |f: &dyn Fn() -> f64| (0..5).map(|_| f()).fold(0.0, f64::max);
    let short = Duration::from_millis(20);
    println!(
        "{n} threads, {:?}: {:.0} GFLOP/s multiply-add, {:.1} GB/s copy",
        machine.isa,
        best(&|| peak::fma_gflops(&threads, machine.isa, short)),
        best(&|| peak::copy_gb_s(&threads, short))
    );
    let c = &mut Criterion::default()
        .configure_from_args()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10);
    dense(c, machine, 512, 512, 512);
    dense(c, machine, 2048, 256, 256);
    dense(c, machine, 2048, 4096, 256);
    dense(c, machine, 16, 512, 512);
    grouped(c, machine, 4096, 64, 8, 512, 512);
    grouped(c, machine, 4096, 64, 8, 256, 512);
    let (activation, gated) = (Activation::Silu, true);
    mlp(c, machine, 2048, 4, experts::Shape { experts: 32, width: 256, hidden: 128, activation, gated });
    mlp(c, machine, 4096, 8, experts::Shape { experts: 64, width: 512, hidden: 256, activation, gated });
    c.final_summary();
}

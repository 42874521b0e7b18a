//! What the benches share: the tests' shapes and buffers, and one way to measure an op against its floor, on the device
//! that `EMO_BENCH_DEVICE` names: `cpu`, `cpu-bf16`, or with feature `cuda` `cuda-f32` or `cuda-bf16`.
//!
//! Without criterion's `--bench`, that is in `cargo test`, every op runs once on a small share of its shape.

// A bench uses its own part of the tables.
#[allow(dead_code)]
#[path = "../../tests/common/agree.rs"]
pub mod agree;
#[allow(dead_code)]
#[path = "../../tests/common/device.rs"]
pub mod device;
#[allow(dead_code)]
#[path = "../../tests/common/floors.rs"]
pub mod floors;
#[allow(dead_code)]
pub mod plan;
#[allow(dead_code)]
pub mod scores;
#[allow(dead_code)]
#[path = "../../tests/common/shapes.rs"]
pub mod shapes;

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use emo::Backend;
use emo::backend::Real;
use emo::cpu::Cpu;

use agree::values;
use device::{Held, hold};
use floors::Floor;
use shapes::Size;

/// Measures ops one after the other.
pub struct Bench {
    criterion: Criterion,
    pub size: Size,
}

impl Bench {
    /// Short runs: ten samples in about a second.
    pub fn new() -> Self {
        let measured = std::env::args().any(|argument| argument == "--bench");
        let criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1))
            .nresamples(2000)
            .without_plots()
            .configure_from_args();
        Self { criterion, size: if measured { Size::Full } else { Size::Small } }
    }

    /// Measures `op` as `name/case`, with the wait for the device at the end of each sample.
    pub fn run<B: Backend>(
        &mut self,
        device: &B,
        name: &str,
        case: &str,
        floor: Floor,
        mut op: impl FnMut() -> emo::Result<()> + Send,
    ) {
        let failed = |error| panic!("{name}, {case}: {error}");
        let mark = hold(device, &[0u8]);
        let mut group = self.criterion.benchmark_group(name);
        // Flat: slow ops run once a sample.
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::ElementsAndBytes {
            elements: floor.flops as u64,
            bytes: floor.bytes_of(size_of::<B::Storage>()) as u64,
        });
        group.bench_function(case, |bencher| {
            bencher.iter_custom(|times| {
                let start = Instant::now();
                device.enter(|| (0..times).for_each(|_| op().unwrap_or_else(failed)));
                device.download(mark.all(), &mut [0]).unwrap_or_else(failed);
                start.elapsed()
            });
        });
        group.finish();
    }

    /// Criterion's closing words.
    pub fn finish(self) {
        self.criterion.final_summary();
    }
}

/// The CPU with as many threads as `EMO_BENCH_THREADS` says, or one a core.
pub fn cpu() -> Cpu {
    let threads = std::env::var("EMO_BENCH_THREADS").ok().map(|text| {
        text.parse().unwrap_or_else(|_| panic!("EMO_BENCH_THREADS is `{text}`, expected a number of threads"))
    });
    threads.map_or_else(Cpu::all_cores, Cpu::new).unwrap_or_else(|error| panic!("{error}"))
}

/// `main` of a bench that is a function of a backend.
macro_rules! bench_main {
    ($measure:path) => {
        fn main() {
            let mut bench = $crate::harness::Bench::new();
            match std::env::var("EMO_BENCH_DEVICE").as_deref().unwrap_or("cpu") {
                "cpu" => $measure(&$crate::harness::cpu(), &mut bench),
                "cpu-bf16" => $measure(&$crate::harness::cpu().storing::<half::bf16>(), &mut bench),
                #[cfg(feature = "cuda")]
                "cuda-f32" => $measure(&$crate::harness::gpu::<f32>(), &mut bench),
                #[cfg(feature = "cuda")]
                "cuda-bf16" => $measure(&$crate::harness::gpu::<half::bf16>(), &mut bench),
                other => panic!("EMO_BENCH_DEVICE is `{other}`, which this build has no backend for"),
            }
            bench.finish();
        }
    };
}
pub(crate) use bench_main;

/// GPU 0.
#[cfg(feature = "cuda")]
pub fn gpu<S: emo::cuda::CudaStorage>() -> emo::cuda::Cuda<S> {
    emo::cuda::Cuda::new(0).unwrap_or_else(|error| panic!("{error}"))
}

/// A buffer of values in [-1, 1).
#[allow(dead_code)]
pub fn floats<B: Backend, T: Real>(device: &B, len: usize, seed: u64) -> Held<'_, B, T> {
    // A block over and over: as good as random to an op that has no branches on values, and far quicker to make.
    let block: Vec<T> = values(len.min(100_003), seed).into_iter().map(T::from_f64).collect();
    hold(device, &block.iter().copied().cycle().take(len).collect::<Vec<T>>())
}

/// A buffer of zeros.
pub fn zeros<B: Backend, T: Real>(device: &B, len: usize) -> Held<'_, B, T> {
    hold(device, &vec![T::from_f64(0.0); len])
}

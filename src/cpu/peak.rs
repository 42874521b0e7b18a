//! What the machine can do: the yardstick for every throughput that is reported.

use super::isa::Isa;
use super::simd::{Kernel, Simd, Storage};
use super::threads::Threads;
use half::bf16;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Measured rates of all threads together.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    /// f32 fused multiply-add throughput in 10^9 FLOP/s, one FMA counting as two.
    pub gflops: f64,
    /// The same of pairs of bf16; of f32 where the processor has no such instruction.
    pub bf16_gflops: f64,
    /// Copying between buffers far larger than the caches, in 10^9 bytes/s, reads and writes both counted.
    pub copy_gb_s: f64,
}

/// Measures the rates, about `duration` each.
pub fn measure(threads: &Threads, isa: Isa, duration: Duration) -> Peak {
    Peak {
        gflops: fma_gflops(threads, isa, duration),
        bf16_gflops: gflops::<bf16>(threads, isa, duration),
        copy_gb_s: copy_gb_s(threads, duration),
    }
}

/// The f32 multiply-add throughput of all threads together in GFLOP/s, measured for about `duration`.
pub fn fma_gflops(threads: &Threads, isa: Isa, duration: Duration) -> f64 {
    gflops::<f32>(threads, isa, duration)
}

/// The throughput of the multiply-adds that matrix products of `T` are made of, in GFLOP/s.
pub fn gflops<T: Storage>(threads: &Threads, isa: Isa, duration: Duration) -> f64 {
    let mut flops = vec![0.0; threads.len()];
    let start = Instant::now();
    threads.for_each_chunk(&mut flops, 1, |_, flops, _| {
        // At least once, however late a busy machine lets the thread start.
        loop {
            flops[0] += multiply::<T>(isa, black_box(20_000));
            if start.elapsed() >= duration {
                break;
            }
        }
    });
    flops.iter().sum::<f64>() / start.elapsed().as_secs_f64() * 1e-9
}

/// Independent chains: two pipelines of four to six cycles' latency need at least ten, and twelve fit sixteen registers.
const CHAINS: usize = 12;

/// Returns the FLOPs done.
fn multiply<T: Storage>(isa: Isa, steps: usize) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if T::in_pairs(isa) {
        // SAFETY: pairs are for a processor that has AVX-512 BF16.
        return unsafe { multiply_pairs(steps) };
    }
    isa.dispatch(Multiply { steps })
}

/// Independent chains of multiply-adds that stay in registers. Returns the FLOPs done.
struct Multiply {
    steps: usize,
}

impl Kernel for Multiply {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let (x, y) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
        let mut sums = [x; CHAINS];
        for _ in 0..self.steps {
            for sum in &mut sums {
                *sum = s.fma(*sum, x, y);
            }
        }
        black_box(sums.into_iter().fold(0.0, |total, v| total + s.reduce_add(v)));
        (2 * S::LANES * CHAINS * self.steps) as f64
    }
}

/// The same with pairs of bf16.
///
/// # Safety
/// The processor must have AVX-512 BF16, and what [`Isa::Avx512`] stands for.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,popcnt")]
unsafe fn multiply_pairs(steps: usize) -> f64 {
    use super::simd::Avx512;
    // SAFETY: the caller promises the features.
    let s = unsafe { Avx512::new() };
    let (x, y) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
    let mut sums = [x; CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            // SAFETY: as above.
            *sum = unsafe { s.dot_pairs(x, y, *sum) };
        }
    }
    black_box(sums.into_iter().fold(0.0, |total, v| total + s.reduce_add(v)));
    (4 * Avx512::LANES * CHAINS * steps) as f64
}

/// Copy throughput of all threads together in GB/s, measured for about `duration`.
pub fn copy_gb_s(threads: &Threads, duration: Duration) -> f64 {
    const LEN: usize = 16 << 20;
    const PART: usize = 1 << 16;
    let (from, mut to) = (vec![1.0f32; LEN], vec![0.0f32; LEN]);
    let mut pass = || {
        threads.for_each_chunk(&mut to, PART, |i, to, _| to.copy_from_slice(&from[i * PART..][..to.len()]))
    };
    // The first pass maps the memory.
    pass();
    let (start, mut bytes) = (Instant::now(), 0.0);
    while bytes == 0.0 || start.elapsed() < duration {
        pass();
        bytes += (2 * LEN * size_of::<f32>()) as f64;
    }
    let rate = bytes / start.elapsed().as_secs_f64() * 1e-9;
    black_box(&to);
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_positive() {
        let peak = measure(&Threads::new(2).unwrap(), Isa::detect(), Duration::from_millis(2));
        assert!(peak.gflops > 0.0 && peak.gflops.is_finite());
        assert!(peak.bf16_gflops > 0.0 && peak.bf16_gflops.is_finite());
        assert!(peak.copy_gb_s > 0.0 && peak.copy_gb_s.is_finite());
    }
}

//! One op on the specification and on every CPU backend: values agree, and bits do not depend on the number of threads.

use emo::Backend;
use emo::cpu::Cpu;
use emo::cpu::isa::Isa;
use emo::oracle::Oracle;
use std::sync::OnceLock;

/// What an op wrote, with names for the failure messages. Indices are widened.
pub type Outputs = Vec<(&'static str, Vec<f64>)>;

/// A call of an op with its inputs.
pub trait Call {
    /// Makes the call on any backend.
    fn on<B: Backend>(&self, backend: &B) -> Outputs;
    /// For the failure messages.
    fn name(&self) -> String;
    /// The sum of absolute terms behind an output element, at most: `|err| <= 2e-6 (1 + terms + |exact|)`.
    fn terms(&self) -> f64 {
        0.0
    }
}

/// The thread counts whose results must be the same bits.
const THREADS: [usize; 3] = [1, 2, 7];

/// For every instruction set of this processor, a backend for each thread count.
pub fn machines() -> &'static [Vec<Cpu>] {
    static MACHINES: OnceLock<Vec<Vec<Cpu>>> = OnceLock::new();
    MACHINES.get_or_init(|| {
        let with_threads = |isa| THREADS.map(|threads| Cpu::with_isa(threads, isa).unwrap()).into();
        Isa::available().map(with_threads).collect()
    })
}

/// Panics, naming the output and its element, where a backend is wrong or not deterministic.
#[track_caller]
pub fn agree(call: &impl Call) {
    let exact = call.on(&Oracle);
    for machines in machines() {
        let first = call.on(&machines[0]);
        let place = format!("{} on {}", call.name(), machines[0].describe());
        assert_eq!(exact.len(), first.len(), "{place}");
        for ((name, exact), (_, found)) in exact.iter().zip(&first) {
            assert_eq!(exact.len(), found.len(), "{place}: {name}");
            for (i, (exact, found)) in exact.iter().zip(found).enumerate() {
                let bound = 2e-6 * (1.0 + call.terms() + exact.abs());
                // Written so that NaN fails.
                let close = (found - exact).abs() <= bound || found == exact;
                assert!(close, "{place}: {name}[{i}] is {found}, expected {exact} (at most {bound:.1e} off)");
            }
        }
        for machine in &machines[1..] {
            for ((name, first), (_, found)) in first.iter().zip(&call.on(machine)) {
                let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(first), bits(found), "{name} of {place} and {}", machine.describe());
            }
        }
    }
}

/// f32 values in [-1, 1) from a counter, the same on every run.
pub fn values(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1u32 << 23) - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Indices below `bound` from a counter.
pub fn indices(len: usize, bound: usize, seed: u64) -> Vec<u32> {
    values(len, seed).into_iter().map(|v| ((v + 1.0) / 2.0 * bound as f64) as u32).collect()
}

/// Indices as outputs.
pub fn widen(indices: &[u32]) -> Vec<f64> {
    indices.iter().map(|&index| f64::from(index)).collect()
}

//! One op on the specification and on every CPU backend: values agree, and bits do not depend on the number of threads.
//!
//! Backends that store bf16 get inputs that are exact in bf16, and so does the specification they are compared with.

use emo::Backend;
use emo::cpu::Cpu;
use emo::cpu::isa::Isa;
use emo::oracle::Oracle;
use half::bf16;
use std::cell::Cell;
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
    /// How many stored values, each rounded, stand between the inputs and an output element, at most.
    fn stages(&self) -> f64 {
        1.0
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

/// The same that store bf16, for two thread counts.
fn coarse_machines() -> &'static [Vec<Cpu<bf16>>] {
    static MACHINES: OnceLock<Vec<Vec<Cpu<bf16>>>> = OnceLock::new();
    MACHINES.get_or_init(|| {
        let with_threads = |isa| [1, 3].map(|threads| Cpu::with_isa(threads, isa).unwrap().storing()).into();
        Isa::available().map(with_threads).collect()
    })
}

thread_local! {
    /// Whether [`values`] are exact in bf16.
    static COARSE: Cell<bool> = const { Cell::new(false) };
}

/// Panics, naming the output and its element, where a backend is wrong or not deterministic.
#[track_caller]
pub fn agree(call: &impl Call) {
    let exact = call.on(&Oracle);
    compare(call, &exact, machines(), |exact, _| 2e-6 * (1.0 + call.terms() + exact.abs()));
}

/// [`agree`], and the same with bf16 storage. There an element may be off by 2^-8, the rounding of a bf16, of its size and, for
/// every stage, of the root mean square of its array, which is about what the rounding of other elements adds up to.
#[track_caller]
pub fn agree_stored(call: &impl Call) {
    agree(call);
    COARSE.set(true);
    let exact = call.on(&Oracle);
    compare(call, &exact, coarse_machines(), |exact, rms| {
        2f64.powi(-8) * (exact.abs() + call.stages() * rms) + 2e-6 * (1.0 + call.terms())
    });
    COARSE.set(false);
}

#[track_caller]
fn compare<B: Backend>(
    call: &impl Call,
    exact: &Outputs,
    machines: &[Vec<B>],
    bound: impl Fn(f64, f64) -> f64,
) {
    for machines in machines {
        let first = call.on(&machines[0]);
        let place = format!("{} on {}", call.name(), machines[0].describe());
        assert_eq!(exact.len(), first.len(), "{place}");
        for ((name, exact), (_, found)) in exact.iter().zip(&first) {
            assert_eq!(exact.len(), found.len(), "{place}: {name}");
            let squares = exact.iter().map(|value| value * value).sum::<f64>();
            let rms = (squares / exact.len().max(1) as f64).sqrt();
            for (i, (exact, found)) in exact.iter().zip(found).enumerate() {
                let bound = bound(*exact, rms);
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

/// Values in [-1, 1) from a counter, the same on every run, that every storage type at hand holds exactly.
pub fn values(len: usize, seed: u64) -> Vec<f64> {
    counter(len, seed).map(storable).collect()
}

/// The nearest value that every storage type at hand holds exactly.
pub fn storable(value: f64) -> f64 {
    if COARSE.get() { bf16::from_f64(value).to_f64() } else { f64::from(value as f32) }
}

fn counter(len: usize, seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1u32 << 23) - 1.0
    })
}

/// Indices below `bound` from a counter.
pub fn indices(len: usize, bound: usize, seed: u64) -> Vec<u32> {
    counter(len, seed).map(|v| ((v + 1.0) / 2.0 * bound as f64) as u32).collect()
}

/// Indices as outputs.
pub fn widen(indices: &[u32]) -> Vec<f64> {
    indices.iter().map(|&index| f64::from(index)).collect()
}

//! One op on the specification and on a backend: values agree within the storage's rounding, and bits do not depend on
//! the run. Which backends those are is each test target's own.

use emo::Backend;

/// What an op wrote, with names for the failure messages. Indices are widened.
pub type Outputs = Vec<(&'static str, Vec<f64>)>;

/// A call of an op with its inputs.
pub trait Call {
    /// Makes the call on any backend.
    fn on<B: Backend>(&self, backend: &B) -> Outputs;
    /// For the failure messages.
    fn name(&self) -> String;
    /// The sum of absolute terms behind an output element, at most: what a [`Bound`] goes by.
    fn terms(&self) -> f64 {
        0.0
    }
}

/// How far an element may be off, given the sum of absolute terms behind it, at most, and its exact value.
pub type Bound = fn(f64, f64) -> f64;

/// f32 arithmetic on f32 values.
pub fn in_f32(terms: f64, exact: f64) -> f64 {
    2e-6 * (1.0 + terms + exact.abs())
}

/// f32 arithmetic on bf16 values, against the reference with the same storage: both round a result, so that it may be off
/// by a whole last place, and each term may hold a value that a kernel keeps in bf16 between two products.
pub fn in_bf16(terms: f64, exact: f64) -> f64 {
    in_f32(terms, exact) + (1.0 + terms / 4.0) / 256.0 + exact.abs() / 128.0
}

/// Makes the call on a backend. Panics, naming the output and its element, where that is wrong.
#[track_caller]
pub fn close<B: Backend>(call: &impl Call, exact: &Outputs, backend: &B, bound: Bound) -> Outputs {
    let outputs = call.on(backend);
    let place = format!("{} on {}", call.name(), backend.describe());
    assert_eq!(exact.len(), outputs.len(), "{place}");
    for ((name, exact), (_, found)) in exact.iter().zip(&outputs) {
        assert_eq!(exact.len(), found.len(), "{place}: {name}");
        for (i, (exact, found)) in exact.iter().zip(found).enumerate() {
            let bound = bound(call.terms(), *exact);
            // Written so that NaN fails.
            let close = (found - exact).abs() <= bound || found == exact;
            assert!(close, "{place}: {name}[{i}] is {found}, expected {exact} (at most {bound:.1e} off)");
        }
    }
    outputs
}

/// Makes the call on a backend. Panics, naming the output, where it is not bit for bit what was found before.
#[track_caller]
pub fn same_bits<B: Backend>(call: &impl Call, found: &Outputs, backend: &B) {
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for ((name, found), (_, again)) in found.iter().zip(&call.on(backend)) {
        assert_eq!(bits(found), bits(again), "{name} of {} on {}", call.name(), backend.describe());
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

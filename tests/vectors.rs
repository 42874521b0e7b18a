//! Runs every case of the kernel test vectors through the reference and every other backend.
//!
//! The cases lie in `kernels/` under the folder that `EMO_VECTORS` names (default: `tests/vectors`); its README describes
//! every array. A case of a known kind needs no new code. A kind, a parameter or an array that the runner does not know is
//! a failure that names it, never a skip; so is an `out_*` array that nothing was compared with.

mod common;

use common::backend::{KernelBackend, Reference};
use common::case::{Case, load_cases, vectors_folder};
use common::compare::Tolerance;
use common::emo_backend::Ops;
use emo::cpu::Cpu;
use emo::cpu::isa::Isa;
use emo::oracle::OracleIn;

/// Runs all cases on one backend and returns what went wrong, one line each.
fn failures(backend: &dyn KernelBackend, cases: &[Case]) -> Vec<String> {
    let run = |case: &Case| case.finish(common::kinds::run(backend, case));
    cases
        .iter()
        .filter_map(|case| run(case).err().map(|e| format!("{}: {}: {e}", backend.name(), case.name)))
        .collect()
}

fn run_all(backend: &dyn KernelBackend) {
    let folder = vectors_folder().join("kernels");
    let cases = load_cases(&folder).unwrap_or_else(|e| panic!("{e}"));
    assert!(!cases.is_empty(), "{} lists no case", folder.display());
    let failures = failures(backend, &cases);
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    println!("{}: {} cases", backend.name(), cases.len());
}

#[test]
fn reference() {
    run_all(&Reference);
}

/// f32 with every instruction set of this processor: `|err| <= 2e-6 (1 + sum |terms|)`.
#[test]
fn cpu() {
    let tolerance = Tolerance { relative: 2e-6, by_terms: true, tie: 3e-7 };
    for isa in Isa::available() {
        let name = match isa {
            Isa::Portable => "cpu (portable)",
            Isa::Avx2 => "cpu (AVX2)",
            Isa::Avx512 => "cpu (AVX-512)",
            Isa::Avx512Bf16 => "cpu (AVX-512 with BF16)",
        };
        run_all(&Ops { backend: &Cpu::with_isa(2, isa).unwrap(), name, tolerance });
    }
}

/// A GPU with f32 storage: as close as the CPU.
#[cfg(feature = "cuda")]
#[test]
fn cuda_f32() {
    let Some(gpu) = common::gpu::gpu::<f32>() else { return };
    let tolerance = Tolerance { relative: 2e-6, by_terms: true, tie: 3e-7 };
    run_all(&Ops { backend: &gpu, name: "cuda (f32)", tolerance });
}

/// bf16 storage. The inputs of the cases are f32: each is off by up to one part in 512 when it is stored, and so is each
/// product of two by one in 256; a layer of experts stores four times on its way (pre-activations, activations, rows,
/// output) and four times back. Experts whose scores differ less than two inputs' error may be taken in either order.
const IN_BF16: Tolerance = Tolerance { relative: 1.0 / 32.0, by_terms: true, tie: 1.0 / 64.0 };

/// What storage alone does, with exact arithmetic between: the bound above is not a kernel's.
#[test]
fn oracle_bf16() {
    let backend = &OracleIn::<half::bf16>::default();
    run_all(&Ops { backend, name: "oracle (bf16)", tolerance: IN_BF16 });
}

/// A GPU with bf16 storage: within the same bound.
#[cfg(feature = "cuda")]
#[test]
fn cuda_bf16() {
    let Some(gpu) = common::gpu::gpu::<half::bf16>() else { return };
    run_all(&Ops { backend: &gpu, name: "cuda (bf16)", tolerance: IN_BF16 });
}

/// The runner itself must be able to fail: a wrong value, an unknown kind, an unknown parameter, an unknown input and an
/// output that nothing compares are each named.
#[test]
fn the_runner_names_what_is_wrong() {
    let case = || {
        let mut case = Case::new("usage", serde_json::json!({}));
        case.insert("in_counts", &[3], &[1.0, 3.0, 0.0]);
        case.insert("out_max_over_mean", &[], &[2.25]);
        case.insert("out_cv", &[], &[(14.0_f64 / 9.0).sqrt() * 0.75]);
        let entropy = -(0.25 * 0.25_f64.ln() + 0.75 * 0.75_f64.ln()) / 3.0_f64.ln();
        case.insert("out_norm_entropy", &[], &[entropy]);
        case.insert("out_dead", &[], &[1.0]);
        case
    };
    let only = |case: Case| failures(&Reference, &[case]);
    assert_eq!(only(case()), Vec::<String>::new());

    let complain = |case: Case, words: &str| {
        let found = only(case);
        assert!(found.len() == 1 && found[0].contains(words), "expected {words:?} in {found:?}");
    };
    let mut wrong = case();
    wrong.insert("out_cv", &[], &[0.9]);
    complain(wrong, "out_cv");
    let mut extra = case();
    extra.insert("out_gini", &[], &[0.9]);
    complain(extra, "out_gini");
    let mut input = case();
    input.insert("in_weights", &[], &[0.9]);
    complain(input, "in_weights");
    let mut parameter = case();
    parameter.params = serde_json::json!({"power": 2});
    complain(parameter, "power");
    let mut kind = case();
    kind.name = "waltz_3_4".into();
    complain(kind, "waltz");
    let mut length = case();
    length.insert("out_cv", &[2], &[0.9, 0.9]);
    complain(length, "out_cv");
}

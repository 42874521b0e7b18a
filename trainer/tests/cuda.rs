//! Training on a GPU is training on the processor: the same losses within rounding, and runs that change over.
#![cfg(feature = "cuda")]

#[path = "../../tests/common/gpu.rs"]
mod gpu;
mod support;

use gpu::gpu;
use support::{Place, fail, succeed};

/// The losses of a run's steps.
fn losses(place: &Place, out: &str) -> Vec<f64> {
    let steps = place.metrics(out).into_iter().filter(|record| record["kind"] == "step");
    steps.map(|record| record["loss"].as_f64().expect("a finite loss")).collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], relative: f64) {
    assert_eq!(found.len(), expected.len());
    for (step, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs() / expected;
        assert!(off <= relative, "step {}: {found}, expected {expected} ({off:.1e} off)", step + 1);
    }
}

#[test]
fn a_gpu_trains_as_the_processor_does() {
    if gpu::<f32>().is_none() {
        return;
    }
    let place = Place::new();
    succeed(&mut place.pretrain("cpu", &["--device", "cpu"]));
    let expected = losses(&place, "cpu");
    assert_eq!(expected.len(), 20);
    for (out, device) in [("gpu", "cuda"), ("again", "cuda:0")] {
        succeed(&mut place.pretrain(out, &["--device", device]));
    }
    assert_close(&losses(&place, "gpu"), &expected, 1e-3);
    place.assert_same("gpu", "again", 20);
    // Activations and matrices of three digits: the losses of a run agree in two.
    succeed(&mut place.pretrain("bf16", &["--device", "cuda", "--storage", "bf16"]));
    assert_close(&losses(&place, "bf16"), &expected, 1e-2);
}

#[test]
fn a_run_changes_devices_at_a_checkpoint() {
    if gpu::<f32>().is_none() {
        return;
    }
    let place = Place::new();
    succeed(&mut place.pretrain("cpu", &["--device", "cpu"]));
    let expected = losses(&place, "cpu");
    for (out, first, then) in [("down", "cuda", "cpu"), ("up", "cpu", "cuda")] {
        succeed(&mut place.pretrain(out, &["--device", first, "--stop-after", "7"]));
        succeed(&mut place.pretrain(out, &["--device", then, "--resume"]));
        assert_close(&losses(&place, out), &expected, 1e-3);
    }
}

#[test]
fn a_gpu_that_is_not_there_is_named() {
    if gpu::<f32>().is_none() {
        return;
    }
    let place = Place::new();
    let said = fail(&mut place.pretrain("run", &["--device", "cuda:4096"]), 1);
    assert!(said.contains("device 4096 of "), "{said}");
    let said = fail(&mut place.pretrain("run", &["--device", "gpu"]), 2);
    assert!(said.contains("`cuda:N`"), "{said}");
}

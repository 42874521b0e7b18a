//! The same run gives the same bits, whatever the number of threads.

use crate::support::{Place, succeed};

#[test]
fn one_two_and_seven_threads_give_the_same_trajectory_and_the_same_weights() {
    let place = Place::new();
    for storage in ["f32", "bf16"] {
        let out = |threads: &str| format!("{storage}-{threads}");
        for threads in ["1", "2", "7"] {
            let set = format!("train.storage={storage}");
            succeed(&mut place.pretrain(&out(threads), &["--threads", threads, "--set", &set]));
        }
        assert_eq!(place.metrics(&out("1")).len(), 22, "20 steps and 2 validations");
        place.assert_same(&out("1"), &out("2"), 20);
        place.assert_same(&out("1"), &out("7"), 20);
    }
}

#[test]
fn the_seed_changes_weights_and_order() {
    let place = Place::new();
    for seed in ["0", "1"] {
        succeed(&mut place.pretrain(seed, &["--seed", seed, "--steps", "3"]));
    }
    assert_ne!(place.metrics("0")[0]["loss"], place.metrics("1")[0]["loss"]);
}

#[test]
fn micro_batches_do_not_change_what_the_step_computes() {
    let place = Place::new();
    // The load is counted over the whole step, so accumulation changes rounding only.
    succeed(&mut place.pretrain("whole", &["--steps", "4"]));
    succeed(&mut place.pretrain("parts", &["--steps", "4", "--set", "train.micro_batch=1"]));
    let (whole, parts) = (place.metrics("whole"), place.metrics("parts"));
    for (whole, parts) in whole.iter().zip(&parts).filter(|(record, _)| record["kind"] == "step") {
        for key in ["loss", "ce", "grad_norm"] {
            let (a, b) = (whole[key].as_f64().unwrap(), parts[key].as_f64().unwrap());
            assert!((a - b).abs() < 1e-3 * a.abs(), "{key} of step {}: {a} and {b}", whole["step"]);
        }
    }
}

//! A run that starts from another run's weights, and parameters that stay as they are.

use crate::support::{Place, fail, succeed, weights};

#[test]
fn frozen_parameters_keep_every_bit_and_the_others_move() {
    let place = Place::new();
    succeed(&mut place.pretrain("first", &[]));
    let first = place.step("first", 20);
    let init = format!("train.init={}", place.path("first").display());
    let freeze = "train.freeze=[\"embedding\", \"layers.*.experts_*\"]";
    succeed(&mut place.pretrain("second", &["--set", &init, "--set", freeze, "--seed", "5"]));
    let (before, after) = (weights(&first), weights(&place.step("second", 20)));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, values) in &before {
        let frozen = name.contains("embed_tokens") || name.contains("experts");
        assert_eq!(*values == after[name], frozen, "{name}");
    }
}

#[test]
fn annealing_takes_the_moments_over_and_resumes_bit_for_bit() {
    let place = Place::new();
    succeed(&mut place.pretrain("first", &[]));
    let init = format!("train.init={}", place.path("first").display());
    let anneal = [
        "--set",
        &init,
        "--set",
        "train.init_moments=true",
        "--set",
        "losses.load_balance=0.0",
        "--set",
        "schedule.shape=linear",
        "--set",
        "schedule.warmup=0",
        "--set",
        "router.pool=none",
    ];
    succeed(&mut place.pretrain("whole", &anneal));
    succeed(&mut place.pretrain("parts", &[&anneal[..], &["--stop-after", "9"]].concat()));
    succeed(&mut place.pretrain("parts", &[&anneal[..], &["--resume"]].concat()));
    place.assert_same("whole", "parts", 20);
    // The moments are worth something: without them the first steps, and so the weights, are others.
    succeed(&mut place.pretrain("fresh", &[&anneal[..2], &anneal[4..]].concat()));
    assert_ne!(weights(&place.step("whole", 20)), weights(&place.step("fresh", 20)));
}

#[test]
fn another_models_weights_are_refused_with_the_setting_that_differs() {
    let place = Place::new();
    succeed(&mut place.pretrain("first", &["--steps", "1"]));
    let init = format!("train.init={}", place.path("first").display());
    let said = fail(&mut place.pretrain("other", &["--set", &init, "--set", "model.rope_theta=10000"]), 1);
    assert!(said.contains("rope_theta") && said.contains("10000"), "{said}");
    let said = fail(&mut place.pretrain("other", &["--set", "train.freeze=[\"heads\"]"]), 2);
    assert!(said.contains("heads") && said.contains("embedding"), "{said}");
}

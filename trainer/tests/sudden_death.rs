//! A hundred times `kill -9` at arbitrary moments, while training, saving and preparing data: whoever goes on afterwards ends
//! exactly where an undisturbed run does.
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use support::{Place, names, succeed};

/// Starts `command` and kills it within `span`; true where it had ended by itself before that.
fn killed_within(command: &mut Command, span: Duration, random: &mut ChaCha8Rng) -> bool {
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let share = f64::from(random.next_u32()) / f64::from(u32::MAX);
    let until = Instant::now() + span.mul_f64(share);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "it ended by itself, and badly: {command:?}");
            return true;
        }
        if Instant::now() >= until {
            // On Unix this is SIGKILL: nothing of the process runs after it.
            child.kill().unwrap();
            return child.wait().unwrap().success();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_trainer_that_is_killed_loses_nothing() {
    const KILLS: usize = 60;
    let place = Place::new();
    let settings = [
        "--steps",
        "40",
        "--set",
        "run.checkpoint_every=1",
        "--set",
        "run.keep=3",
        "--set",
        "validation.every=7",
    ];
    let start = Instant::now();
    succeed(&mut place.pretrain("whole", &settings));
    let span = start.elapsed();
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let (mut kills, mut attempt, mut resumed) = (0, 0, 0);
    while kills < KILLS {
        let out = format!("cut-{attempt}");
        attempt += 1;
        loop {
            let checkpoints = place.path(&out).join("checkpoints");
            let saved =
                checkpoints.exists() && names(&checkpoints).iter().any(|name| !name.ends_with(".partial"));
            let how = if saved { "--resume" } else { "--force" };
            resumed += usize::from(saved);
            let mut run = place.pretrain(&out, &[&settings[..], &[how]].concat());
            if killed_within(&mut run, span, &mut random) {
                break;
            }
            kills += 1;
        }
        place.assert_same("whole", &out, 40);
        let kept = names(&place.path(&out).join("checkpoints"));
        assert_eq!(kept, ["step-00000038", "step-00000039", "step-00000040"], "the last three and no debris");
    }
    assert!(resumed > KILLS / 3, "{resumed} of {kills} kills came after a checkpoint");
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let named = names(folder).into_iter().filter(|name| name != ".lock");
    named.map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap())).collect()
}

#[test]
fn data_that_is_prepared_by_a_killed_process_is_the_same_data() {
    const KILLS: usize = 40;
    let place = Place::new();
    let text = place.path("lines.jsonl");
    let mut lines = String::new();
    for document in 0..4000usize {
        let words: Vec<String> =
            (0..40).map(|word| format!("w{}", (document * 7 + word * word) % 97)).collect();
        lines += &format!("{{\"domain\":\"d{}\",\"text\":\"{}\"}}\n", document % 5, words.join(" "));
    }
    std::fs::write(&text, lines).unwrap();
    let build = |out: &str| {
        let mut command = place.trainer();
        command.args(["data", "build", "--domain-key", "domain", "--shard-tokens", "20000"]).arg(&text);
        command.arg("--out").arg(place.path(out));
        command
    };
    let start = Instant::now();
    succeed(&mut build("whole"));
    let span = start.elapsed();
    let mut random = ChaCha8Rng::seed_from_u64(21);
    let (mut kills, mut attempt) = (0, 0);
    while kills < KILLS {
        let out = format!("cut-{attempt}");
        attempt += 1;
        while !killed_within(&mut build(&out), span, &mut random) {
            kills += 1;
        }
        assert!(contents(&place.path("whole")) == contents(&place.path(&out)), "attempt {attempt}");
    }
}

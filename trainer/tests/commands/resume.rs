//! A run that stops and goes on ends exactly where an undisturbed one does.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::{Place, fail, stderr, succeed};

/// Settings that have state of their own to carry over.
const EVERYTHING: [&str; 8] = [
    "--set",
    "train.micro_batch=2",
    "--set",
    "router.loss_free_rate=0.01",
    "--set",
    "router.smoothing=learned",
    "--set",
    "router.gate_bias=true",
];

#[test]
fn stopping_and_resuming_changes_no_bit() {
    let place = Place::new();
    let bf16 = ["--set", "train.storage=bf16"];
    for (whole, parts, settings) in [("a", "b", &[][..]), ("c", "d", &EVERYTHING[..]), ("e", "f", &bf16[..])]
    {
        succeed(&mut place.pretrain(whole, settings));
        let stop = [settings, &["--stop-after", "7"]].concat();
        succeed(&mut place.pretrain(parts, &stop));
        assert!(place.step(parts, 7).exists());
        succeed(&mut place.pretrain(parts, &[settings, &["--resume"]].concat()));
        place.assert_same(whole, parts, 20);
    }
}

#[test]
fn resuming_needs_nothing_but_the_folder_and_may_extend_the_run() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--stop-after", "5"]));
    let mut resume = place.trainer();
    resume.args(["pretrain", "--resume", "--steps", "24", "--threads", "1", "--out"]).arg(place.path("run"));
    succeed(&mut resume);
    assert!(place.step("run", 24).exists());
    let said = fail(&mut place.pretrain("run", &["--resume", "--steps", "10"]), 2);
    assert!(said.contains("at step 24 already") && said.contains("--steps"), "{said}");
}

#[test]
#[cfg(unix)]
fn ctrl_c_finishes_the_step_saves_and_the_printed_command_continues() {
    let place = Place::new();
    let steps = ["--steps", "400", "--set", "validation.every=0", "--set", "run.checkpoint_every=0"];
    succeed(&mut place.pretrain("whole", &steps));

    let mut run = place.pretrain("cut", &[&steps[..], &["--json"]].concat());
    let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"step\":3,")), "no third step");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    // Reading on keeps the pipe from filling up.
    let last = lines.map(Result::unwrap).last().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let summary: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(summary["finished"], false);
    let step = summary["steps"].as_u64().unwrap();
    assert!((3..400).contains(&step), "stopped after step {step}");
    assert!(place.step("cut", step).exists());
    let said = stderr(&output);
    let command = said.lines().last().unwrap().trim();
    assert!(command.ends_with("--resume"), "{said}");

    let continued = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(continued.status.success(), "{command}: {}", stderr(&continued));
    place.assert_same("whole", "cut", 400);
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_to_the_one_before_it_and_says_so() {
    let place = Place::new();
    succeed(&mut place.pretrain("whole", &[]));
    for (out, file) in
        [("cut", "model.safetensors"), ("bent", "optimizer.safetensors"), ("lost", "manifest.json")]
    {
        succeed(&mut place.pretrain(out, &["--stop-after", "13"]));
        let path = place.step(out, 13).join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        match out {
            "cut" => bytes.truncate(bytes.len() / 2),
            "bent" => *bytes.last_mut().unwrap() ^= 1,
            _ => bytes.clear(),
        }
        std::fs::write(&path, bytes).unwrap();
        let said = stderr(&succeed(&mut place.pretrain(out, &["--resume"])));
        assert!(said.contains("step-00000013") && said.contains(file), "{said}");
        assert!(said.contains("resuming after step 10"), "{said}");
        place.assert_same("whole", out, 20);
    }
}

#[test]
fn another_configuration_other_text_and_no_checkpoint_are_refused() {
    let place = Place::new();
    let said = fail(&mut place.pretrain("run", &["--resume"]), 1);
    assert!(said.contains("start without --resume"), "{said}");
    succeed(&mut place.pretrain("run", &["--stop-after", "5"]));
    let said = fail(&mut place.pretrain("run", &["--resume", "--set", "optimiser.beta1=0.5"]), 2);
    assert!(said.contains("`optimiser.beta1` was 0.9, is 0.5"), "{said}");
    std::fs::write(place.path("text/prose/more.txt"), "another document, long enough to be read ".repeat(9))
        .unwrap();
    let said = fail(&mut place.pretrain("run", &["--resume"]), 1);
    assert!(said.contains("data position does not belong to this run"), "{said}");
    assert!(place.step("run", 5).exists());
}

#[test]
fn a_run_goes_on_with_a_lower_learning_rate_only_when_told_to() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--stop-after", "5"]));
    std::fs::write(place.path("lower.toml"), "base = \"tiny\"\n[optimiser]\nlr = 0.005\n").unwrap();
    let mut edited = place.trainer();
    edited.args(["pretrain", "lower.toml", "--set", "run.name=tiny", "--set", "data.source=folder", "--set"]);
    edited.arg(format!("data.path='{}'", place.path("text").display()));
    edited.args(["--set", "data.min_valid_bytes=512", "--resume", "--out"]).arg(place.path("run"));
    assert!(fail(&mut edited, 2).contains("`optimiser.lr` was 0.01, is 0.005"));
    let lower = ["--resume", "--set", "optimiser.lr=0.005", "--stop-after", "6"];
    let said = stderr(&succeed(&mut place.pretrain("run", &lower)));
    assert!(said.contains("`optimiser.lr` was 0.01 up to here and is 0.005 from here on"), "{said}");
    let rates: Vec<f64> = place.metrics("run").iter().filter_map(|record| record["lr"].as_f64()).collect();
    assert_eq!(rates.len(), 6);
    assert!(rates[5] < 0.6 * rates[4], "{rates:?}");
}

#[test]
fn a_checkpoint_of_another_model_is_refused() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--stop-after", "5"]));
    succeed(&mut place.pretrain("other", &["--stop-after", "5", "--set", "model.width=16"]));
    // A whole checkpoint with the configuration of one run and the model of another.
    let writer = trainer::checkpoint::folder::Writer::begin(&place.path("run/checkpoints"), 6).unwrap();
    for (out, file) in [
        ("run", "config.toml"),
        ("run", "state.json"),
        ("other", "config.json"),
        ("other", "model.safetensors"),
        ("other", "optimizer.safetensors"),
    ] {
        std::fs::write(writer.path().join(file), place.checkpoint(out, 5, file)).unwrap();
    }
    let path = writer.finish().unwrap();
    let said = fail(&mut place.pretrain("run", &["--resume"]), 1);
    assert!(said.contains("holds another model"), "{said}");
    std::fs::remove_dir_all(path).unwrap();
    succeed(&mut place.pretrain("run", &["--resume"]));
}

#[test]
fn what_is_no_checkpoint_of_bytes_is_refused_by_name() {
    let place = Place::new();
    let generate = |path: &std::path::Path| {
        let mut command = place.trainer();
        command.args(["generate", "--checkpoint"]).arg(path);
        fail(&mut command, 1)
    };
    let said = generate(&place.path("text"));
    assert!(said.contains("neither a checkpoint"), "{said}");
    let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let said = generate(&vectors.join("hf/olmoe"));
    assert!(said.contains("tokens are not bytes"), "{said}");
    std::fs::write(place.path("text/config.json"), "{\"model_type\": \"llama\"}").unwrap();
    let said = generate(&place.path("text"));
    assert!(said.contains("model_type") && said.contains("llama"), "{said}");
    succeed(&mut place.pretrain("run", &["--steps", "1"]));
    let checkpoint = place.step("run", 1);
    let weights = place.checkpoint("run", 1, "model.safetensors");
    std::fs::write(checkpoint.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    for path in [&checkpoint, &place.path("run")] {
        let said = generate(path);
        assert!(said.contains("truncated") || said.contains("damaged"), "{said}");
    }
}

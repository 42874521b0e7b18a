//! The command line: help, plans, summaries, samples.

use crate::support::{Place, fail, stdout, succeed, summary};
use serde_json::Value;

#[test]
fn every_help_has_an_example() {
    let place = Place::new();
    for command in [
        &["--help"][..],
        &["pretrain", "--help"],
        &["plan", "--help"],
        &["generate", "--help"],
        &["config", "--help"],
    ] {
        let text = stdout(&succeed(place.trainer().args(command)));
        assert!(text.contains("Example"), "{command:?}: {text}");
    }
}

#[test]
fn a_run_learns_and_its_summary_says_where_everything_is() {
    let place = Place::new();
    let output = succeed(&mut place.pretrain("run", &["--steps", "60", "--json"]));
    for line in stdout(&output).lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    let summary = summary(&output);
    assert_eq!((summary["steps"].as_u64(), summary["tokens"].as_u64()), (Some(60), Some(60 * 4 * 64)));
    assert_eq!(summary["finished"], true);
    assert!(summary["tokens_per_s"].as_f64().unwrap() > 0.0);
    for path in ["run", "checkpoint", "metrics", "report", "routing"] {
        let path = summary["paths"][path].as_str().unwrap_or_else(|| panic!("no path of {path}"));
        assert!(std::path::Path::new(path).exists(), "{path}");
    }
    for domain in ["prose", "code"] {
        let bits = summary["validation"][domain].as_f64().unwrap();
        assert!((0.1..8.0).contains(&bits), "{domain}: {bits} bits a byte");
    }
    let metrics = place.metrics("run");
    let first = metrics[0]["loss"].as_f64().unwrap();
    let last = summary["loss"].as_f64().unwrap();
    assert!(first > 5.0 && last < first - 2.0, "from {first} to {last}");
    let report = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(report.contains("prose"), "the report shows the domains");
}

#[test]
fn validation_counts_every_routed_slot_of_every_layer() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2", "--set", "validation.rows=3"]));
    let text = std::fs::read_to_string(place.path("run/routing.json")).unwrap();
    let routing: Value = serde_json::from_str(&text).unwrap();
    let layers = routing["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for layer in layers {
        for counts in layer["counts"].as_array().unwrap() {
            let counts: Vec<u64> =
                counts.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
            assert_eq!(counts.len(), 7, "the shared expert is left out");
            // Two routed slots for each token of the (at most) three rows, not of the fourth that fills the batch.
            let slots: u64 = counts.iter().sum();
            assert!(slots.is_multiple_of(2 * 64) && slots > 0 && slots <= 3 * 2 * 64, "{slots}");
        }
    }
}

#[test]
fn plans_state_the_published_sizes() {
    let place = Place::new();
    let plan = |preset: &str| -> Value {
        serde_json::from_str(&stdout(&succeed(place.trainer().args(["plan", preset, "--json"])))).unwrap()
    };
    let released = plan("emo-1b14b");
    assert_eq!(released["parameters"].as_u64(), Some(13_568_641_024));
    let active = released["active_multiplied"].as_f64().unwrap();
    assert!((active / 1.28e9 - 1.0).abs() < 0.01, "{active}");
    let bench = plan("bench-olmoe");
    assert_eq!(bench["parameters"].as_u64(), Some(15_765_760));
    assert!((bench["flop_per_step"].as_f64().unwrap() / 48.7e9 - 1.0).abs() < 0.002);
    let memory = bench["memory_bytes"].as_object().unwrap();
    let sum: u64 = memory.values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(bench["memory_bytes_in_all"].as_u64(), Some(sum));
    assert_eq!(memory["optimiser"].as_u64(), Some(8 * 15_765_760));
}

#[test]
fn samples_are_reproducible_and_depend_on_seed_and_prompt() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &[]));
    let sample = |more: &[&str]| {
        let mut command = place.trainer();
        command.args(["generate", "--tokens", "30", "--checkpoint"]).arg(place.path("run")).args(more);
        succeed(&mut command).stdout
    };
    let text = sample(&["--prompt", "router "]);
    assert!(text.starts_with(b"router ") && text.len() > b"router ".len() + 1);
    assert_eq!(text, sample(&["--prompt", "router ", "--threads", "1"]));
    assert_ne!(text, sample(&["--prompt", "router ", "--seed", "5"]));
    assert_eq!(sample(&["--temperature", "0"]), sample(&["--temperature", "0", "--seed", "5"]));
    let json: Value = serde_json::from_slice(&sample(&["--prompt", "pool", "--json"])).unwrap();
    assert!(json["tokens"].as_u64().unwrap() <= 30);
    let mut wrong = place.trainer();
    wrong.args(["generate", "--top-p", "2", "--checkpoint"]).arg(place.path("run"));
    assert!(fail(&mut wrong, 2).contains("--top-p"));
}

#[test]
fn a_printed_preset_is_a_configuration_file() {
    let place = Place::new();
    for full in [&["config", "tiny"][..], &["config", "tiny", "--full"]] {
        let text = succeed(place.trainer().args(full)).stdout;
        std::fs::write(place.path("my.toml"), text).unwrap();
        let mine = succeed(place.trainer().args(["plan", "my.toml", "--json"])).stdout;
        assert_eq!(mine, succeed(place.trainer().args(["plan", "tiny", "--json"])).stdout);
    }
    let list = stdout(&succeed(place.trainer().args(["config", "--list"])));
    for line in list.lines() {
        let (preset, purpose) = line.split_once("  ").unwrap_or_else(|| panic!("no purpose: {line}"));
        assert!(purpose.trim().len() > 20, "{line}");
        succeed(place.trainer().args(["plan", preset.trim(), "--json"]));
    }
    assert!(list.starts_with("quickstart "), "{list}");
    assert!(
        fail(place.trainer().args(["pretrain", "quikstart"]), 2)
            .contains("did you mean the preset `quickstart`?")
    );
}

//! `eval`, `inspect` and `completions`: what is said of a run is what the run said itself.

use crate::support::{Place, fail, names, stdout, succeed, summary};
use serde_json::Value;

#[test]
fn eval_repeats_the_last_validation_of_the_run() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--set", "validation.rows=6"]));
    let evaluate = |more: &[&str]| {
        let mut command = place.trainer();
        command.args(["eval", "--json", "--rows", "6", "--checkpoint"]).arg(place.path("run")).args(more);
        summary(&succeed(&mut command))
    };
    let found = evaluate(&["--batch", "3", "--threads", "1"]);
    let metrics = place.metrics("run");
    let last = metrics.iter().rev().find(|record| record["kind"] == "valid").unwrap();
    for (domain, value) in last["domains"].as_object().unwrap() {
        let (expected, bits) = (&value["bits_per_byte"], &found["domains"][domain]["bits_per_byte"]);
        let difference = expected.as_f64().unwrap() - bits.as_f64().unwrap();
        assert!(difference.abs() < 1e-6, "{domain}: {expected} {bits}");
        assert_eq!(value["tokens"], found["domains"][domain]["tokens"]);
    }
    let mean = found["mean_bits_per_byte"].as_f64().unwrap();
    assert!(mean > 0.5 && mean < 12.0, "{mean}");
}

#[test]
fn eval_reads_text_and_shards_alike() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    let (text, shards) = (place.path("text"), place.path("shards"));
    succeed(place.trainer().args(["data", "build"]).arg(&text).arg("--out").arg(&shards));
    let evaluate = |data: &std::path::Path| {
        let mut command = place.trainer();
        command.args(["eval", "--json", "--checkpoint"]).arg(place.path("run")).arg("--data").arg(data);
        let found = summary(&succeed(&mut command));
        assert_eq!(found["domains"].as_object().unwrap().len(), 2);
        found["mean_bits_per_byte"].as_f64().unwrap()
    };
    let (from_text, from_shards) = (evaluate(&text), evaluate(&shards));
    // The documents stand in another order, so rows begin elsewhere.
    assert!((from_text - from_shards).abs() < 0.01, "{from_text} {from_shards}");
}

#[test]
fn inspect_knows_runs_and_shards_and_refuses_the_rest() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    let inspect = |name: &str, more: &[&str]| {
        let mut command = place.trainer();
        command.arg("inspect").arg(place.path(name)).args(more);
        command
    };
    let run: Value =
        serde_json::from_str(&stdout(&succeed(&mut inspect("run", &["--tensors", "--json"])))).unwrap();
    assert_eq!((&run["step"], &run["family"]), (&2.into(), &"emo".into()));
    let elements = |tensor: &Value| {
        tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product::<u64>()
    };
    let all: u64 = run["tensors"].as_array().unwrap().iter().map(elements).sum();
    assert_eq!(run["parameters"], all);
    assert!(stdout(&succeed(&mut inspect("run", &[]))).contains("experts of width"));
    succeed(
        place
            .trainer()
            .args(["data", "build"])
            .arg(place.path("text"))
            .arg("--out")
            .arg(place.path("shards")),
    );
    let shards: Value = serde_json::from_str(&stdout(&succeed(&mut inspect("shards", &["--json"])))).unwrap();
    assert_eq!((&shards["complete"], &shards["documents"]), (&true.into(), &24.into()));
    let said = fail(&mut inspect("text", &[]), 2);
    assert!(said.contains("config.json") && said.contains("manifest.json"), "{said}");
}

#[test]
fn completions_name_every_command() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = stdout(&succeed(place.trainer().args(["completions", shell])));
        for command in ["pretrain", "generate", "eval", "inspect", "export", "import"] {
            assert!(text.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn every_command_shows_an_example() {
    use clap::CommandFactory;
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example") && help.contains("trainer "), "{path} --help has no example");
        command.get_subcommands().for_each(|command| check(command, &path));
    }
    check(&trainer::cli::Cli::command(), "");
}

#[test]
fn keep_says_everywhere_that_a_list_counts_layer_by_layer_and_generate_offers_pools_that_it_has() {
    use clap::CommandFactory;
    let cli = trainer::cli::Cli::command();
    let argument = |command: &str, id: &str| {
        let argument =
            cli.find_subcommand(command)?.get_arguments().find(|argument| argument.get_id() == id)?;
        Some(argument.clone())
    };
    let names = cli.get_subcommands().map(|command| command.get_name().to_owned());
    let keep: Vec<String> = names
        .filter_map(|name| argument(&name, "keep"))
        .map(|keep| keep.get_help().map(ToString::to_string).unwrap_or_default())
        .collect();
    assert_eq!(keep.len(), 2, "select and retention");
    assert!(keep.iter().all(|help| help.contains("a list with an entry for each layer")), "{keep:?}");
    let pools = |command| -> Vec<String> {
        let values = argument(command, "pool").unwrap().get_possible_values();
        values.iter().map(|value| value.get_name().to_owned()).collect()
    };
    assert_eq!(pools("generate"), ["none", "prompt", "so-far"]);
    assert_eq!(pools("eval"), ["none", "prompt", "so-far", "document"]);
    let help = cli.find_subcommand("monitor").unwrap().get_after_help().unwrap().to_string();
    assert!(help.contains("--follow"), "{help}");
}

#[test]
fn tensorboard_files_lie_beside_the_metrics_and_a_resumed_run_adds_one() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--stop-after", "5"]));
    let files = || names(&place.path("run").join("tensorboard"));
    assert_eq!(files().len(), 1);
    succeed(&mut place.pretrain("run", &["--resume"]));
    assert_eq!(files().len(), 2);
    for file in files() {
        let bytes = std::fs::read(place.path("run").join("tensorboard").join(file)).unwrap();
        let has = |tag: &str| bytes.windows(tag.len()).any(|window| window == tag.as_bytes());
        assert!(has("brain.Event:2") && has("train/loss") && has("experts/busiest"));
    }
}

//! What a modular model's parts are for: tuned apart, merged back, composed, grown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Place, fail, stderr, stdout, succeed, summary, tensors, weights};
use serde_json::Value;

/// A trained model, twenty steps of `tiny`: 2 layers of 7 routed experts and a shared one, 2 + 1 of them for a token.
fn trained() -> Place {
    let place = Place::new();
    succeed(&mut place.pretrain("full", &[]));
    place
}

/// A subset of the experts of `tiny` as a file.
fn subset(place: &Place, name: &str, layers: [&[u32]; 2]) -> PathBuf {
    let layers: Vec<Value> = (0..)
        .zip(layers)
        .map(|(layer, experts): (u32, _)| serde_json::json!({"layer": layer, "experts": experts}))
        .collect();
    let json =
        serde_json::json!({"format": "emo-expert-subset-1", "routed": 7, "shared": 1, "layers": layers});
    let path = place.path(name);
    std::fs::write(&path, json.to_string()).unwrap();
    path
}

/// `trainer NAME` with folders of the place behind flags.
fn command(place: &Place, name: &str, folders: &[(&str, &str)], more: &[&str]) -> Command {
    let mut command = place.trainer();
    command.arg(name);
    for (flag, folder) in folders {
        command.arg(flag).arg(place.path(folder));
    }
    command.args(more);
    command
}

fn finetune(place: &Place, from: &str, out: &str, more: &[&str]) -> Command {
    let mut command = command(place, "finetune", &[("--checkpoint", from), ("--out", out)], more);
    command.args(["--threads", "2", "--lr", "0.01"]);
    command
}

/// Bits per byte by domain.
fn evaluate(place: &Place, checkpoint: &str) -> BTreeMap<String, f64> {
    let output = succeed(&mut command(place, "eval", &[("--checkpoint", checkpoint)], &["--json"]));
    let domains = summary(&output)["domains"].as_object().unwrap().clone();
    domains.into_iter().map(|(name, domain)| (name, domain["bits_per_byte"].as_f64().unwrap())).collect()
}

/// The expert that a tensor belongs to, with its layer.
fn expert(name: &str) -> Option<(usize, u32)> {
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once(".mlp.experts.")?;
    Some((layer.parse().unwrap(), rest.split_once('.')?.0.parse().unwrap()))
}

/// Asserts that exactly the tensors for which `moved` says so differ, a router's by rows of 32.
fn assert_moved(a: &Path, b: &Path, moved: impl Fn(&str, Option<(usize, u32)>) -> bool) {
    let (before, after) = (weights(a), weights(b));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, before) in &before {
        let after = &after[name];
        if let Some(layer) = name.strip_suffix(".mlp.gate.weight") {
            let layer = layer.strip_prefix("model.layers.").unwrap().parse().unwrap();
            for (row, (before, after)) in before.chunks(32).zip(after.chunks(32)).enumerate() {
                assert_eq!(before != after, moved("router", Some((layer, row as u32))), "{name} {row}");
            }
        } else {
            assert_eq!(before != after, moved(name, expert(name)), "{name}");
        }
    }
}

const CHOSEN: [&[u32]; 2] = [&[1, 4, 5], &[0, 2, 3, 6]];

fn chosen(place: Option<(usize, u32)>) -> bool {
    place.is_some_and(|(layer, expert)| CHOSEN[layer].contains(&expert))
}

#[test]
fn nothing_moves_but_what_is_tuned() {
    let place = trained();
    let full = place.step("full", 20);
    let file = subset(&place, "chosen.json", CHOSEN);
    let file = file.to_str().unwrap();
    for (out, more, moved) in [
        ("all", &[][..], (|_, _| true) as fn(&str, Option<(usize, u32)>) -> bool),
        ("experts", &["--tune", "experts"], |name, place| {
            name != "router" && place.is_some_and(|(_, expert)| expert < 7)
        }),
        ("shared", &["--tune", "experts", "--train-router", "--train-shared"], |name, place| {
            // A shared expert's weight is one: its row of the router has no gradient, and is not trained.
            place.is_some_and(|(_, expert)| expert < 7 || name != "router")
        }),
        ("chosen", &["--experts", file], |name, place| name != "router" && chosen(place)),
        ("routed", &["--experts", file, "--train-router"], |_, place| chosen(place)),
    ] {
        succeed(&mut finetune(&place, "full", out, &[&["--steps", "6"], more].concat()));
        let unmoved = |name: &str, at| match out {
            // Without decay and load balance on it, what nothing depends on does not move.
            "all" if name == "router" => at != Some((0, 7)) && at != Some((1, 7)),
            _ => moved(name, at),
        };
        let after = place.step(out, 6);
        if out == "all" {
            // Unused vocabulary keeps single rows, no whole tensor.
            assert!(
                weights(&full)["model.embed_tokens.weight"] != weights(&after)["model.embed_tokens.weight"]
            );
        }
        assert_moved(&full, &after, unmoved);
    }
    let said = fail(&mut finetune(&place, "full", "no", &["--tune", "full", "--train-router"]), 2);
    assert!(said.contains("--tune experts"), "{said}");
    let other = subset(&place, "other.json", [&[1], &[2]]);
    let text = std::fs::read_to_string(&other).unwrap().replace("\"routed\":7", "\"routed\":9");
    std::fs::write(&other, text).unwrap();
    let said = fail(&mut finetune(&place, "full", "no", &["--experts", other.to_str().unwrap()]), 2);
    assert!(said.contains("another model") && said.contains('9'), "{said}");
}

#[test]
fn tuning_stops_and_goes_on_bit_for_bit_without_the_checkpoint_it_came_from() {
    let place = trained();
    let file = subset(&place, "chosen.json", CHOSEN);
    let tune = ["--steps", "8", "--experts", file.to_str().unwrap(), "--domain", "code"];
    succeed(&mut finetune(&place, "full", "whole", &tune));
    let stopped =
        succeed(&mut finetune(&place, "full", "parts", &[&tune[..], &["--stop-after", "3"]].concat()));
    assert!(stderr(&stopped).contains("stopped after step 3"), "{}", stderr(&stopped));
    std::fs::rename(place.path("full"), place.path("gone")).unwrap();
    std::fs::remove_file(&file).unwrap();
    succeed(&mut command(&place, "pretrain", &[("--out", "parts")], &["--resume"]));
    place.assert_same("whole", "parts", 8);
    // What it started from was validated too.
    let first = &place.metrics("whole")[0];
    assert!(first["valid"]["step"] == 0 || first["step"] == 0, "{first}");
    let said = fail(&mut finetune(&place, "gone", "no", &["--domain", "maths"]), 2);
    assert!(said.contains("no domain `maths`") && said.contains("code, prose"), "{said}");
}

#[test]
fn answers_alone_can_be_learnt() {
    let place = trained();
    // In the text of the domain `prose` this word is between spaces.
    let tune = ["--steps", "4", "--domain", "prose", "--answer-after", " weight "];
    let said = stderr(&succeed(&mut finetune(&place, "full", "answers", &tune)));
    assert!(said.contains("documents have an answer after \" weight \""), "{said}");
    succeed(&mut finetune(&place, "full", "all", &tune[..4]));
    assert_ne!(weights(&place.step("answers", 4)), weights(&place.step("all", 4)));
}

#[test]
fn tuned_experts_go_back_where_they_were_and_nothing_else_changes() {
    let place = trained();
    let full = place.step("full", 20);
    let file = subset(&place, "chosen.json", CHOSEN);
    let tune = ["--steps", "4", "--experts", file.to_str().unwrap(), "--train-router"];
    succeed(&mut finetune(&place, "full", "tuned", &tune));
    let merge = |out: &str, tuned: &[&str], more: &[&str]| {
        let mut folders = vec![("--full", "full"), ("--out", out)];
        folders.extend(tuned.iter().map(|&tuned| ("--tuned", tuned)));
        command(&place, "merge", &folders, &[&["--json"], more].concat())
    };
    let said = summary(&succeed(&mut merge("merged", &["tuned"], &[])));
    // Three matrices of each expert.
    assert_eq!((said["changed"].as_u64(), said["averaged"].as_u64()), (Some(21), Some(0)));
    assert_moved(&full, &place.path("merged"), |name, place| name != "router" && chosen(place));
    let tuned = weights(&place.step("tuned", 4));
    for (name, values) in weights(&place.path("merged")) {
        if chosen(expert(&name)) {
            assert_eq!(values, tuned[&name], "{name}");
        }
    }
    // With the router everything that was tuned is taken: the result is the tuned model.
    succeed(&mut merge("both", &["tuned"], &["--take", "experts,router"]));
    assert_eq!(weights(&place.path("both")), tuned);
    assert_eq!(evaluate(&place, "both"), evaluate(&place, "tuned"));
    // Half of it.
    succeed(&mut merge("half", &["tuned"], &["--alpha", "0.5"]));
    let (before, half) = (weights(&full), weights(&place.path("half")));
    for (name, values) in &half {
        if chosen(expert(name)) {
            let pairs = before[name].iter().zip(&tuned[name]);
            let mean: Vec<f64> = pairs.map(|(a, b)| f64::from((0.5 * (a + b)) as f32)).collect();
            assert_eq!(*values, mean, "{name}");
        }
    }
    // Nothing is taken of a model that was not tuned: the files are the same, byte for byte.
    succeed(&mut merge("same", &["full"], &["--take", "experts,router,shared,dense"]));
    for file in ["model.safetensors", "config.json"] {
        let read = |folder: PathBuf| std::fs::read(folder.join(file)).unwrap();
        assert!(read(full.clone()) == read(place.path("same")), "{file}");
    }
    // Of two that were tuned from it, each gives what it changed, and both give what both changed.
    let second = subset(&place, "second.json", [&[0, 1], &[1]]);
    let tune = ["--steps", "3", "--experts", second.to_str().unwrap()];
    succeed(&mut finetune(&place, "full", "other", &tune));
    let said = summary(&succeed(&mut merge("two", &["tuned", "other"], &[])));
    assert_eq!((said["changed"].as_u64(), said["averaged"].as_u64()), (Some(27), Some(3)));
    let (two, other) = (weights(&place.path("two")), weights(&place.step("other", 3)));
    let name = |expert: u32| format!("model.layers.0.mlp.experts.{expert}.down_proj.weight");
    assert_eq!(two[&name(0)], other[&name(0)]);
    assert_eq!(two[&name(4)], tuned[&name(4)]);
    let pairs = tuned[&name(1)].iter().zip(&other[&name(1)]);
    let mean: Vec<f64> = pairs.map(|(a, b)| f64::from(((a + b) / 2.0) as f32)).collect();
    assert_eq!(two[&name(1)], mean);
    // Another model, and a number that makes no sense.
    succeed(&mut place.pretrain("wider", &["--steps", "1", "--set", "model.expert_width=24"]));
    let said = fail(&mut merge("no", &["wider"], &[]), 1);
    assert!(said.contains("was not tuned from the full model") && said.contains("hidden"), "{said}");
    assert!(fail(&mut merge("no", &["tuned"], &["--alpha", "1.5"]), 2).contains("--alpha"));
    assert!(fail(&mut merge("two", &["tuned"], &[]), 2).contains("--force"));
}

#[test]
fn a_pruned_model_goes_back_into_the_full_one() {
    let place = trained();
    let full = place.step("full", 20);
    subset(&place, "kept.json", [&[1, 2, 4, 5], &[0, 2, 3, 6]]);
    let folders = [("--checkpoint", "full"), ("--experts", "kept.json"), ("--out", "pruned")];
    succeed(&mut command(&place, "prune", &folders, &[]));
    let merge = |tuned: &str, out: &str, take: &str| {
        command(&place, "merge", &[("--full", "full"), ("--tuned", tuned), ("--out", out)], &["--take", take])
    };
    // Nothing was tuned: the files are those of the full model, byte for byte.
    succeed(&mut merge("pruned", "same", "experts,router,shared,dense"));
    for file in ["model.safetensors", "config.json"] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert!(read(&full) == read(&place.path("same")), "{file}");
    }
    // Experts are named by their index in the full model, whichever model is tuned.
    let inner: [&[u32]; 2] = [&[1, 5], &[3]];
    let inside = |at: Option<(usize, u32)>| at.is_some_and(|(layer, expert)| inner[layer].contains(&expert));
    let file = subset(&place, "inner.json", inner);
    let tune = ["--steps", "6", "--train-router", "--experts", file.to_str().unwrap()];
    succeed(&mut finetune(&place, "pruned", "tuned", &tune));
    succeed(&mut merge("tuned", "merged", "experts"));
    assert_moved(&full, &place.path("merged"), |name, at| name != "router" && inside(at));
    succeed(&mut merge("tuned", "routed", "experts,router"));
    assert_moved(&full, &place.path("routed"), |_, at| inside(at));
    // The tuned model still says what it was cut out of.
    let read = |folder: PathBuf| -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap()
    };
    assert_eq!(read(place.step("tuned", 6))["kept_experts"], read(place.path("pruned"))["kept_experts"]);
    let lost = subset(&place, "lost.json", [&[0], &[3]]);
    let said = fail(&mut finetune(&place, "pruned", "no", &["--experts", lost.to_str().unwrap()]), 2);
    assert!(said.contains("layer 0 lacks expert 0"), "{said}");
}

#[test]
fn a_pruned_model_that_lost_its_origin_is_told_what_its_configuration_lacks() {
    let place = trained();
    let kept = subset(&place, "kept.json", [&[1, 2, 5], &[0, 3, 6]]);
    let kept = kept.to_str().unwrap();
    let folders = [("--checkpoint", "full"), ("--experts", "kept.json"), ("--out", "pruned")];
    succeed(&mut command(&place, "prune", &folders, &[]));
    let path = place.path("pruned/config.json");
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for key in ["kept_experts", "original_num_experts"] {
        json.as_object_mut().unwrap().remove(key).expect("the key");
    }
    std::fs::write(&path, json.to_string()).unwrap();
    let merge = [("--full", "full"), ("--tuned", "pruned"), ("--out", "no")];
    let said = [
        fail(&mut command(&place, "merge", &merge, &[]), 1),
        fail(&mut finetune(&place, "pruned", "no", &["--experts", kept]), 2),
        fail(&mut command(&place, "eval", &[("--checkpoint", "pruned")], &["--experts", kept]), 2),
    ];
    for said in said {
        assert!(said.contains("`kept_experts` and `original_num_experts`"), "{said}");
        assert!(said.contains("`trainer prune` wrote"), "{said}");
    }
}

#[test]
fn a_model_of_another_program_is_tuned_on_given_text_and_keeps_its_type_when_merged() {
    let place = trained();
    let export = [("--checkpoint", "full"), ("--out", "half")];
    succeed(&mut command(&place, "export", &export, &["--dtype", "bf16"]));
    let file = subset(&place, "chosen.json", CHOSEN);
    let tune = ["--steps", "6", "--experts", file.to_str().unwrap()];
    let said = fail(&mut finetune(&place, "half", "no", &tune), 2);
    assert!(said.contains("give text with --data"), "{said}");
    let text = place.path("text");
    let data = [&tune[..], &["--data", text.to_str().unwrap(), "--batch", "4"]].concat();
    succeed(&mut finetune(&place, "half", "tuned", &data));
    let folders = [("--full", "half"), ("--tuned", "tuned"), ("--out", "merged")];
    succeed(&mut command(&place, "merge", &folders, &[]));
    assert_moved(&place.path("half"), &place.path("merged"), |name, at| name != "router" && chosen(at));
    let bytes = |folder: &str| std::fs::metadata(place.path(folder).join("model.safetensors")).unwrap().len();
    assert_eq!(bytes("half"), bytes("merged"));
    // Text that the model cannot read.
    let olmoe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/hf/olmoe");
    let mut foreign = place.trainer();
    foreign.args(["finetune", "--checkpoint"]).arg(&olmoe).arg("--data").arg(&text);
    let said = fail(&mut foreign, 2);
    assert!(said.contains("holds no shards") && said.contains("trainer data build"), "{said}");
    let mut build = place.trainer();
    build.args(["data", "build"]).arg(&text).arg("--out").arg(place.path("shards"));
    succeed(&mut build);
    let mut foreign = place.trainer();
    foreign.args(["finetune", "--checkpoint"]).arg(olmoe).arg("--data").arg(place.path("shards"));
    let said = fail(foreign.args(["--steps", "1"]).arg("--out").arg(place.path("no")), 2);
    assert!(said.contains("another tokenizer") && said.contains("256 ids"), "{said}");
}

#[test]
fn subsets_compose_on_the_command_line() {
    let place = Place::new();
    let a = subset(&place, "a.json", [&[0, 2], &[1]]);
    let b = subset(&place, "b.json", [&[2, 3], &[1, 6]]);
    for (word, files, expected) in [
        ("union", vec![&a, &b], serde_json::json!([[0, 2, 3], [1, 6]])),
        ("intersection", vec![&a, &b], serde_json::json!([[2], [1]])),
        ("difference", vec![&b, &a], serde_json::json!([[3], [6]])),
        ("complement", vec![&a], serde_json::json!([[1, 3, 4, 5, 6], [0, 2, 3, 4, 5, 6]])),
    ] {
        let out = place.path("out.json");
        let mut compose = place.trainer();
        compose.args(["subset", word]).args(files).arg("--out").arg(&out);
        succeed(&mut compose);
        let mut show = place.trainer();
        show.args(["subset", "show", "--json"]).arg(&out);
        let shown = summary(&succeed(&mut show));
        let layers = shown["layers"].as_array().unwrap();
        let experts: Vec<&Value> = layers.iter().map(|layer| &layer["experts"]).collect();
        assert_eq!(serde_json::to_value(experts).unwrap(), expected, "{word}");
        let mut show = place.trainer();
        show.args(["subset", "show"]).arg(&out);
        let said = stdout(&succeed(&mut show));
        assert!(said.contains(&format!("made by {word}")), "{said}");
    }
    let mut compose = place.trainer();
    compose.args(["subset", "union"]).arg(&a).arg(place.path("text/code/0.txt")).arg("--out");
    assert!(fail(compose.arg(place.path("no.json")), 2).contains("not a subset"));
}

#[test]
fn growing_by_copies_of_all_keeps_the_function_and_carries_the_moments() {
    let place = trained();
    let grow =
        |out: &str, more: &[&str]| command(&place, "grow", &[("--checkpoint", "full"), ("--out", out)], more);
    succeed(&mut grow("double", &["--experts", "15", "--top-k", "5"]));
    let before = evaluate(&place, "full");
    for (domain, bits) in evaluate(&place, "double") {
        assert!((bits - before[&domain]).abs() < 1e-5 * bits, "{domain}: {bits} {}", before[&domain]);
    }
    // With as many experts a token as before it is another function.
    succeed(&mut grow("same-k", &["--experts", "15"]));
    let changed = evaluate(&place, "same-k");
    assert!(changed.iter().any(|(domain, bits)| (bits - before[domain]).abs() > 1e-3), "{changed:?}");

    let full = place.step("full", 20);
    let (old, new) =
        (tensors(&full.join("optimizer.safetensors")), tensors(&place.path("double/optimizer.safetensors")));
    for (name, old) in &old {
        let new = &new[name];
        if new.len() == old.len() {
            assert_eq!(old, new, "{name}");
            continue;
        }
        // Routed experts, their copies, the shared expert.
        let (routed, shared) = old.split_at(old.len() / 8 * 7);
        assert_eq!(*new, [routed, routed, shared].concat(), "{name}");
        assert!(name.contains("experts") || name.contains("router"), "{name}");
    }
    assert!(old.keys().any(|name| name.contains("experts_in")));

    // It goes on as what it was: the printed command, for two steps.
    let mut on = place.trainer();
    on.args([
        "pretrain",
        "double/config.toml",
        "--set",
        "train.init=double",
        "--set",
        "train.init_moments=true",
    ]);
    succeed(on.args(["--out", "on", "--steps", "2", "--set", "schedule.warmup=0"]));
    assert_eq!(weights(&place.step("on", 2)).keys().len(), weights(&place.path("double")).keys().len());
}

#[test]
fn growing_by_the_most_used_with_noise_or_by_fresh_experts() {
    let place = trained();
    let grow =
        |out: &str, more: &[&str]| command(&place, "grow", &[("--checkpoint", "full"), ("--out", out)], more);
    let used = ["--experts", "10", "--from", "used", "--json"];
    let origins = summary(&succeed(&mut grow("used", &used)))["origins"].clone();
    let routing: Value =
        serde_json::from_str(&std::fs::read_to_string(place.path("full/routing.json")).unwrap()).unwrap();
    for (layer, origins) in origins.as_array().unwrap().iter().enumerate() {
        let used = |expert: u64| -> u64 {
            let domains = routing["layers"][layer]["counts"].as_array().unwrap();
            domains.iter().map(|counts| counts[expert as usize].as_u64().unwrap()).sum()
        };
        let origins: Vec<u64> =
            origins.as_array().unwrap().iter().map(|origin| origin.as_u64().unwrap()).collect();
        let least = origins.iter().map(|&expert| used(expert)).min().unwrap();
        let others = (0..7).filter(|expert| !origins.contains(expert));
        assert!(origins.len() == 2 && others.map(used).all(|count| count <= least), "{origins:?}");
        let grown = weights(&place.path("used"));
        let name = |expert: u64| format!("model.layers.{layer}.mlp.experts.{expert}.up_proj.weight");
        assert_eq!(grown[&name(7)], grown[&name(origins[0])]);
    }
    succeed(&mut grow("noise", &[&used[..], &["--jitter", "0.1"]].concat()));
    assert_moved(&place.path("used"), &place.path("noise"), |name, at| {
        let at = at.filter(|_| name == "router" || name.contains("experts"));
        at.is_some_and(|(_, expert)| expert == 7 || expert == 8)
    });
    succeed(&mut grow("fresh", &["--experts", "9", "--from", "fresh"]));
    let moments = tensors(&place.path("fresh/optimizer.safetensors"));
    let (experts, size) = (&moments["second.layers.0.experts_out"], 32 * 16);
    assert!(experts[7 * size..8 * size].iter().all(|&moment| moment == 0.0));
    assert!(experts[8 * size..].iter().any(|&moment| moment > 0.0));
    let (full, fresh) = (weights(&place.step("full", 20)), weights(&place.path("fresh")));
    let gate = "model.layers.0.mlp.gate.weight";
    assert_eq!(fresh[gate][..7 * 32], full[gate][..7 * 32]);
    assert_eq!(fresh[gate][8 * 32..], full[gate][7 * 32..]);
    assert!(evaluate(&place, "fresh").values().all(|bits| bits.is_finite()));
    let said = fail(&mut grow("no", &["--experts", "8"]), 2);
    assert!(said.contains("has 8 experts already"), "{said}");
}

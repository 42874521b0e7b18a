//! The commands on a tiny model.

use serde_json::Value;
use trainer::checkpoint::hf;
use trainer::subset::ExpertSubset;

use crate::support::{self, Place, fail, succeed, summary};

fn select_command(place: &Place, more: &[&str]) -> std::process::Command {
    let mut command = place.trainer();
    command.args(["select", "--json", "--checkpoint"]).arg(place.path("run")).args(more);
    command
}

#[test]
fn select_prune_eval_and_generate_fit_together() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "6"]));
    let out = ["--out", "code.json", "--keep", "50%", "--domain", "code", "--documents", "3"];
    let selected = summary(&succeed(&mut select_command(&place, &out)));
    assert_eq!(selected["made"]["method"], "layerwise");
    assert_eq!((&selected["made"]["documents"], &selected["made"]["text"]), (&3.into(), &"train".into()));
    assert_eq!(selected["kept"], serde_json::json!([[0, 4], [1, 4]]));
    let subset = ExpertSubset::load(&place.path("code.json")).expect("a subset");
    assert_eq!(subset.made().unwrap().domain.as_deref(), Some("code"));

    let prune = |experts: &str, from: &str, to: &str, more: &[&str]| {
        let mut command = place.trainer();
        command.args(["prune", "--json", "--experts", experts, "--checkpoint", from, "--out", to]).args(more);
        command
    };
    let pruned = summary(&succeed(&mut prune("code.json", "run", "small", &[])));
    assert!(pruned["parameters"].as_u64().unwrap() < pruned["parameters_before"].as_u64().unwrap());
    let on_disk =
        |folder: &str| std::fs::metadata(place.path(folder).join("model.safetensors")).unwrap().len();
    assert_eq!(pruned["bytes"], on_disk("small"));
    let json: Value =
        serde_json::from_str(&std::fs::read_to_string(place.path("small/config.json")).unwrap()).unwrap();
    assert_eq!((&json["num_experts"], &json["original_num_experts"]), (&4.into(), &8.into()));
    assert_eq!((&json["num_experts_per_tok"], json.get("emo_extra")), (&3.into(), None));
    assert_eq!(json["kept_experts"], serde_json::json!(subset.kept()));

    // Three ways to the same numbers.
    let eval = |more: &[&str]| {
        let args = ["eval", "--json", "--rows", "4", "--checkpoint"];
        let mut found = summary(&succeed(place.trainer().args(args).args(more)));
        for key in ["seconds", "checkpoint", "experts"] {
            found.as_object_mut().unwrap().remove(key);
        }
        found
    };
    let whole = eval(&["run"]);
    let masked = eval(&["run", "--experts", "code.json"]);
    assert_eq!(masked, eval(&["small"]));
    assert_ne!(masked["domains"], whole["domains"]);
    let generate = |more: &[&str]| {
        let args = [
            "generate",
            "--json",
            "--temperature",
            "0",
            "--tokens",
            "8",
            "--prompt",
            "expert",
            "--checkpoint",
        ];
        summary(&succeed(place.trainer().args(args).args(more)))["text"].clone()
    };
    assert_eq!(generate(&["run", "--experts", "code.json"]), generate(&["small"]));
    for pool in ["prompt", "so-far"] {
        let found = generate(&["run", "--pool", pool, "--pool-size", "2", "--pool-every", "3"]);
        assert!(found.is_string());
        // Seven are all there are.
        assert_eq!(generate(&["run", "--pool", pool, "--pool-size", "7"]), generate(&["run"]));
    }

    // Out to other programs and back; a smaller one of the smaller one remembers the first numbers.
    succeed(place.trainer().args(["export", "--checkpoint", "small", "--out", "out", "--dtype", "bf16"]));
    succeed(place.trainer().args(["import", "out", "--out", "back", "--dtype", "f32"]));
    let origin = |folder: &str| {
        ExpertSubset::of_pruned(&hf::read_config(&place.path(folder)).unwrap().0).unwrap().kept()
    };
    assert_eq!((origin("out"), origin("back")), (subset.kept(), subset.kept()));
    let second = ["--out", "less.json", "--keep", "3,2", "--method", "mass", "--data", "text"];
    succeed(place.trainer().args(["select", "--checkpoint", "small"]).args(second));
    succeed(&mut prune("less.json", "small", "smaller", &["--dtype", "bf16"]));
    let less = ExpertSubset::load(&place.path("less.json")).unwrap().kept();
    let composed: Vec<Vec<u32>> = (less.iter().zip(subset.kept()))
        .map(|(less, first)| less.iter().map(|&expert| first[expert as usize]).collect())
        .collect();
    assert_eq!(origin("smaller"), composed);
    assert_eq!(composed.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    assert!(eval(&["smaller", "--storage", "bf16"])["mean_bits_per_byte"].as_f64().unwrap().is_finite());

    let shown = support::stdout(&succeed(place.trainer().args(["inspect", "back"])));
    assert!(shown.contains("4 experts of width 16, top 3, 1 shared, kept of 8"), "{shown}");
    // Layers of different sizes are this program's own; the other families say so.
    succeed(&mut prune("less.json", "small", "uneven", &[]));
    let said = fail(
        place.trainer().args(["export", "--family", "olmoe", "--checkpoint", "uneven", "--out", "no"]),
        1,
    );
    assert!(said.contains("Export it as `emo`"), "{said}");

    // What a pruned model says about its origin is checked.
    let path = place.path("small/config.json");
    for (key, value, word) in [
        ("kept_experts", serde_json::json!([[0, 1, 2], [0, 1, 9]]), "kept_experts"),
        ("kept_experts", serde_json::json!([[0, 1, 2]]), "2 entries"),
        ("kept_experts", serde_json::json!([[0, 2, 1], [0, 1, 2]]), "ascending"),
        ("original_num_experts", Value::Null, "original_num_experts"),
    ] {
        let mut damaged = json.clone();
        damaged[key] = value;
        std::fs::write(&path, damaged.to_string()).unwrap();
        let said = fail(place.trainer().args(["inspect", "small"]), 1);
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn the_loss_as_a_function_of_pool_size() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "6"]));
    let eval = |more: &[&str]| {
        let args = ["eval", "--json", "--rows", "4", "--checkpoint", "run"];
        summary(&succeed(place.trainer().args(args).args(more)))
    };
    let whole = eval(&[]);
    for pool in ["so-far", "prompt", "document"] {
        let found = eval(&["--pool", pool, "--pool-prompt", "16", "--pool-sizes", "2,7"]);
        let sizes = found["sizes"].as_array().unwrap();
        let of = |at: usize| (&sizes[at]["pool_size"], &sizes[at]["domains"]);
        assert_eq!([of(0).0, of(1).0, of(2).0], [&2.into(), &7.into(), &Value::Null]);
        // Seven are all there are.
        assert_eq!(of(1).1, of(2).1, "{pool}");
        assert_ne!(of(0).1, of(2).1, "{pool}");
        let tokens = |domains: &Value| domains["code"]["tokens"].as_u64().unwrap();
        assert_eq!(tokens(of(0).1) < tokens(&whole["domains"]), pool == "prompt", "{pool}");
        if pool != "prompt" {
            assert_eq!(of(2).1, &whole["domains"]);
        }
        let one = eval(&["--pool", pool, "--pool-prompt", "16", "--pool-size", "2"]);
        assert_eq!(&one["domains"], of(0).1);
    }
    for (args, word) in [
        (&["--pool", "prompt"][..], "--pool-size"),
        (&["--pool-size", "3"], "--pool prompt"),
        (&["--pool", "so-far", "--pool-size", "0"], "positive"),
        (&["--pool", "prompt", "--pool-size", "3", "--pool-prompt", "500"], "fewer"),
    ] {
        let said = fail(place.trainer().args(["eval", "--checkpoint", "run"]).args(args), 2);
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "1"]));
    succeed(&mut place.pretrain("other", &["--steps", "1", "--set", "router.experts=12"]));
    let out = ["--out", "x.json", "--keep"];
    for (more, word) in [
        (&["1"][..], "1 shared experts"),
        (&["9"], "only 8"),
        (&["4,4,4"], "2 layers"),
        (&["4", "--domain", "poetry"], "there are: code, prose"),
        (&["4", "--documents", "0"], "positive"),
        (&["4", "--prompt", ""], "no text"),
    ] {
        let said = fail(&mut select_command(&place, &[&out[..], more].concat()), 2);
        assert!(said.contains(word), "{more:?}: {said}");
    }
    assert!(!place.path("x.json").exists());
    succeed(&mut select_command(
        &place,
        &[&out[..], &["4", "--prompt", "expert", "--method", "easy-ep"]].concat(),
    ));
    for command in ["eval", "generate", "prune"] {
        let mut command = place
            .trainer()
            .args([command, "--checkpoint", "other"])
            .args(if command == "prune" {
                &["--out", "y", "--experts", "x.json"][..]
            } else {
                &["--experts", "x.json"]
            })
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&std::mem::take(&mut command.stderr)).into_owned();
        assert!(command.status.code() == Some(2) && said.contains("made for another model"), "{said}");
    }
    // What a smoothed router remembers of the last tokens belongs to one pool.
    let smoothed = ["--steps", "1", "--set", "router.smoothing=fixed", "--set", "router.smoothing_width=3"];
    succeed(&mut place.pretrain("smoothed", &smoothed));
    let generate = ["generate", "--checkpoint", "smoothed", "--tokens", "2", "--pool-size", "3", "--pool"];
    let said = fail(place.trainer().args(generate).arg("so-far"), 2);
    assert!(said.contains("smooth over tokens") && said.contains("--pool prompt"), "{said}");
    succeed(place.trainer().args(generate).arg("prompt"));
    for (args, word) in [
        (&["--pool", "document", "--pool-size", "3"][..], "so-far"),
        (&["--pool", "prompt"], "--pool-size"),
        (&["--pool-size", "3"], "--pool"),
    ] {
        let said = fail(place.trainer().args(["generate", "--checkpoint", "run"]).args(args), 2);
        assert!(said.contains(word), "{said}");
    }
    std::fs::write(place.path("x.json"), "{}").unwrap();
    let said = fail(place.trainer().args(["eval", "--checkpoint", "run", "--experts", "x.json"]), 2);
    assert!(said.contains("x.json") && said.contains("not a subset"), "{said}");
}

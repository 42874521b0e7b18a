//! Configurations: every preset loads, and every mistake is named together with its remedy.

use trainer::config::{Config, Pool, Scope, presets};
use trainer::model::Layout;

fn error(name: &str, sets: &[&str]) -> String {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    Config::load(name, &sets).expect_err("must be refused").to_string()
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, text).unwrap();
    let name = path.to_string_lossy().into_owned();
    (folder, name)
}

#[test]
fn every_preset_loads_and_survives_being_written_out() {
    for name in presets::names() {
        let config = Config::load(name, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(config.run.name, name);
        let again = Config::from_toml(&config.to_toml().unwrap(), &[]).unwrap();
        assert_eq!(config, again, "{name}");
        assert!(config.differences(&again).is_empty());
    }
}

#[test]
fn the_presets_are_what_their_names_say() {
    let emo = Config::load("emo", &[]).unwrap();
    assert_eq!((emo.router.pool, emo.losses.load_balance_scope), (Pool::Uniform, Scope::Step));
    let compat = Config::load("ai2-compat", &[]).unwrap();
    let keys: Vec<String> = emo.differences(&compat).into_iter().map(|difference| difference.0).collect();
    assert_eq!(keys, ["losses.load_balance_scope", "router.eos", "run.name"]);
    let quickstart = Config::load("quickstart", &[]).unwrap();
    let standard = Config::load("standard", &[]).unwrap();
    let keys: Vec<String> =
        quickstart.differences(&standard).into_iter().map(|difference| difference.0).collect();
    assert_eq!(keys, ["router.pool", "run.name"]);
    assert_eq!(Config::load("dense", &[]).unwrap().mixture_layers().count(), 0);
}

/// A comparison is fair when nothing but what is compared differs: the same order of the same data, the same document
/// masking, the same optimiser, and as many active parameters, routers aside.
#[test]
fn twins_differ_in_nothing_but_their_kind() {
    for name in ["quickstart", "emo-nano", "emo-small", "emo-1b14b"] {
        let twin = |kind: &str| match name {
            "quickstart" => Config::load(kind, &[]).unwrap(),
            name => Config::load(&format!("{name}-{kind}"), &[]).unwrap(),
        };
        let (emo, standard, dense) = (Config::load(name, &[]).unwrap(), twin("standard"), twin("dense"));
        let keys =
            |other: &Config| emo.differences(other).into_iter().map(|(key, ..)| key).collect::<Vec<_>>();
        assert_eq!(keys(&standard), ["router.pool", "run.name"], "{name}");
        let allowed =
            ["losses.load_balance", "losses.router_z", "model.dense_layers", "model.dense_width", "run.name"];
        assert!(keys(&dense).iter().all(|key| allowed.contains(&key.as_str())), "{:?}", keys(&dense));
        let active = |config: &Config| {
            let model = config.model_config();
            let routers: usize = model.moe_layers().map(|(_, moe)| moe.experts * model.width).sum();
            Layout::new(&model).unwrap().active(&model) - routers
        };
        assert_eq!(active(&emo), active(&standard), "{name}");
        assert_eq!(active(&emo), active(&dense), "{name}");
        assert_eq!(dense.mixture_layers().count(), 0);
    }
}

#[test]
fn unknown_keys_are_named_with_the_nearest_valid_one() {
    for (set, found, nearest) in [
        ("optimiser.lrr=1", "unknown key `optimiser.lrr`", "did you mean `lr`?"),
        ("router.topk=2", "unknown key `router.topk`", "did you mean `top_k`?"),
        ("optimizer.lr=1", "unknown section `optimizer`", "did you mean `optimiser`?"),
        ("train.zzz=1", "unknown key `train.zzz`", "the valid ones are steps, batch, micro_batch, clip"),
    ] {
        let message = error("quickstart", &[set]);
        assert!(message.contains(found) && message.contains(nearest), "{message}");
    }
    let (_folder, path) = file("[model]\nwidht = 64\n");
    let message = error(&path, &[]);
    assert!(message.contains("`model.widht`") && message.contains("`width`"), "{message}");
}

#[test]
fn wrong_types_name_the_key() {
    for set in [
        "train.steps=many",
        "optimiser.lr=fast",
        "router.pool=sometimes",
        "model.dense_layers=1",
        "train.batch=-1",
    ] {
        let message = error("quickstart", &[set]);
        let key = set.split('=').next().unwrap();
        assert!(message.contains(key), "{set}: {message}");
    }
    assert!(error("quickstart", &["lr=1"]).contains("section.key=value"));
    assert!(error("quickstart", &["optimiser.lr"]).contains("section.key=value"));
    assert!(error("quikstart", &[]).contains("did you mean the preset `quickstart`?"));
    let (_folder, path) = file("[model\n");
    assert!(error(&path, &[]).contains("not valid TOML"));
    let (_folder, path) = file("base = \"nothing\"\n");
    assert!(error(&path, &[]).contains("`base` must be the name of a preset"));
}

#[test]
fn contradictions_are_refused_with_both_keys() {
    for (sets, words) in [
        (&["router.top_k=40"][..], &["router.top_k = 40", "router.experts = 32"][..]),
        (&["router.shared=4"], &["router.top_k = 4", "router.shared = 4"]),
        (&["model.heads=3"], &["model.heads = 3", "model.width = 128"]),
        (&["model.kv_heads=3"], &["model.kv_heads = 3", "model.heads = 4"]),
        (&["router.pool_min=2"], &["router.pool_min = 2", "3 routed experts"]),
        (&["router.pool_min=20", "router.pool_max=10"], &["pool_min = 20", "pool_max = 10"]),
        (&["router.pool=fixed", "router.pool_max=2"], &["router.pool_max = 2"]),
        (&["router.pool=none", "router.pool_forced=1"], &["router.pool_forced"]),
        (&["router.always_active=[0]"], &["router.always_active", "pool"]),
        (&["router.smoothing=fixed", "router.smoothing_centred=true"], &["allow_noncausal"]),
        (&["router.smoothing=fixed", "router.smoothing_width=10"], &["smoothing_width"]),
        (&["router.smoothing_centred=true"], &["router.smoothing_centred", "router.smoothing = \"none\""]),
        (
            &["model.dense_layers=[0]", "model.dense_width=8", "model.gated=false"],
            &["model.gated = false", "model.dense_layers"],
        ),
        (&["train.micro_batch=3"], &["train.micro_batch = 3", "train.batch = 4"]),
        (&["data.source=folder"], &["data.path"]),
        (&["data.path=/text"], &["data.path", "folder"]),
        (&["model.vocabulary=100"], &["model.vocabulary = 100", "320"]),
        (&["data.source=random", "model.vocabulary=64"], &["validation.rows = 0"]),
        (&["model.dense_layers=[0]"], &["model.dense_width"]),
        (&["model.dense_layers=[9]", "model.dense_width=8"], &["layer 9"]),
        (&["losses.router_z=-1"], &["losses.router_z"]),
        (&["optimiser.beta2=1"], &["optimiser.beta2"]),
        (&["router.temperature=0"], &["router.temperature"]),
        (&["run.name=a/b"], &["run.name"]),
    ] {
        let message = error("quickstart", sets);
        for word in words {
            assert!(message.contains(word), "{sets:?}: `{word}` is not in: {message}");
        }
    }
    let centred = ["router.smoothing=fixed", "router.smoothing_centred=true", "router.allow_noncausal=true"];
    assert!(Config::load("quickstart", &centred.map(String::from)).is_ok());
}

#[test]
fn a_file_states_only_what_differs_from_its_base() {
    let (_folder, path) = file("base = \"tiny\"\n[optimiser]\nlr = 1\n");
    let config = Config::load(&path, &["train.batch=8".into()]).unwrap();
    let tiny = Config::load("tiny", &[]).unwrap();
    let keys: Vec<String> = tiny.differences(&config).into_iter().map(|difference| difference.0).collect();
    assert_eq!(keys, ["optimiser.lr", "train.batch"]);
    assert_eq!(config.optimiser.lr, 1.0);
}

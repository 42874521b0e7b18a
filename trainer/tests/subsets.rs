//! Subsets of experts: a model that is told to use some computes the bits of a model that has no others, whether it was
//! cut down on disk, while it was read, or for one request.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use emo::backend::Backend;
use emo::cpu::Cpu;
use emo::ops::activation::Activation;
use emo::ops::router::{Score, SharedWeight};
use emo::oracle::Oracle;
use half::bf16;
use serde_json::Value;
use support::{Place, fail, succeed, summary};
use trainer::checkpoint::safetensors::{self, Planned, Reader};
use trainer::checkpoint::transfer::{Settings, transfer};
use trainer::checkpoint::{Family, hf};
use trainer::model::{
    Capacity, Dense, FeedForward, Inputs, Model, ModelConfig, Moe, NormPlacement, PoolFrom, QkNorm, Segments,
    Smoothing,
};
use trainer::subset::ExpertSubset;
use trainer::subset::run::pool_of;
use trainer::subset::select::{Choice, Method, select};

const CAPACITY: Capacity =
    Capacity { tokens: 150, longest: 50, domains: 0, redundancy: false, backward: false };

fn config(moes: [Moe; 2]) -> ModelConfig {
    let [first, second] = moes.map(FeedForward::Moe);
    let dense = FeedForward::Dense(Dense { hidden: 40, bias: false, activation: Activation::Silu });
    ModelConfig {
        vocabulary: 61,
        width: 40,
        heads: 4,
        kv_heads: 2,
        head_dim: 10,
        rope_theta: 10_000.0,
        norm_eps: 1e-6,
        norm: NormPlacement::Pre,
        qk_norm: QkNorm::None,
        clip_qkv: None,
        tied_embeddings: false,
        max_positions: 64,
        pad_id: None,
        eos_id: Some(0),
        bos_id: None,
        // Large, so that experts differ in what they do.
        init_std: 0.3,
        feed_forward: vec![first, dense, second],
    }
}

/// Routers of every kind that slicing has to get right.
fn configs() -> Vec<(&'static str, ModelConfig)> {
    let smoothing = Smoothing { width: 3, ahead: 0, learned: true, depthwise: true, renormalise: true };
    let emo = Moe::emo(37, 5, 1, 24);
    let sigmoid = Moe {
        score: Score::Sigmoid,
        normalise: Some(1.0),
        temperature: 0.7,
        gate_bias: true,
        selection_bias: true,
        ..Moe::emo(19, 4, 1, 17)
    };
    let forced = Moe { forced: 4, gated: false, activation: Activation::Gelu, ..Moe::emo(23, 6, 0, 16) };
    let fixed = Moe { smoothing: Some(Smoothing { learned: false, ..smoothing }), ..emo.clone() };
    let shared = Moe {
        shared_weight: SharedWeight::Softmax,
        smoothing: Some(Smoothing { depthwise: false, ..smoothing }),
        ..Moe::emo(20, 5, 2, 16)
    };
    let active = Moe { always_active: vec![2, 9], ..Moe::emo(21, 6, 0, 16) };
    vec![
        ("emo", config([emo.clone(), emo.clone()])),
        ("sigmoid, corrected", config([sigmoid, emo.clone()])),
        ("smoothed", config([Moe { smoothing: Some(smoothing), ..emo }, fixed])),
        ("forced, several shared", config([forced, shared.clone()])),
        ("always active", config([active, shared])),
    ]
}

fn model<B: Backend>(backend: B, config: &ModelConfig) -> Model<B> {
    let mut model = Model::new(Arc::new(backend), config.clone(), CAPACITY).expect("a model");
    model.initialise(7).expect("weights");
    for (ordinal, (_, moe)) in config.moe_layers().enumerate() {
        let bias: Vec<f64> = (0..moe.routed()).map(|expert| 0.02 * ((expert * 5) % 7) as f64).collect();
        model.set_selection_bias(ordinal, &bias).expect("a bias");
    }
    model
}

/// Routed experts `first..` in steps of three, with those that must be there.
fn kept(config: &ModelConfig, count: usize) -> Vec<Vec<u32>> {
    let layer = |(ordinal, (_, moe)): (usize, (usize, &Moe))| {
        let mut kept = moe.always_active.clone();
        let others = (0..moe.routed() as u32).map(|i| (i * 11 + ordinal as u32) % moe.routed() as u32);
        for expert in others {
            if kept.len() < count && !kept.contains(&expert) {
                kept.push(expert);
            }
        }
        kept.sort_unstable();
        kept
    };
    config.moe_layers().enumerate().map(layer).collect()
}

/// Several documents in rows of different length.
fn inputs(tokens: usize) -> Inputs {
    let ids: Vec<u32> = (0..tokens as u32).map(|token| (token * token * 7 + token / 5) % 61).collect();
    let mut inputs = Inputs::rows(ids, 1, tokens);
    let ends: Vec<u32> =
        [0, 31, 32, 60, 100].into_iter().filter(|&end| end < tokens as u32).chain([tokens as u32]).collect();
    inputs.positions = ends.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect();
    (inputs.attention, inputs.routing) = (Segments { offsets: ends.clone() }, Segments { offsets: ends });
    inputs
}

fn logits<B: Backend>(model: &mut Model<B>, inputs: &Inputs) -> Vec<f64> {
    model.forward(inputs).expect("a forward pass");
    model.logits(0..inputs.tokens()).expect("logits")
}

fn prune(folder: &Path, name: &str, kept: &[Vec<u32>]) -> PathBuf {
    let to = folder.join(name);
    let keep = Some(kept.to_vec());
    let settings = Settings { family: Family::Emo, dtype: None, shard_bytes: 100_000, keep };
    transfer(&folder.join("whole"), &to, &settings, |_| ()).expect("a pruned copy");
    to
}

/// Masked, pruned on disk and read in part: the same bits, at several sizes of batch, and other ones than the whole model's.
fn assert_same<B: Backend>(what: &str, config: &ModelConfig, backend: impl Fn() -> B) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut whole = model(backend(), config);
    hf::save(&folder.path().join("whole"), &whole).expect("saved");
    for count in [1, 3, 4, 12] {
        let kept = kept(config, count);
        let path = prune(folder.path(), &format!("pruned-{count}"), &kept);
        let mut pruned = hf::load(&path, Arc::new(backend()), CAPACITY).expect("the pruned model");
        let mut part = hf::load_kept(&folder.path().join("whole"), &kept, Arc::new(backend()), CAPACITY)
            .expect("a part of the model");
        assert_eq!(pruned.config(), part.config());
        assert_eq!(pruned.config(), &config.keep(&kept).expect("a smaller configuration"));
        for tokens in [1, 7, 33, 150] {
            let inputs = inputs(tokens);
            whole.set_experts(None).expect("all experts");
            let all = logits(&mut whole, &inputs);
            whole.set_experts(Some(&kept)).expect("some experts");
            let masked = logits(&mut whole, &inputs);
            assert!(masked.iter().all(|value| value.is_finite()));
            assert!(masked != all, "{what}, {count} experts: the mask does nothing");
            assert!(
                masked == logits(&mut pruned, &inputs),
                "{what}, {count} experts, {tokens} tokens: on disk"
            );
            assert!(
                masked == logits(&mut part, &inputs),
                "{what}, {count} experts, {tokens} tokens: in part"
            );
            // In the numbers of the whole model.
            let counts = whole.counts().expect("counts");
            for (ordinal, kept) in kept.iter().enumerate() {
                let outside =
                    |&(expert, &count): &(usize, &u32)| count > 0 && !kept.contains(&(expert as u32));
                assert!(!counts[ordinal].iter().enumerate().any(|pair| outside(&pair)), "{what}");
                let slots = pruned.counts().expect("counts")[ordinal].clone();
                let ours: Vec<u32> = kept.iter().map(|&expert| counts[ordinal][expert as usize]).collect();
                assert_eq!(ours, slots, "{what}");
            }
        }
    }
}

#[test]
fn a_mask_is_pruning_bit_for_bit() {
    for (what, config) in configs() {
        for threads in [1, 2] {
            assert_same(what, &config, || Cpu::new(threads).expect("threads"));
        }
        assert_same(what, &config, || Cpu::new(2).expect("threads").storing::<bf16>());
    }
}

#[test]
fn all_experts_are_the_whole_model_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    for (what, config) in configs() {
        let mut whole = model(Cpu::new(2).expect("threads"), &config);
        hf::save(&folder.path().join("whole"), &whole).expect("saved");
        let all = ExpertSubset::full(&config).expect("all experts").kept();
        let path = prune(folder.path(), "all", &all);
        let mut pruned = hf::load(&path, Arc::new(Cpu::new(2).expect("threads")), CAPACITY).expect("a model");
        let inputs = inputs(150);
        let expected = logits(&mut whole, &inputs);
        assert!(expected == logits(&mut pruned, &inputs), "{what}");
        whole.set_experts(Some(&all)).expect("all experts");
        assert!(expected == logits(&mut whole, &inputs), "{what}");
        let origin = ExpertSubset::of_pruned(pruned.config()).expect("the origin");
        assert!(origin.is_full() && origin.kept() == all);
    }
}

#[test]
fn scores_under_a_mask_are_a_softmax_over_what_is_kept() {
    let (_, config) = configs().swap_remove(0);
    let mut exact = model(Oracle, &config);
    let mut fast = model(Cpu::new(2).expect("threads"), &config);
    let kept = kept(&config, 6);
    let inputs = inputs(40);
    exact.forward(&inputs).expect("a pass");
    let whole = exact.routing(0).expect("routing").expect("a layer");
    exact.set_experts(Some(&kept)).expect("some");
    exact.forward(&inputs).expect("a pass");
    fast.set_experts(Some(&kept)).expect("some");
    fast.forward(&inputs).expect("a pass");
    let (masked, ours) = (exact.routing(0).unwrap().unwrap(), fast.routing(0).unwrap().unwrap());
    for token in 0..40 {
        // The router's input of the first layer does not depend on any expert.
        let z = &whole.logits[token * 37..][..36];
        let sum: f64 = kept[0].iter().map(|&expert| z[expert as usize].exp()).sum();
        for expert in 0..36 {
            let expected = if kept[0].contains(&(expert as u32)) { z[expert].exp() / sum } else { 0.0 };
            let (exact, ours) = (masked.scores[token * 36 + expert], ours.scores[token * 36 + expert]);
            assert!((exact - expected).abs() < 1e-12, "{exact} for {expected}");
            assert!((ours - expected).abs() < 1e-5, "{ours} for {expected}");
        }
        let slots = &masked.indices[token * 5..][..5];
        assert!(slots[..4].iter().all(|slot| kept[0].contains(slot)) && slots[4] == 36, "{slots:?}");
    }
    assert_eq!((masked.top_k(), masked.indices), (5, ours.indices));
}

#[test]
fn what_is_not_kept_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, config) = configs().swap_remove(0);
    let kept = kept(&config, 5);
    let mut whole = model(Oracle, &config);
    // No expert that is left out has a finite weight.
    let mut part = Vec::new();
    for tensor in hf::tensors(&config, whole.layout(), Family::Emo) {
        let name: Vec<&str> = tensor.name.split('.').collect();
        let Some(at) = name.iter().position(|&part| part == "experts") else { continue };
        let (layer, expert): (usize, u32) = (name[2].parse().unwrap(), name[at + 1].parse().unwrap());
        if expert < 36 && !kept[layer / 2].contains(&expert) {
            part.push(tensor.range);
        }
    }
    assert_eq!(part.len(), 2 * 31 * 3);
    for range in part {
        whole.set_parameters(range.start, &vec![f64::NAN; range.len()]).expect("weights");
    }
    hf::save(&folder.path().join("whole"), &whole).expect("saved");
    let mut model =
        hf::load_kept(&folder.path().join("whole"), &kept, Arc::new(Oracle), CAPACITY).expect("a model");
    assert!(logits(&mut model, &inputs(60)).iter().all(|value| value.is_finite()));
    let parameters = hf::load_kept(&folder.path().join("whole"), &kept, Arc::new(Oracle), CAPACITY).unwrap();
    assert!(parameters.get_parameters(0..parameters.layout().len()).unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn rows_of_a_tensor_are_read_alone_and_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.safetensors");
    let planned = [("a", 3), ("b", 5)].map(|(name, rows)| Planned::f32(name.into(), vec![rows, 2]));
    let values = |index: usize| (0..2 * [3, 5][index]).map(|i| (10 * index + i) as f64).collect::<Vec<_>>();
    safetensors::write(&path, &planned, |index| Ok(values(index))).expect("a file");
    let mut file = Reader::open(&path).expect("the file");
    let mut rows = |rows: &[u32]| file.floats_of("b", &[5, 2], Some(rows));
    assert_eq!(rows(&[0, 1, 3]).unwrap(), [10.0, 11.0, 12.0, 13.0, 16.0, 17.0]);
    assert_eq!(rows(&[4]).unwrap(), [18.0, 19.0]);
    assert!(rows(&[]).unwrap().is_empty());
    for bad in [&[5][..], &[1, 1], &[2, 0]] {
        assert!(rows(bad).is_err(), "{bad:?}");
    }
    assert!(file.rows("c", &[0]).is_err() && file.floats_of("b", &[4, 2], Some(&[0])).is_err());
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let (_, config) = configs().swap_remove(4);
    let mut model = model(Oracle, &config);
    let good = kept(&config, 4);
    model.set_experts(Some(&good)).expect("experts");
    for (layer, bad) in [
        (0, vec![]),
        (0, vec![2, 2, 9]),
        (0, vec![9, 2]),
        (0, vec![2, 9, 21]),
        // Expert 9 is used by every token.
        (0, vec![2, 3]),
        (1, vec![18]),
    ] {
        let mut kept = good.clone();
        kept[layer] = bad;
        assert!(model.set_experts(Some(&kept)).is_err(), "{kept:?}");
        assert!(config.keep(&kept).is_err());
    }
    assert!(model.set_experts(Some(&good[..1])).is_err());
    let refused = model.loss_and_backward(&inputs(20), &trainer::model::Objective::default());
    assert!(refused.unwrap_err().to_string().contains("subset"));
}

/// Documents that differ in which tokens they use.
fn documents() -> Vec<Vec<u32>> {
    (0..5u32).map(|d| (0..20 + d * 7).map(|token| (token * token + d * 13) % 30).collect()).collect()
}

#[test]
fn layerwise_selection_is_the_greedy_one() {
    let (_, config) = configs().swap_remove(0);
    let mut model = model(Oracle, &config);
    let routed = [7, 4];
    let choice = Choice { method: Method::Layerwise, routed: &routed, seed: 0 };
    let subset = select(&mut model, &documents(), choice, |_, _| ()).expect("a subset");
    // The same by hand: each document alone, each layer after the ones below were cut.
    let mut kept: Vec<Vec<u32>> = vec![(0..36).collect(); 2];
    for ordinal in 0..2 {
        model.set_experts(Some(&kept)).expect("experts");
        let mut scores = [0.0; 36];
        for ids in documents() {
            model.forward(&Inputs::rows(ids.clone(), 1, ids.len())).expect("a pass");
            let routing = model.routing(ordinal).unwrap().unwrap();
            for token in routing.scores.chunks_exact(36) {
                scores.iter_mut().zip(token).for_each(|(sum, score)| *sum += score);
            }
        }
        let mut order: Vec<u32> = (0..36).collect();
        order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        order.truncate(routed[ordinal]);
        order.sort_unstable();
        kept[ordinal] = order;
    }
    assert_eq!(subset.kept(), kept);
    // One document's pool of the same size is the same choice, in one pass.
    model.set_experts(None).expect("all");
    let one = documents().split_off(4);
    let choice = Choice { method: Method::Layerwise, routed: &[7, 7], seed: 0 };
    let greedy = select(&mut model, &one, choice, |_, _| ()).expect("a subset");
    assert_eq!(pool_of(&mut model, &one[0], 7).expect("a pool").kept(), greedy.kept());
}

#[test]
fn methods_differ_count_their_passes_and_leave_the_model_whole() {
    let (_, config) = configs().swap_remove(0);
    let mut fast = model(Cpu::new(2).expect("threads"), &config);
    let mut exact = model(Oracle, &config);
    let before = logits(&mut fast, &inputs(30));
    let mut found = Vec::new();
    for (method, passes) in
        [(Method::Layerwise, 2), (Method::Mass, 1), (Method::EasyEp, 2), (Method::Random, 0)]
    {
        let mut of_method = Vec::new();
        for count in [3, 6, 12, 20] {
            let choice = Choice { method, routed: &[count, count], seed: 3 };
            let (mut done, mut of) = (0, 0);
            let subset = select(&mut fast, &documents(), choice, |batches, all| (done, of) = (batches, all));
            let subset = subset.expect("a subset");
            // 170 tokens of documents fit in two batches of 150.
            assert_eq!((done, of), (2 * passes, 2 * passes), "{method:?}");
            let again = select(&mut exact, &documents(), choice, |_, _| ()).expect("a subset");
            assert_eq!(subset, again, "{method:?}");
            of_method.push(subset.kept());
        }
        found.push(of_method);
    }
    let distinct: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!(distinct.len(), 4, "{found:?}");
    assert!(before == logits(&mut fast, &inputs(30)));
    let other = Choice { method: Method::Random, routed: &[6, 6], seed: 4 };
    assert_ne!(select(&mut fast, &documents(), other, |_, _| ()).expect("a subset").kept(), found[3][1]);
}

#[test]
fn pools_that_look_back_do_not_look_ahead() {
    for (what, config) in configs() {
        let mut model = model(Cpu::new(2).expect("threads"), &config);
        let pooled = |from: PoolFrom, size: u32, changed: bool| {
            let mut inputs = inputs(31);
            inputs.pools = Some(vec![vec![size]; 2]);
            inputs.pool_from = from;
            if changed {
                inputs.ids[24..].iter_mut().for_each(|id| *id = (*id * 3 + 1) % 61);
            }
            inputs
        };
        let plain = logits(&mut model, &inputs(31));
        for from in [PoolFrom::SoFar, PoolFrom::Prefix(10), PoolFrom::Document] {
            let found = logits(&mut model, &pooled(from, 4, false));
            assert!(found != plain, "{what}: {from:?} does nothing");
            let changed = logits(&mut model, &pooled(from, 4, true));
            let same = found[..24 * 61] == changed[..24 * 61];
            // Smoothing is causal in these models, so only pools can look ahead.
            assert_eq!(same, from != PoolFrom::Document, "{what}, {from:?}");
            assert!(logits(&mut model, &pooled(from, 99, false)) == plain, "{what}: {from:?} of all experts");
            if from == PoolFrom::Prefix(10) {
                assert!(
                    found[..10 * 61] == plain[..10 * 61] && found[10 * 61..] != plain[10 * 61..],
                    "{what}"
                );
            }
        }
        // At its last token the document so far is the document.
        let last = |model: &mut Model<Cpu>, from| {
            model.forward_blocks(&pooled(from, 4, false), 1).expect("a pass");
            let routing = model.routing(0).unwrap().unwrap();
            let routed = config.moe_layers().next().unwrap().1.routed();
            let pools = routing.pools.unwrap();
            pools[pools.len() - routed..].to_vec()
        };
        assert_eq!(last(&mut model, PoolFrom::SoFar), last(&mut model, PoolFrom::Document), "{what}");
    }
}

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

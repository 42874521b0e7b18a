//! Sequences that grow over cached keys and values are what the whole sequences would be, for every composition of the model;
//! `trainer generate` streams, stops and is reproducible.

use std::path::Path;
use std::sync::Arc;

use emo::backend::Backend;
use emo::cpu::Cpu;
use emo::ops::activation::Activation;
use emo::oracle::Oracle;
use serde_json::Value;
use trainer::checkpoint::hf;
use trainer::data::Tokenizer;
use trainer::data::tokenizer::Eos;
use trainer::generate::{Decoder, Sampler, Sampling, Stream};
use trainer::model::{
    Capacity, Dense, FeedForward, Inputs, Model, ModelConfig, Moe, NormPlacement, QkNorm, Smoothing,
};

use crate::support::{Place, fail, stderr, stdout, succeed};

const LONGEST: usize = 24;

fn config(moe: Moe) -> ModelConfig {
    let dense = Dense { hidden: 20, bias: true, activation: Activation::Silu };
    ModelConfig {
        vocabulary: 320,
        width: 24,
        heads: 4,
        kv_heads: 2,
        head_dim: 6,
        rope_theta: 10_000.0,
        norm_eps: 1e-6,
        norm: NormPlacement::Pre,
        qk_norm: QkNorm::PerHead,
        clip_qkv: None,
        tied_embeddings: false,
        max_positions: LONGEST,
        pad_id: None,
        eos_id: Some(256),
        bos_id: None,
        init_std: 0.4,
        feed_forward: vec![FeedForward::Dense(dense), FeedForward::Moe(moe.clone()), FeedForward::Moe(moe)],
    }
}

/// What EMO, OLMoE, FlexOlmo, Mixtral and Qwen3 are made of, and smoothing of every kind.
fn compositions() -> Vec<(&'static str, ModelConfig)> {
    let moe = Moe::emo(7, 3, 1, 10);
    let plain = Moe::emo(6, 2, 0, 10);
    let smoothed = |width, ahead, learned, depthwise, renormalise| Moe {
        smoothing: Some(Smoothing { width, ahead, learned, depthwise, renormalise }),
        ..moe.clone()
    };
    let emo = config(moe.clone());
    vec![
        ("emo", emo.clone()),
        (
            "olmoe",
            ModelConfig {
                kv_heads: 4,
                qk_norm: QkNorm::FullWidth,
                clip_qkv: Some(0.8),
                ..config(plain.clone())
            },
        ),
        (
            "flex_olmo",
            ModelConfig { norm: NormPlacement::Post, qk_norm: QkNorm::FullWidth, ..config(plain.clone()) },
        ),
        (
            "mixtral",
            ModelConfig {
                qk_norm: QkNorm::None,
                kv_heads: 1,
                ..config(Moe { normalise: Some(1.0), ..plain })
            },
        ),
        (
            "qwen3_moe",
            ModelConfig { tied_embeddings: true, ..config(Moe { gate_bias: true, ..moe.clone() }) },
        ),
        ("clip alone", ModelConfig { qk_norm: QkNorm::None, clip_qkv: Some(0.5), ..emo }),
        ("causal box", config(smoothed(3, 0, false, false, false))),
        ("causal box, renormalised", config(smoothed(4, 0, false, false, true))),
        ("causal taps of each expert", config(smoothed(2, 0, true, true, false))),
        ("one tap", config(smoothed(1, 0, false, false, false))),
        ("smoothing that looks ahead", config(smoothed(3, 1, false, false, true))),
    ]
}

fn model<B: Backend>(backend: &Arc<B>, config: &ModelConfig, capacity: Capacity) -> Model<B> {
    let mut model = Model::new(Arc::clone(backend), config.clone(), capacity).unwrap();
    model.initialise(3).unwrap();
    model
}

/// Logits of what follows each sequence, each computed whole.
fn whole<B: Backend>(model: &mut Model<B>, ids: &[u32]) -> Vec<f64> {
    model.forward(&Inputs::rows(ids.to_vec(), 1, ids.len())).unwrap();
    model.logits(ids.len() - 1..ids.len()).unwrap()
}

fn token(at: usize) -> u32 {
    (at * 37 % 256) as u32
}

/// Grows three sequences by uneven pieces, in changing order, some longer than a micro-batch, and compares all logits.
fn grown<B: Backend>(backend: B, config: &ModelConfig, remembers: bool) -> f64 {
    let backend = Arc::new(backend);
    let room = Capacity { tokens: LONGEST, longest: LONGEST, domains: 0, redundancy: false, backward: false };
    let mut exact = model(&backend, config, room);
    assert_eq!(exact.remembers(), remembers);
    let small = Capacity { tokens: if remembers { 5 } else { LONGEST }, ..room };
    let mut decoder = Decoder::new(model(&backend, config, small), 3).unwrap();
    let steps: [&[(usize, usize)]; 6] = [
        &[(0, 7), (2, 1)],
        &[(2, 2), (1, 11), (0, 1)],
        &[(1, 1)],
        &[(2, 1), (0, 1), (1, 1)],
        &[(0, 3), (1, 1)],
        &[(1, 10), (2, 1), (0, 2)],
    ];
    let mut furthest = 0.0f64;
    for (round, step) in steps.iter().cycle().take(12).enumerate() {
        if round == 6 {
            (0..3).for_each(|sequence| decoder.clear(sequence));
        }
        let new: Vec<(usize, Vec<u32>)> = step
            .iter()
            .map(|&(sequence, count)| {
                let start = decoder.tokens(sequence).len();
                (sequence, (start..start + count).map(|at| token(at + 50 * sequence + round)).collect())
            })
            .collect();
        let named: Vec<(usize, &[u32])> = new.iter().map(|(sequence, ids)| (*sequence, &ids[..])).collect();
        let logits = decoder.extend(&named).unwrap();
        for (&(sequence, _), logits) in step.iter().zip(logits) {
            let expected = whole(&mut exact, decoder.tokens(sequence));
            let error = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert_eq!(logits.len(), expected.len());
            furthest = furthest.max(error);
        }
    }
    assert_eq!(decoder.room(1), 0);
    furthest
}

#[test]
fn cached_sequences_are_the_whole_sequences_for_every_composition() {
    for (name, config) in compositions() {
        let error = grown(Oracle, &config, name != "smoothing that looks ahead");
        assert!(error < 1e-9, "{name}: {error}");
    }
}

#[test]
fn cached_sequences_are_the_whole_sequences_on_the_processor() {
    for (name, config) in compositions() {
        let error = grown(Cpu::new(2).unwrap(), &config, name != "smoothing that looks ahead");
        assert!(error < 1e-3, "{name}: {error}");
    }
}

#[test]
fn cached_generation_draws_the_tokens_of_recomputation_with_any_number_of_threads() {
    let generate = |backend: &Arc<Cpu>, config: &ModelConfig, sampling| {
        let mut decoder =
            Decoder::new(model(backend, config, Decoder::<Cpu>::capacity(config, 1, LONGEST)), 1).unwrap();
        let mut again = model(backend, config, Decoder::<Cpu>::capacity(config, 1, LONGEST));
        let mut sampler = Sampler::new(sampling).unwrap();
        let mut recomputed = sampler.clone();
        let mut next = vec![5, 9, 200];
        while decoder.room(0) >= next.len() {
            let logits = decoder.extend(&[(0, &next)]).unwrap().swap_remove(0);
            let expected = recomputed.draw(&whole(&mut again, decoder.tokens(0))).unwrap();
            next = vec![sampler.draw(&logits).unwrap()];
            assert_eq!(next, [expected], "after {:?}", decoder.tokens(0));
        }
        decoder.tokens(0).to_vec()
    };
    for (name, config) in compositions() {
        for temperature in [0.0, 1.0] {
            let sampling = Sampling { temperature, top_p: 0.9, seed: 4 };
            let one = generate(&Arc::new(Cpu::new(1).unwrap()), &config, sampling);
            assert_eq!(one.len(), LONGEST, "{name}");
            assert_eq!(generate(&Arc::new(Cpu::new(7).unwrap()), &config, sampling), one, "{name}");
        }
    }
}

#[test]
fn sequences_that_do_not_fit_are_refused_and_nothing_changes() {
    let backend = Arc::new(Cpu::new(1).unwrap());
    let config = config(Moe::emo(7, 3, 1, 10));
    let mut decoder =
        Decoder::new(model(&backend, &config, Decoder::<Cpu>::capacity(&config, 2, 8)), 2).unwrap();
    decoder.extend(&[(0, &[1, 2, 3])]).unwrap();
    for (new, words) in [
        (vec![(2, &[1u32][..])], "there are 2 sequences"),
        (vec![(0, &[1]), (0, &[2])], "twice"),
        (vec![(1, &[])], "at least 1"),
        (vec![(0, &[1, 1, 1, 1, 1, 1])], "at most 8 together"),
    ] {
        let error = decoder.extend(&new).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!((decoder.tokens(0), decoder.tokens(1)), (&[1, 2, 3][..], &[][..]));
    }
    assert!(decoder.extend(&[(1, &[400])]).is_err(), "an id beyond the vocabulary");
}

/// A checkpoint of bytes whose likeliest token after `prompt` is the end of the document, or never is.
fn checkpoint(folder: &Path, prompt: &str, ends: bool) {
    let backend = Arc::new(Cpu::new(1).unwrap());
    let config = config(Moe::emo(7, 3, 1, 10));
    let mut model = model(&backend, &config, Decoder::<Cpu>::capacity(&config, 1, LONGEST));
    let ids: Vec<u32> = prompt.bytes().map(u32::from).collect();
    model.forward(&Inputs::rows(ids.clone(), 1, ids.len())).unwrap();
    let hidden = model.final_hidden().unwrap();
    let last = &hidden[hidden.len() - config.width..];
    // Of 256 others one has a positive logit.
    let row: Vec<f64> = last.iter().map(|x| if ends { 100.0 * x } else { 0.0 }).collect();
    let start = model.layout().head.start + 256 * config.width;
    model.set_parameters(start, &row).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    hf::save(folder, &model).unwrap();
}

fn generated(place: &Place, args: &[&str]) -> Value {
    let output = succeed(place.trainer().arg("generate").args(args).arg("--json"));
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn the_command_stops_at_the_end_of_a_document_at_the_positions_and_at_the_tokens_asked_for() {
    let place = Place::new();
    checkpoint(&place.path("ends"), "ab", true);
    let ended = generated(&place, &["--checkpoint", "ends", "--prompt", "ab", "--temperature", "0"]);
    assert_eq!(
        (&ended["stop"], &ended["tokens"], &ended["text"]),
        (&"end_of_document".into(), &0.into(), &"".into())
    );
    if cfg!(target_os = "linux") {
        let bytes = ended["peak_memory_bytes"].as_u64().unwrap();
        assert!((1..1 << 30).contains(&bytes), "a model of a few thousand parameters: {bytes}");
    }

    checkpoint(&place.path("never"), "ab", false);
    let text = succeed(place.trainer().args([
        "generate",
        "--checkpoint",
        "never",
        "--prompt",
        "fifteen letters",
        "--temperature",
        "0",
    ]));
    let words = stderr(&text);
    assert!(
        words.contains("prompt: 15 tokens in")
            && words.contains("; 10 tokens, ")
            && words.contains("ms each"),
        "{words}"
    );
    assert!(words.contains("the model's 24 positions are full"), "{words}");
    assert!(stdout(&text).starts_with("fifteen letters"), "streamed behind the prompt");

    let few =
        generated(&place, &["--checkpoint", "never", "--prompt", "xyz", "--tokens", "4", "--seed", "7"]);
    assert_eq!((&few["prompt_tokens"], few["prompt_ms"].as_f64() > Some(0.0)), (&3.into(), true));
    let again = generated(
        &place,
        &["--checkpoint", "never", "--prompt", "xyz", "--tokens", "4", "--seed", "7", "--threads", "3"],
    );
    assert_eq!(few["text"], again["text"]);

    let long = "x".repeat(25);
    let words = fail(place.trainer().args(["generate", "--checkpoint", "ends", "--prompt", &long]), 2);
    assert!(words.contains("25 tokens") && words.contains("24"), "{words}");
    let words = fail(place.trainer().args(["generate", "--checkpoint", "ends", "--top-p", "0"]), 2);
    assert!(words.contains("top-p"), "{words}");
}

#[test]
fn a_checkpoint_of_a_run_on_shards_has_its_tokenizer_and_needs_nothing_else() {
    let place = Place::new();
    let text = place.path("text");
    let text = text.to_str().unwrap();
    succeed(place.trainer().args([
        "data",
        "train-tokenizer",
        text,
        "--vocabulary",
        "300",
        "--out",
        "tokenizer.json",
    ]));
    succeed(place.trainer().args([
        "data",
        "build",
        text,
        "--tokenizer",
        "tokenizer.json",
        "--out",
        "shards",
    ]));
    let shards: Value =
        serde_json::from_slice(&std::fs::read(place.path("shards/manifest.json")).unwrap()).unwrap();
    let eos = format!("data.eos={}", shards["tokenizer"]["eos"]);
    let mut run = place.trainer();
    run.args(["pretrain", "tiny", "--set", "data.source=shards", "--set", "data.path=shards", "--set", &eos]);
    run.args(["--set", "model.vocabulary=300", "--steps", "2", "--out", "run"]);
    succeed(&mut run);
    let tokenizer = Tokenizer::load(place.path("tokenizer.json").to_str().unwrap(), Eos::Usual).unwrap();
    let ids = tokenizer.encode(&"naïve 春が来た 🦀 expert token ".repeat(9)).unwrap();
    let mut stream = Stream::new(&tokenizer);
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
    assert!(pieces.iter().all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER)), "{pieces:?}");
    assert_eq!(pieces.concat() + &stream.finish(), tokenizer.decode(&ids));
    let found = place.checkpoint("run", 2, "tokenizer.json");
    assert!(found == std::fs::read(place.path("tokenizer.json")).unwrap());
    std::fs::rename(place.path("shards"), place.path("elsewhere")).unwrap();
    let prompt = ["--prompt", "expert token", "--tokens", "5"];
    let own = generated(&place, &[&["--checkpoint", "run"][..], &prompt].concat());
    assert!(own["prompt_tokens"].as_u64() < Some(12), "words, not bytes: {own}");
    succeed(place.trainer().args(["export", "--checkpoint", "run", "--out", "exported"]));
    let given = ["--checkpoint", "exported", "--tokenizer", "tokenizer.json"];
    assert_eq!(generated(&place, &[&given[..], &prompt].concat())["text"], own["text"]);
    std::fs::remove_file(place.path("exported/tokenizer.json")).unwrap();
    let words = fail(place.trainer().args(["generate", "--checkpoint", "exported"]), 1);
    assert!(words.contains("--tokenizer"), "{words}");
}

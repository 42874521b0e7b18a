//! A folder with one valid file of every kind, made by the program's own writers.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use trainer::analysis::gather::LayerTally;
use trainer::analysis::sample::{Passage, Sample};
use trainer::analysis::{
    Analysis, Cluster, Clusters, Context, DomainSample, FORMAT, LayerAnalysis, SampleSummary, Stability,
};
use trainer::checkpoint::transfer::{Settings, transfer};
use trainer::checkpoint::{Family, folder, hf, state};
use trainer::config::Config;
use trainer::data::StreamPosition;
use trainer::data::read::discover;
use trainer::data::{RoutingBoundary, Tokenizer, shard};
use trainer::evaluate::retention::{Full, Kept, Retention};
use trainer::metrics::{DomainValid, LoadSummary, MetricsWriter, Record, StepRecord, ValidRecord};
use trainer::model::{Dense, FeedForward, Model, ModelConfig, Moe, QkNorm};
use trainer::report::{LayerRouting, RoutingCounts, RunInfo};
use trainer::subset::ExpertSubset;
use trainer::subset::select::Method;

use super::super::shards;
use super::{CAPACITY, backend};

/// Two layers of five routed experts and a shared one.
pub fn model() -> ModelConfig {
    ModelConfig { vocabulary: 320, feed_forward: vec![FeedForward::Moe(Moe::emo(6, 3, 1, 4)); 2], ..dense() }
}

fn dense() -> ModelConfig {
    let mut config = Config::load("tiny", &[]).expect("a preset").model_config();
    config.width = 8;
    (config.heads, config.kv_heads, config.head_dim) = (2, 2, 4);
    config.feed_forward = vec![];
    config
}

/// What no configuration of Hugging Face can say.
fn extended() -> ModelConfig {
    let dense_block = Dense { hidden: 6, bias: false, activation: emo::ops::activation::Activation::Silu };
    let moe = Moe { temperature: 0.5, gate_bias: true, ..Moe::emo(6, 3, 1, 4) };
    let feed_forward = vec![FeedForward::Dense(dense_block), FeedForward::Moe(moe)];
    ModelConfig { qk_norm: QkNorm::PerHead, feed_forward, ..dense() }
}

/// Fills `root`.
pub fn fill(root: &Path) {
    text(root);
    models(root);
    run(root);
    let subset =
        ExpertSubset::of(&model(), |_, routed| (0..routed as u32).step_by(2).collect()).expect("a subset");
    subset.save(&root.join("subset.json")).expect("written");
    fs::write(root.join("cluster.toml"), trainer::cluster::EXAMPLE).expect("written");
    let analysis = serde_json::to_string(&analysis()).expect("JSON");
    fs::write(root.join("analysis.json"), analysis).expect("written");
    let found = retention();
    let means = found.means();
    let summary = json!({"event": "summary", "checkpoint": "runs/tiny-0", "means": means,
        "full": found.full, "subsets": found.subsets});
    fs::write(root.join("retention.json"), summary.to_string()).expect("written");
    let shards = format!("data.path='{}'", root.join("shards").display());
    let config = Config::load("tiny", &["data.source=shards".into(), shards]);
    let config = config.and_then(|config| config.to_toml()).expect("a configuration");
    fs::write(root.join("run.toml"), config).expect("written");
    fs::write(
        root.join("based.toml"),
        "base = \"tiny\"\n\n[train]\nsteps = 7\n\n[router]\npool = \"none\"\n",
    )
    .expect("written");
}

/// Text in every format, its shards and tokenizers.
fn text(root: &Path) {
    let folder = root.join("text");
    fs::create_dir_all(&folder).expect("a folder");
    let texts: Vec<String> = (0..60).map(shards::text).collect();
    let lines: String = texts.iter().map(|text| shards::json_line(text, "a")).collect();
    let ids: Vec<u8> = (0..600u32)
        .map(|id| if id % 37 == 36 { 256 } else { id % 256 })
        .flat_map(|id| (id as u16).to_le_bytes())
        .collect();
    let mut files = vec![
        ("x.jsonl", lines.clone().into_bytes()),
        ("x.jsonl.gz", shards::gzip(lines.as_bytes())),
        ("x.jsonl.zst", zstd::encode_all(lines.as_bytes(), 1).expect("compressed")),
        ("x.npy", ids),
        ("x.txt.gz", shards::gzip(texts[9].as_bytes())),
    ];
    if cfg!(feature = "parquet") {
        files.push(("x.parquet", shards::parquet(&texts, "a")));
    }
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("written");
    }
    for domain in ["a", "b"] {
        fs::create_dir_all(root.join("tree").join(domain)).expect("a folder");
        for file in 0..3 {
            let text: String = (0..9).map(|part| shards::text(part + file)).collect();
            fs::write(root.join(format!("tree/{domain}/{file}.txt")), text).expect("written");
        }
    }
    let inputs = discover(&[folder.join("x.jsonl")]).expect("inputs");
    let build = |out: &str, tokenizer: &Tokenizer| {
        shard::build::build(&root.join(out), &inputs, tokenizer, &shards::settings(), |_| {})
            .expect("shards");
    };
    build("shards", &Tokenizer::bytes());
    fs::create_dir_all(root.join("tokenizer")).expect("a folder");
    shards::small_tokenizer(&root.join("tokenizer"));
    let path = root.join("tokenizer/tokenizer.json");
    let tokenizer = Tokenizer::load(&path.to_string_lossy(), trainer::data::tokenizer::Eos::Usual);
    build("spelled", &tokenizer.expect("a tokenizer"));
    let request = |doc: u64, idx: usize, label: serde_json::Value| {
        let request = json!({"context": "2 + 2 =", "continuation": " 4", "stop_sequences": ["\n"],
            "generation_kwargs": {"max_gen_toks": 8}});
        let line = json!({"request_type": "loglikelihood", "doc_id": doc, "idx": idx, "label": label, "request": request});
        format!("{line}\n")
    };
    let requests =
        [request(0, 0, json!(1)), request(0, 1, json!(1)), request(1, 0, json!([["4"], ["four"]]))];
    fs::create_dir_all(root.join("requests")).expect("a folder");
    fs::write(root.join("requests/requests.jsonl"), requests.concat()).expect("written");
    let task = json!({"task_config": {"primary_metric": "acc_per_char"}});
    fs::write(root.join("requests/config.json"), task.to_string()).expect("written");
}

/// Models: in one file, in several, of other families, pruned.
fn models(root: &Path) {
    for (name, config) in [("model", model()), ("extended", extended())] {
        let mut model = Model::new(backend(), config, CAPACITY).expect("a model");
        model.initialise(3).expect("weights");
        hf::save(&root.join(name), &model).expect("written");
    }
    let keep = Some(vec![vec![0, 2, 4], vec![1, 2, 3]]);
    for (name, shard_bytes, keep) in [("several", 3000, None), ("pruned", 1 << 30, keep)] {
        let settings = Settings { family: Family::Emo, dtype: None, shard_bytes, keep };
        transfer(&root.join("model"), &root.join(name), &settings, |_| {}).expect("written");
    }
    for family in ["mixtral", "qwen3_moe"] {
        let config = json!({
            "model_type": family, "vocab_size": 32, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 6, "num_experts_per_tok": 3,
            "moe_intermediate_size": 8, "decoder_sparse_step": 2, "mlp_only_layers": [0], "rope_theta": 1e4,
            "rope_scaling": null, "eos_token_id": [3, 4], "max_position_embeddings": 64, "hidden_act": "silu",
        });
        fs::create_dir_all(root.join(family)).expect("a folder");
        fs::write(root.join(family).join("config.json"), config.to_string()).expect("written");
    }
}

/// A run with one checkpoint.
fn run(root: &Path) {
    let run = root.join("run");
    let checkpoints = run.join("checkpoints");
    fs::create_dir_all(&checkpoints).expect("a folder");
    let writer = folder::Writer::begin(&checkpoints, 1).expect("a checkpoint");
    for name in ["config.json", "model.safetensors"] {
        writer.file(name, &fs::read(root.join("model").join(name)).expect("a file")).expect("written");
    }
    let data = StreamPosition {
        next_batch: 1,
        corpus: 77,
        seed: 0,
        rows: 2,
        sequence: 64,
        predict_across_documents: false,
        routing: RoutingBoundary::EosCloses,
    };
    let state = state::State { step: 1, tokens: 128, carried: 0, data };
    writer.text(state::STATE, &state.to_json().expect("JSON")).expect("written");
    let config = Config::load("tiny", &[]).and_then(|config| config.to_toml()).expect("a configuration");
    writer.text(state::CONFIG, &config).expect("written");
    writer.finish().expect("written");

    let mut metrics = MetricsWriter::create(&run.join("metrics.jsonl")).expect("a file");
    let domain = DomainValid { bits_per_byte: 3.5, nats_per_token: 2.4, tokens: 100, bytes: 99 };
    for step in 1..=4 {
        let load = LoadSummary { max: 2.0, min: 0.5, entropy: 0.9 };
        let record = StepRecord {
            step,
            tokens: 128 * step,
            loss: 6.0 / step as f64,
            ce: 5.5,
            aux: [("load_balance".to_owned(), 0.01)].into(),
            lr: 0.001,
            grad_norm: 1.5,
            tokens_per_s: 1e4,
            flops_per_s: 1e9,
            peak_share: Some(0.3),
            elapsed_s: step as f64,
            expert_load: vec![load; 2],
        };
        metrics.append(&Record::Step(record)).expect("written");
        let domains = [("a".to_owned(), domain), ("b".to_owned(), domain)].into();
        let valid = ValidRecord { step, tokens: 128 * step, domains };
        metrics.append(&Record::Valid(valid)).expect("written");
    }
    let layers = (0..2).map(|layer| LayerRouting { layer, counts: vec![vec![5, 0, 3], vec![1, 2, 9]] });
    let routing = RoutingCounts { domains: vec!["a".into(), "b".into()], layers: layers.collect() };
    let pair = |name: &str| (name.to_owned(), "1".to_owned());
    let info = RunInfo {
        title: "a run".into(),
        config: vec![pair("train.steps")],
        environment: vec![pair("cores")],
    };
    for (name, text) in
        [("routing.json", serde_json::to_string(&routing)), ("run.json", serde_json::to_string(&info))]
    {
        fs::write(run.join(name), text.expect("JSON")).expect("written");
    }
}

/// Two domains, each in the subset that was chosen for it and in the other's.
fn retention() -> Retention {
    let domains = ["code", "law"];
    let full = |domain: &str| Full { domain: domain.to_owned(), bits_per_byte: 2.0 };
    let kept = |chosen_for: &str, domain: &str| Kept {
        method: Method::Layerwise,
        documents: 5,
        found: 5,
        kept: (3, 6),
        layers: vec![3, 3],
        chosen_for: chosen_for.to_owned(),
        domain: domain.to_owned(),
        bits_per_byte: 2.5,
        rise: 0.25,
    };
    let subsets = domains.iter().flat_map(|of| domains.iter().map(move |domain| kept(of, domain))).collect();
    Retention { full: domains.map(full).into(), subsets }
}

fn analysis() -> Analysis {
    let passage = |domain, document| Passage { domain, document, ids: vec![1, 2, 3] };
    let passages = vec![passage(0, 0), passage(0, 1), passage(1, 2), passage(1, 3)];
    let sample = Sample { domains: vec!["a".into(), "b".into()], passages };
    let tally = LayerTally {
        layer: 0,
        experts: 3,
        top_k: 2,
        always: 0,
        probability: vec![vec![3.0, 1.5, 1.5], vec![0.0, 3.0, 3.0]],
        slots: vec![vec![3, 2, 1], vec![3, 1, 2], vec![0, 3, 3], vec![0, 3, 3]],
        chosen: [[0, 1, 0, 2, 0, 1], [0, 2, 0, 1, 0, 2], [1, 2, 2, 1, 1, 2], [1, 2, 1, 2, 2, 1]].concat(),
        inputs: Vec::new(),
    };
    let domain = |name: &str| DomainSample { name: name.into(), documents: 2, tokens: 6 };
    let context = Context {
        domain: 1,
        cosine: 0.5,
        at: 1,
        pieces: vec!["an".into(), " expert".into()],
        experts: vec![vec![0, 2]],
    };
    let cluster = Cluster {
        name: "expert".into(),
        tokens: 4,
        domains: vec![1, 3],
        contexts: vec![context],
        ..Cluster::default()
    };
    Analysis {
        format: FORMAT.into(),
        model: "a model".into(),
        step: Some(4),
        sample: SampleSummary {
            text: "text".into(),
            sequence: 3,
            seed: 0,
            domains: vec![domain("a"), domain("b")],
        },
        layers: vec![LayerAnalysis::of(&tally, &sample, 0)],
        stability: vec![Stability { step: 2, with_last: vec![0.5], with_next: vec![0.5] }],
        load: Vec::new(),
        clusters: Some(Clusters { tokens: 4, clusters: vec![cluster], ..Clusters::default() }),
    }
}

/// The backend that small models compute on, made once.
pub fn one_core() -> Arc<emo::cpu::Cpu> {
    static CPU: std::sync::OnceLock<Arc<emo::cpu::Cpu>> = std::sync::OnceLock::new();
    Arc::clone(CPU.get_or_init(|| Arc::new(emo::cpu::Cpu::new(1).expect("a processor"))))
}

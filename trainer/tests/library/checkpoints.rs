//! Hugging Face checkpoints: written and read back, read by the safetensors crate, and refused with a clear error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use emo::ops::activation::Activation;
use emo::ops::router::{Score, SharedWeight};
use emo::oracle::Oracle;
use serde_json::{Value, json};
use trainer::checkpoint::safetensors::Reader;
use trainer::checkpoint::{Error, Family, hf};
use trainer::model::{
    Capacity, Dense, FeedForward, Inputs, Model, ModelConfig, Moe, NormPlacement, QkNorm, Smoothing,
};

const CAPACITY: Capacity =
    Capacity { tokens: 12, longest: 6, domains: 0, redundancy: false, backward: false };

fn load(folder: &Path) -> Result<Model<Oracle>, Error> {
    hf::load(folder, Arc::new(Oracle), CAPACITY)
}

fn logits(model: &mut Model<Oracle>) -> Vec<f64> {
    let ids = (0..12).map(|token| token % model.config().vocabulary as u32).collect();
    model.forward(&Inputs::rows(ids, 2, 6)).expect("a forward pass");
    model.logits(0..12).expect("logits")
}

fn plain() -> ModelConfig {
    ModelConfig {
        vocabulary: 13,
        width: 8,
        heads: 2,
        kv_heads: 2,
        head_dim: 4,
        rope_theta: 500_000.0,
        norm_eps: 1e-6,
        norm: NormPlacement::Pre,
        qk_norm: QkNorm::None,
        clip_qkv: None,
        tied_embeddings: false,
        max_positions: 6,
        pad_id: Some(1),
        eos_id: Some(0),
        bos_id: None,
        init_std: 0.02,
        feed_forward: vec![FeedForward::Moe(Moe::emo(4, 3, 1, 5)); 2],
    }
}

/// What no Hugging Face configuration can say.
fn extended() -> ModelConfig {
    let smoothing = Smoothing { width: 3, ahead: 0, learned: true, depthwise: true, renormalise: false };
    let moe = Moe {
        score: Score::Sigmoid,
        normalise: Some(2.0),
        temperature: 0.5,
        gate_bias: true,
        selection_bias: true,
        gated: false,
        activation: Activation::ReluSquared,
        smoothing: Some(smoothing),
        ..Moe::emo(4, 3, 2, 5)
    };
    let dense = Dense { hidden: 7, bias: true, activation: Activation::Silu };
    ModelConfig {
        kv_heads: 1,
        norm: NormPlacement::Post,
        qk_norm: QkNorm::PerHead,
        clip_qkv: Some(0.75),
        tied_embeddings: true,
        feed_forward: vec![FeedForward::Dense(dense), FeedForward::Moe(moe)],
        ..plain()
    }
}

fn initialised(config: ModelConfig) -> Model<Oracle> {
    let mut model = Model::new(Arc::new(Oracle), config, CAPACITY).expect("a model");
    model.initialise(5).expect("weights");
    // Stored as f32: only such values can come back exactly.
    let weights = model.get_parameters(0..model.layout().len()).expect("weights");
    let rounded: Vec<f64> = weights.iter().map(|&weight| f64::from(weight as f32)).collect();
    model.set_parameters(0, &rounded).expect("weights");
    model
}

fn saved(config: ModelConfig) -> (tempfile::TempDir, Model<Oracle>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut model = initialised(config);
    for ordinal in 0..2 {
        if let Some(bias) = model.selection_bias(ordinal).expect("a bias") {
            let values: Vec<f64> = (0..bias.len()).map(|e| 0.25 * e as f64 - 0.5).collect();
            model.set_selection_bias(ordinal, &values).expect("a bias");
        }
    }
    hf::save(folder.path(), &model).expect("written");
    (folder, model)
}

#[test]
fn a_model_comes_back_exactly() {
    for config in [plain(), extended()] {
        let (folder, mut model) = saved(config);
        let mut back = load(folder.path()).expect("read");
        assert_eq!(back.config(), model.config());
        assert_eq!(back.selection_bias(0).expect("a bias"), model.selection_bias(0).expect("a bias"));
        assert_eq!(logits(&mut back), logits(&mut model));
        let files: Vec<PathBuf> = std::fs::read_dir(folder.path())
            .expect("files")
            .map(|entry| entry.expect("file").path())
            .collect();
        assert_eq!(files.len(), 2, "no partial file stays: {files:?}");
    }
}

#[test]
fn the_safetensors_crate_reads_what_we_write() {
    let (folder, model) = saved(extended());
    let bytes = std::fs::read(folder.path().join("model.safetensors")).expect("a file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a valid file");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
    let metadata = header.metadata().clone().expect("metadata");
    assert_eq!(metadata.get("format").map(String::as_str), Some("pt"));
    let tensors = hf::tensors(model.config(), model.layout(), Family::Emo);
    assert_eq!(file.len(), tensors.len() + 1, "every tensor and one score-correction bias");
    for tensor in tensors {
        let found = file.tensor(&tensor.name).expect("the tensor");
        assert_eq!(found.shape(), tensor.shape);
        let expected: Vec<u8> = model
            .get_parameters(tensor.range)
            .expect("weights")
            .iter()
            .flat_map(|&weight| (weight as f32).to_le_bytes())
            .collect();
        assert_eq!(found.data(), expected, "{}", tensor.name);
    }
}

#[test]
fn every_parameter_has_one_name() {
    for config in [plain(), extended()] {
        let model = initialised(config);
        for family in [Family::Emo, Family::Mixtral] {
            let mut ranges: Vec<_> =
                hf::tensors(model.config(), model.layout(), family).into_iter().map(|t| t.range).collect();
            ranges.sort_by_key(|range| range.start);
            assert_eq!(ranges.first().map(|range| range.start), Some(0));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(ranges.last().map(|range| range.end), Some(model.layout().len()));
        }
    }
}

#[test]
fn configurations_are_written_as_the_hub_has_them() {
    for case in ["emo_shared1", "emo_densefirst"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/emo_hf").join(case);
        let path = path.join("config.json");
        let text = std::fs::read_to_string(path).expect("a configuration");
        let theirs: Value = serde_json::from_str(&text).expect("JSON");
        let (config, family) = hf::parse_config(&text).expect("a known configuration");
        assert_eq!(family, Family::Emo);
        let ours = hf::config_json(&config).expect("JSON");
        for (key, value) in theirs.as_object().expect("an object") {
            // The version is theirs; the release asks for router logits.
            if key != "transformers_version" && key != "output_router_logits" {
                assert_eq!(&ours[key], value, "{case}: {key}");
            }
        }
        assert_eq!(ours["auto_map"]["AutoModelForCausalLM"], "modeling_emo.EmoForCausalLM");
        assert_eq!(ours.get("emo_extra"), None);
    }
    let ours = hf::config_json(&extended()).expect("JSON");
    assert_eq!(ours.get("auto_map"), None, "their code would compute another function");
    assert!(ours["emo_extra"]["model"].is_object());
}

fn base(kind: &str) -> Value {
    json!({
        "model_type": kind, "vocab_size": 32, "hidden_size": 16, "intermediate_size": 12,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_experts": 6, "num_experts_per_tok": 3,
        "pad_token_id": null, "max_position_embeddings": 64,
    })
}

fn with(kind: &str, changes: Value) -> Result<(ModelConfig, Family), Error> {
    let mut config = base(kind);
    for (key, value) in changes.as_object().expect("an object") {
        config[key] = value.clone();
    }
    hf::parse_config(&config.to_string())
}

fn first_moe(config: &ModelConfig) -> &Moe {
    config.moe_layers().next().expect("experts").1
}

#[test]
fn the_families_differ_as_their_own_code_does() {
    let (flex, _) = with("flex_olmo", json!({"num_key_value_heads": 2})).expect("flex_olmo");
    assert_eq!((flex.norm, flex.qk_norm), (NormPlacement::Post, QkNorm::FullWidth));
    assert_eq!((flex.rope_theta, flex.norm_eps, flex.kv_heads), (500_000.0, 1e-6, 2));
    let (olmoe, _) = with("olmoe", json!({"clip_qkv": 0.1, "norm_topk_prob": true})).expect("olmoe");
    assert_eq!((olmoe.clip_qkv, olmoe.qk_norm, olmoe.norm_eps), (Some(0.1), QkNorm::FullWidth, 1e-5));
    assert_eq!(first_moe(&olmoe).normalise, Some(1.0));
    let (emo, _) = with("emo", json!({"num_shared_experts": 2})).expect("emo");
    assert_eq!(first_moe(&emo).shared_weight, SharedWeight::Softmax);
    let (emo, _) = with("emo", json!({"always_active_experts": [5, 0]})).expect("emo");
    assert_eq!((first_moe(&emo).always_active.clone(), first_moe(&emo).shared), (vec![5, 0], 0));
    let dense = json!({
        "num_experts_per_layer": [0, 5], "num_shared_experts": 1, "dense_intermediate_size": 20, "dense_mlp_bias": true
    });
    let (emo, _) = with("emo", dense).expect("emo");
    let expected = Dense { hidden: 20, bias: true, activation: Activation::Silu };
    assert_eq!(emo.feed_forward[0], FeedForward::Dense(expected));
    assert_eq!((first_moe(&emo).experts, first_moe(&emo).shared), (5, 1));
    let sparse = json!({"moe_intermediate_size": 8, "decoder_sparse_step": 2, "head_dim": 6});
    let (qwen, _) = with("qwen3_moe", sparse).expect("qwen3_moe");
    assert!(matches!(qwen.feed_forward[..], [FeedForward::Dense(_), FeedForward::Moe(_)]));
    assert_eq!((qwen.head_dim, qwen.qk_norm), (6, QkNorm::PerHead));
}

#[test]
fn settings_that_cannot_be_reproduced_are_refused_by_key() {
    for (kind, key, value) in [
        ("olmoe", "rope_scaling", json!({"rope_type": "linear", "factor": 2.0})),
        ("olmoe", "rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e4})),
        ("mixtral", "sliding_window", json!(16)),
        ("emo", "attention_bias", json!(true)),
        ("emo", "ghost_extend_eval", json!(true)),
        ("emo", "hidden_act", json!("mish")),
        ("emo", "hidden_size", json!("large")),
        ("emo", "num_experts_per_layer", json!([6])),
        ("emo", "always_active_experts", json!([-1])),
        ("emo", "model_type", json!("llama")),
    ] {
        let error = with(kind, json!({ key: value })).expect_err(key).to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
    let too_many = with("emo", json!({"num_experts_per_tok": 9})).expect_err("top_k").to_string();
    assert!(too_many.contains("top_k"), "{too_many}");
    let huge = with("emo", json!({"hidden_size": 1u64 << 62, "head_dim": 4}));
    assert!(huge.is_err());
}

/// Reads a broken copy of a good checkpoint.
fn broken(break_it: impl Fn(&Path)) -> String {
    let (folder, _) = saved(plain());
    break_it(folder.path());
    load(folder.path()).err().expect("an error").to_string()
}

fn rewrite(folder: &Path, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).expect("a file");
    std::fs::write(path, change(bytes)).expect("written");
}

#[test]
fn damaged_files_say_what_is_wrong() {
    let error = broken(|folder| std::fs::remove_file(folder.join("config.json")).expect("removed"));
    assert!(error.contains("config.json"), "{error}");
    let error = broken(|folder| std::fs::write(folder.join("config.json"), "{\"model").expect("written"));
    assert!(error.contains("not JSON"), "{error}");
    for length in [0, 7, 9, 200, 5000] {
        let error = broken(|folder| rewrite(folder, |bytes| bytes[..length].to_vec()));
        assert!(error.contains("safetensors") || error.contains("truncated"), "{length}: {error}");
    }
    let error = broken(|folder| rewrite(folder, |bytes| bytes[..bytes.len() - 4].to_vec()));
    assert!(error.contains("truncated"), "{error}");
    let error = broken(|folder| rewrite(folder, |_| b"PK\x03\x04 this is a zip file, not a model".to_vec()));
    assert!(error.contains("safetensors"), "{error}");
    let replaced = |from: &'static str, to: &'static str| {
        broken(move |folder| {
            rewrite(folder, |bytes| {
                let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
                let header = String::from_utf8(bytes[8..8 + length].to_vec()).expect("text");
                assert!(header.contains(from));
                [&bytes[..8], header.replace(from, to).as_bytes(), &bytes[8 + length..]].concat()
            })
        })
    };
    let error = replaced("layers.1.mlp.experts.3.up", "layers.1.mlp.experts.7.up");
    assert!(error.contains("layers.1.mlp.experts.3.up_proj.weight") && error.contains("nothing"), "{error}");
    let error = replaced("\"shape\":[8,5]", "\"shape\":[5,8]");
    assert!(error.contains("down_proj") && error.contains("[5, 8]") && error.contains("[8, 5]"), "{error}");
    let error = replaced("\"dtype\":\"F32\"", "\"dtype\":\"X32\"");
    assert!(error.contains("X32"), "{error}");
    let error = replaced("\"dtype\":\"F32\"", "\"dtype\":\"I32\"");
    assert!(error.contains("I32"), "{error}");
}

/// Headers made to mislead: each is refused, and none makes the reader take more memory than the file is long.
#[test]
fn hostile_headers_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hostile.safetensors");
    let refuse = |length: u64, header: &str, data: usize| {
        let bytes = [&length.to_le_bytes(), header.as_bytes(), &vec![0; data]].concat();
        std::fs::write(&path, bytes).expect("written");
        Reader::open(&path).err().unwrap_or_else(|| panic!("accepted {header}")).to_string()
    };
    for length in [u64::MAX, 1 << 63, 100_000_001, 3] {
        assert!(refuse(length, "{}", 0).contains("truncated or not a safetensors file"), "{length}");
    }
    let tensor = |shape: &str, offsets: &str| {
        format!("{{\"t\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    for (shape, offsets, data) in [
        ("[2]", "[0,4]", 4),
        ("[2]", "[4,12]", 12),
        ("[1]", "[8,4]", 8),
        ("[4611686018427387904,4]", "[0,0]", 0),
        ("[-1]", "[0,4]", 4),
        ("[1]", "[0,18446744073709551616]", 4),
        ("[4611686018427387903]", "[0,18446744073709551612]", 4),
        ("[1]", "[0,4]", 3),
        ("[1]", "[0,4]", 5),
    ] {
        let header = tensor(shape, offsets);
        let error = refuse(header.len() as u64, &header, data);
        assert!(error.contains("hostile.safetensors"), "{header}: {error}");
    }
    let overlap = format!(
        "{},\"u\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}}}",
        tensor("[2]", "[0,8]").trim_end_matches('}').to_owned() + "}"
    );
    assert!(refuse(overlap.len() as u64, &overlap, 8).contains("offset"), "{overlap}");
    let nested = "[".repeat(100_000);
    refuse(nested.len() as u64, &nested, 0);
}

#[test]
fn a_tensor_without_a_place_is_refused() {
    let (folder, _) = saved(plain());
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    config["num_hidden_layers"] = json!(1);
    std::fs::write(path, config.to_string()).expect("written");
    let error = load(folder.path()).err().expect("an error").to_string();
    assert!(error.contains("model.layers.1."), "{error}");
}

/// The same weights in bf16 and in two shards with an index, as large checkpoints come.
#[test]
fn shards_and_bf16_are_read() {
    let (folder, mut model) = saved(plain());
    let coarse: Vec<f64> = model
        .get_parameters(0..model.layout().len())
        .expect("weights")
        .iter()
        .map(|&weight| f64::from(f32::from_bits((weight as f32).to_bits() & 0xffff_0000)))
        .collect();
    model.set_parameters(0, &coarse).expect("weights");
    let mut shards: [Vec<(String, Vec<usize>, Vec<u8>)>; 2] = Default::default();
    let mut map = serde_json::Map::new();
    for (index, tensor) in hf::tensors(model.config(), model.layout(), Family::Emo).into_iter().enumerate() {
        let bytes = coarse[tensor.range.clone()]
            .iter()
            .flat_map(|&weight| (((weight as f32).to_bits() >> 16) as u16).to_le_bytes())
            .collect();
        map.insert(tensor.name.clone(), json!(format!("model-{}.safetensors", index % 2)));
        shards[index % 2].push((tensor.name, tensor.shape, bytes));
    }
    for (index, shard) in shards.iter().enumerate() {
        let views: Vec<_> = shard
            .iter()
            .map(|(name, shape, bytes)| {
                let view =
                    safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, shape.clone(), bytes);
                (name.clone(), view.expect("a view"))
            })
            .collect();
        let bytes = safetensors::serialize(views, None).expect("a file");
        std::fs::write(folder.path().join(format!("model-{index}.safetensors")), bytes).expect("written");
    }
    std::fs::remove_file(folder.path().join("model.safetensors")).expect("removed");
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, json!({ "weight_map": map }).to_string()).expect("written");
    let mut back = load(folder.path()).expect("read");
    assert_eq!(logits(&mut back), logits(&mut model));

    std::fs::write(&index, json!({"weight_map": {"a": "../secret"}}).to_string()).expect("written");
    assert!(load(folder.path()).err().expect("an error").to_string().contains("same folder"));
    std::fs::remove_file(folder.path().join("model-1.safetensors")).expect("removed");
    std::fs::write(&index, json!({ "weight_map": map }).to_string()).expect("written");
    assert!(load(folder.path()).err().expect("an error").to_string().contains("model-1.safetensors"));
}

#[test]
fn what_cannot_be_written_leaves_the_old_file() {
    let (folder, model) = saved(plain());
    let before = std::fs::read(folder.path().join("model.safetensors")).expect("a file");
    // A folder in the way of the partial file stands for any failure to write.
    std::fs::create_dir(folder.path().join("model.safetensors.partial")).expect("a folder");
    let error = hf::save(folder.path(), &model).expect_err("an error").to_string();
    assert!(error.contains("model.safetensors"), "{error}");
    assert_eq!(std::fs::read(folder.path().join("model.safetensors")).expect("a file"), before);
}

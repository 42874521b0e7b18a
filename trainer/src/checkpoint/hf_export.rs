//! `config.json` for the other families: what a model of ours looks like to them, or which of its settings they lack.

use serde_json::{Value, json};

use super::hf_config::{Family, read, untrained, write};
use super::{Error, Result};
use crate::model::{FeedForward, ModelConfig};

/// The configuration of a model in the words of `family`.
///
/// # Errors
/// [`Error::Config`] names a setting that the family's own code would read differently.
pub(crate) fn config_json(config: &ModelConfig, family: Family) -> Result<Value> {
    let mut json = write(config)?;
    if family == Family::Emo {
        return Ok(json);
    }
    let name = family.name();
    let class = match family {
        Family::Emo => "EmoForCausalLM",
        Family::Olmoe => "OlmoeForCausalLM",
        Family::FlexOlmo => "FlexOlmoForCausalLM",
        Family::Mixtral => "MixtralForCausalLM",
        Family::Qwen3Moe => "Qwen3MoeForCausalLM",
    };
    let moe = config.moe_layers().next().map(|(_, moe)| moe.hidden);
    let dense_layers: Vec<usize> =
        (0..config.layers()).filter(|&l| matches!(config.feed_forward[l], FeedForward::Dense(_))).collect();
    let Some(map) = json.as_object_mut() else { return Ok(json) };
    // Words of `emo` alone.
    for key in [
        "auto_map",
        "emo_extra",
        "num_shared_experts",
        "num_experts_per_layer",
        "num_shared_experts_per_layer",
        "always_active_experts",
        "always_active_experts_per_layer",
        "dense_intermediate_size",
        "dense_mlp_bias",
    ] {
        map.remove(key);
    }
    map.insert("model_type".into(), json!(name));
    map.insert("architectures".into(), json!([class]));
    match family {
        Family::Olmoe => {
            map.insert("clip_qkv".into(), json!(config.clip_qkv));
        }
        Family::Mixtral => {
            let experts = map.remove("num_experts");
            map.insert("num_local_experts".into(), experts.unwrap_or_default());
            map.insert("sliding_window".into(), Value::Null);
        }
        Family::Qwen3Moe => {
            let dense = config.feed_forward.iter().find_map(|kind| match kind {
                FeedForward::Dense(dense) => Some(dense.hidden),
                FeedForward::Moe(_) => None,
            });
            map.insert("head_dim".into(), json!(config.head_dim));
            map.insert("moe_intermediate_size".into(), json!(moe));
            map.insert("intermediate_size".into(), json!(dense.or(moe)));
            map.insert("mlp_only_layers".into(), json!(dense_layers));
            map.insert("decoder_sparse_step".into(), json!(1));
            map.insert("use_sliding_window".into(), json!(false));
        }
        Family::Emo | Family::FlexOlmo => {}
    }
    // What this file says must be this model, neither more nor less; where experts come from is said beside it.
    let origin = ["kept_experts", "original_num_experts"].map(|key| (key, map.remove(key)));
    let (back, _) = read(&json)?;
    match first_difference(&untrained(config), &untrained(&back)) {
        None => {
            origin.into_iter().for_each(|(key, value)| {
                if let Some(value) = value {
                    json[key] = value;
                }
            });
            Ok(json)
        }
        Some((setting, ours, theirs)) => Err(Error::config(
            &setting,
            format!("is {ours} in this model; `{name}` knows only {theirs}. Export it as `emo`"),
        )),
    }
}

/// The first setting in which two models differ: its path and both values.
pub(crate) fn first_difference(a: &ModelConfig, b: &ModelConfig) -> Option<(String, String, String)> {
    let json = |config| serde_json::to_value(config).unwrap_or_default();
    difference(&json(a), &json(b))
}

/// The first leaf in which two configurations differ: its path and both values.
fn difference(a: &Value, b: &Value) -> Option<(String, String, String)> {
    if a == b {
        return None;
    }
    let below = |key: String, a: &Value, b: &Value| {
        difference(a, b)
            .map(|(path, a, b)| (if path.is_empty() { key } else { format!("{key}.{path}") }, a, b))
    };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().find_map(|(key, value)| below(key.clone(), value, b.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(at, (a, b))| below(at.to_string(), a, b))
        }
        _ => Some((String::new(), a.to_string(), b.to_string())),
    }
}

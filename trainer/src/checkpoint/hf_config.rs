//! `config.json` of the Hugging Face families, read into and written from a [`ModelConfig`].

use emo::ops::activation::Activation;
use emo::ops::router::SharedWeight;
use serde_json::{Map, Value, json};

use super::{Error, Result};
use crate::model::{Dense, FeedForward, Kept, ModelConfig, Moe, NormPlacement, QkNorm};

/// A model family of the Hugging Face hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Ai2's EMO: pre-norm, no QK-norm, shared experts (emo.md 8.1).
    Emo,
    /// OLMoE: pre-norm, QK-norm over the full width.
    Olmoe,
    /// FlexOlmo: post-norm, QK-norm over the full width.
    FlexOlmo,
    /// Mixtral: top-k renormalised.
    Mixtral,
    /// Qwen3 MoE: QK-norm per head, some layers dense.
    Qwen3Moe,
}

/// What a family's own configuration class assumes where a key is missing.
struct Defaults {
    theta: f64,
    eps: f64,
    pad: Option<u32>,
}

impl Family {
    const ALL: [Self; 5] = [Self::Emo, Self::Olmoe, Self::FlexOlmo, Self::Mixtral, Self::Qwen3Moe];

    /// The `model_type` of its configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Emo => "emo",
            Self::Olmoe => "olmoe",
            Self::FlexOlmo => "flex_olmo",
            Self::Mixtral => "mixtral",
            Self::Qwen3Moe => "qwen3_moe",
        }
    }

    fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::config("model_type", format!("is \"{name}\"; this program reads {known}"))
        })
    }

    fn defaults(self) -> Defaults {
        let (theta, eps, pad) = match self {
            Self::Emo | Self::FlexOlmo => (500_000.0, 1e-6, Some(100_277)),
            Self::Olmoe => (10_000.0, 1e-5, Some(1)),
            Self::Mixtral => (1_000_000.0, 1e-5, None),
            Self::Qwen3Moe => (10_000.0, 1e-6, None),
        };
        Defaults { theta, eps, pad }
    }
}

/// Keys of a configuration, with errors that name them.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    /// The value, where it is there and not null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(&self, key: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        self.get(key)
            .map(|value| {
                read(value).ok_or_else(|| Error::config(key, format!("must be {what}, found {value}")))
            })
            .transpose()
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number", |value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| Error::config(key, "is missing"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str) -> Result<bool> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    fn sizes(&self, key: &str) -> Result<Option<Vec<usize>>> {
        self.typed(key, "a list of whole numbers", list)
    }

    /// A token id; a missing key takes the default, null is none, of a list the first.
    fn token(&self, key: &str, default: Option<u32>) -> Result<Option<u32>> {
        if !self.0.contains_key(key) {
            return Ok(default);
        }
        self.typed(key, "a token id", |value| {
            let first = value.as_array().map_or(Some(value), |ids| ids.first())?;
            first.as_u64().and_then(|id| u32::try_from(id).ok())
        })
    }

    fn refuse(&self, key: &str, why: &str) -> Result<()> {
        let value = self.get(key).map(Value::to_string).unwrap_or_default();
        Err(Error::config(key, format!("is {value}: {why}")))
    }
}

fn list(value: &Value) -> Option<Vec<usize>> {
    let entry = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    value.as_array()?.iter().map(entry).collect()
}

/// Reads a configuration; a setting that the model cannot reproduce is an error that names its key.
pub(crate) fn read(json: &Value) -> Result<(ModelConfig, Family)> {
    let map = json.as_object().ok_or_else(|| Error::config("", "the file must hold a JSON object"))?;
    let keys = Keys(map);
    let family = keys
        .typed("model_type", "a string", |value| value.as_str().map(str::to_owned))?
        .ok_or_else(|| Error::config("model_type", "is missing"))?;
    let family = Family::parse(&family)?;
    let plain = read_plain(&keys, family)?;
    let Some(extra) = keys.get("emo_extra") else {
        plain.validate()?;
        return Ok((plain, family));
    };
    let model = extra.get("model").cloned().unwrap_or(Value::Null);
    let config: ModelConfig =
        serde_json::from_value(model).map_err(|error| Error::config("emo_extra.model", error))?;
    config.validate()?;
    let sizes = |c: &ModelConfig| (c.vocabulary, c.width, c.layers(), c.heads, c.kv_heads);
    if sizes(&config) != sizes(&plain) {
        let message = "contradicts the keys beside it (vocabulary, width, layers or heads)";
        return Err(Error::config("emo_extra.model", message));
    }
    Ok((config, family))
}

fn read_plain(keys: &Keys<'_>, family: Family) -> Result<ModelConfig> {
    let defaults = family.defaults();
    refuse_unsupported(keys)?;
    let width = keys.required("hidden_size")?;
    let heads = keys.required("num_attention_heads")?;
    let head_dim = match keys.size("head_dim")? {
        Some(size) => size,
        None if heads > 0 && width.is_multiple_of(heads) => width / heads,
        None => return Err(Error::config("num_attention_heads", "must divide hidden_size")),
    };
    let mut feed_forward = feed_forward(keys, family)?;
    read_kept(keys, &mut feed_forward)?;
    Ok(ModelConfig {
        vocabulary: keys.required("vocab_size")?,
        width,
        heads,
        kv_heads: keys.size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        rope_theta: rope_theta(keys, defaults.theta)?,
        norm_eps: keys.number("rms_norm_eps")?.unwrap_or(defaults.eps),
        norm: if family == Family::FlexOlmo { NormPlacement::Post } else { NormPlacement::Pre },
        qk_norm: match family {
            Family::Emo | Family::Mixtral => QkNorm::None,
            Family::Olmoe | Family::FlexOlmo => QkNorm::FullWidth,
            Family::Qwen3Moe => QkNorm::PerHead,
        },
        clip_qkv: if family == Family::Olmoe { keys.number("clip_qkv")? } else { None },
        tied_embeddings: keys.flag("tie_word_embeddings")?,
        max_positions: keys.size("max_position_embeddings")?.unwrap_or(4096),
        pad_id: keys.token("pad_token_id", defaults.pad)?,
        eos_id: keys.token("eos_token_id", None)?,
        bos_id: keys.token("bos_token_id", None)?,
        init_std: keys.number("initializer_range")?.unwrap_or(0.02),
        feed_forward,
    })
}

fn refuse_unsupported(keys: &Keys<'_>) -> Result<()> {
    for key in ["attention_bias", "ghost_extend_eval", "mlp_bias"] {
        if keys.flag(key)? {
            keys.refuse(key, "not supported")?;
        }
    }
    for key in ["attention_dropout", "router_jitter_noise"] {
        if keys.number(key)?.unwrap_or(0.0) != 0.0 {
            keys.refuse(key, "only 0 is supported")?;
        }
    }
    let uses_window = keys.0.get("use_sliding_window").is_none_or(|value| value != &Value::Bool(false));
    let longest = keys.size("max_position_embeddings")?.unwrap_or(usize::MAX);
    if uses_window && keys.size("sliding_window")?.is_some_and(|window| window < longest) {
        keys.refuse("sliding_window", "attention windows are not supported")?;
    }
    Ok(())
}

/// Theta from `rope_theta` (transformers 4) or `rope_parameters` (5); scaled rotations are refused.
fn rope_theta(keys: &Keys<'_>, default: f64) -> Result<f64> {
    let mut theta = keys.number("rope_theta")?;
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = keys.get(key) else { continue };
        let rope = Keys(rope.as_object().ok_or_else(|| Error::config(key, "must be an object"))?);
        for kind in ["rope_type", "type"] {
            if rope.get(kind).is_some_and(|kind| kind != "default") {
                keys.refuse(key, "only the default rotation is supported")?;
            }
        }
        if rope.number("partial_rotary_factor")?.unwrap_or(1.0) != 1.0 {
            keys.refuse(key, "partial rotation is not supported")?;
        }
        theta = rope.number("rope_theta")?.or(theta);
    }
    Ok(theta.unwrap_or(default))
}

fn activation(keys: &Keys<'_>) -> Result<Activation> {
    match keys.get("hidden_act").map_or(Some("silu"), Value::as_str) {
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu") => Ok(Activation::Gelu),
        Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
        Some("relu") => Ok(Activation::Relu),
        Some("relu2") => Ok(Activation::ReluSquared),
        _ => {
            keys.refuse("hidden_act", "must be silu, gelu, gelu_new, gelu_pytorch_tanh, relu or relu2")?;
            Ok(Activation::Silu)
        }
    }
}

fn feed_forward(keys: &Keys<'_>, family: Family) -> Result<Vec<FeedForward>> {
    let layers = keys.required("num_hidden_layers")?;
    if layers > 1 << 16 {
        keys.refuse("num_hidden_layers", "more than 65536 layers")?;
    }
    let activation = activation(keys)?;
    let experts = match keys.size("num_experts")? {
        Some(experts) => experts,
        None => keys.required("num_local_experts")?,
    };
    let top_k = keys.required("num_experts_per_tok")?;
    let renormalise = family == Family::Mixtral || keys.flag("norm_topk_prob")?;
    let moe = |experts: usize, shared: usize, hidden: usize| Moe {
        activation,
        normalise: renormalise.then_some(1.0),
        ..Moe::emo(experts, top_k, shared, hidden)
    };
    let width = keys.required("intermediate_size")?;
    match family {
        Family::Emo => emo_layers(keys, layers, experts, activation, &|e, s| moe(e, s, width)),
        Family::Qwen3Moe => {
            let hidden = keys.required("moe_intermediate_size")?;
            let dense = keys.sizes("mlp_only_layers")?.unwrap_or_default();
            let step = keys.size("decoder_sparse_step")?.unwrap_or(1).max(1);
            let is_moe = |layer: usize| !dense.contains(&layer) && (layer + 1).is_multiple_of(step);
            Ok((0..layers)
                .map(|layer| {
                    if experts > 0 && is_moe(layer) {
                        FeedForward::Moe(moe(experts, 0, hidden))
                    } else {
                        FeedForward::Dense(Dense { hidden: width, bias: false, activation })
                    }
                })
                .collect())
        }
        Family::Olmoe | Family::FlexOlmo | Family::Mixtral => {
            Ok(vec![FeedForward::Moe(moe(experts, 0, width)); layers])
        }
    }
}

/// Where a pruned model's experts come from: `kept_experts` lists for each layer with experts the original index of each
/// routed expert; `original_num_experts` is the number they were taken from, shared ones included, for all layers or a list.
fn read_kept(keys: &Keys<'_>, feed_forward: &mut [FeedForward]) -> Result<()> {
    let moes = feed_forward.iter_mut().filter_map(|kind| match kind {
        FeedForward::Moe(moe) => Some(moe),
        FeedForward::Dense(_) => None,
    });
    let moes: Vec<&mut Moe> = moes.collect();
    let (kept, original) = ("kept_experts", "original_num_experts");
    let lists = keys.typed(kept, "a list of lists of whole numbers", |value| {
        value.as_array()?.iter().map(list).collect::<Option<Vec<_>>>()
    })?;
    let totals = keys.typed(original, "a whole number or a list of them", |value| {
        let all = value.as_u64().and_then(|n| usize::try_from(n).ok()).map(|n| vec![n; moes.len()]);
        all.or_else(|| list(value))
    })?;
    let (lists, totals) = match (lists, totals) {
        (None, None) => return Ok(()),
        (Some(lists), Some(totals)) => (lists, totals),
        (None, Some(_)) => return Err(Error::config(kept, format!("is missing beside `{original}`"))),
        (Some(_), None) => return Err(Error::config(original, format!("is missing beside `{kept}`"))),
    };
    for (key, found) in [(kept, lists.len()), (original, totals.len())] {
        if found != moes.len() {
            return Err(Error::config(key, format!("must have {} entries, found {found}", moes.len())));
        }
    }
    for (moe, (list, total)) in moes.into_iter().zip(lists.into_iter().zip(totals)) {
        let experts = list.iter().map(|&expert| u32::try_from(expert).unwrap_or(u32::MAX)).collect();
        moe.kept = Some(Kept { of: total.saturating_sub(moe.shared), experts });
    }
    Ok(())
}

/// EMO's layers: counts for all or for each layer, 0 experts = dense.
fn emo_layers(
    keys: &Keys<'_>,
    layers: usize,
    experts: usize,
    activation: Activation,
    moe: &dyn Fn(usize, usize) -> Moe,
) -> Result<Vec<FeedForward>> {
    let per_layer = |key: &str, default: Vec<usize>| -> Result<Vec<usize>> {
        let sizes = keys.sizes(key)?.unwrap_or(default);
        if sizes.len() == layers {
            return Ok(sizes);
        }
        Err(Error::config(key, format!("must have {layers} entries, found {}", sizes.len())))
    };
    let experts = per_layer("num_experts_per_layer", vec![experts; layers])?;
    let shared = keys.size("num_shared_experts")?.unwrap_or(0);
    let shared = per_layer("num_shared_experts_per_layer", experts.iter().map(|&e| shared.min(e)).collect())?;
    let key = "always_active_experts_per_layer";
    let always = match keys.get(key).and_then(Value::as_array) {
        Some(lists) => lists
            .iter()
            .map(|value| list(value).ok_or_else(|| Error::config(key, "must be a list of lists")))
            .collect::<Result<Vec<_>>>()?,
        None => vec![keys.sizes("always_active_experts")?.unwrap_or_default(); layers],
    };
    if always.len() != layers {
        return Err(Error::config(key, format!("must have {layers} entries, found {}", always.len())));
    }
    let layer = |index: usize| -> Result<FeedForward> {
        if experts[index] == 0 {
            let hidden = keys.required("dense_intermediate_size")?;
            let bias = keys.flag("dense_mlp_bias")?;
            return Ok(FeedForward::Dense(Dense { hidden, bias, activation }));
        }
        // Always-active experts come with a softmax over all experts, shared ones included (modeling_emo.py).
        let shared = if always[index].is_empty() { shared[index] } else { 0 };
        let moe = moe(experts[index], shared);
        if moe.normalise.is_some() && (shared > 0 || !always[index].is_empty()) {
            keys.refuse("norm_topk_prob", "not defined together with shared or always-active experts")?;
        }
        let shared_weight = if shared > 1 { SharedWeight::Softmax } else { SharedWeight::One };
        let always_active = always[index].iter().map(|&expert| expert as u32).collect();
        Ok(FeedForward::Moe(Moe { shared_weight, always_active, ..moe }))
    };
    (0..layers).map(layer).collect()
}

/// Writes an `emo` configuration. What the family's own code cannot express goes under `emo_extra`, and a model that
/// this code would compute differently is not pointed at it.
pub(crate) fn write(config: &ModelConfig) -> Result<Value> {
    let mut json = plain(config);
    let back = json.as_object().map(|map| read_plain(&Keys(map), Family::Emo));
    let represented = matches!(&back, Some(Ok(back)) if back == config);
    let same_function = matches!(back, Some(Ok(back)) if untrained(&back) == untrained(config));
    let Some(map) = json.as_object_mut() else { return Ok(json) };
    if same_function {
        map.insert(
            "auto_map".into(),
            json!({
                "AutoConfig": "configuration_emo.EmoConfig",
                "AutoModelForCausalLM": "modeling_emo.EmoForCausalLM",
            }),
        );
    }
    if !represented {
        let model = serde_json::to_value(config).map_err(|error| Error::config("emo_extra", error))?;
        map.insert("emo_extra".into(), json!({ "model": model }));
    }
    Ok(json)
}

/// Without what is no part of the function: what only training uses, and where experts come from.
pub(super) fn untrained(config: &ModelConfig) -> ModelConfig {
    let mut config = config.clone();
    for kind in &mut config.feed_forward {
        if let FeedForward::Moe(moe) = kind {
            moe.forced = 0;
            moe.kept = None;
        }
    }
    config
}

fn plain(config: &ModelConfig) -> Value {
    let moes: Vec<Option<&Moe>> = config
        .feed_forward
        .iter()
        .map(|kind| match kind {
            FeedForward::Moe(moe) => Some(moe),
            FeedForward::Dense(_) => None,
        })
        .collect();
    let dense = config.feed_forward.iter().find_map(|kind| match kind {
        FeedForward::Dense(dense) => Some(dense),
        FeedForward::Moe(_) => None,
    });
    let first = moes.iter().flatten().next();
    let each = |value: &dyn Fn(&Moe) -> Value, dense: Value| -> Vec<Value> {
        moes.iter().map(|moe| moe.map_or(dense.clone(), value)).collect()
    };
    // One value where all layers agree, else null and a list.
    let uniform = |values: &[Value]| values.windows(2).all(|pair| pair[0] == pair[1]);
    let spread = |values: Vec<Value>| if uniform(&values) { Value::Null } else { Value::Array(values) };
    let experts = each(&|moe| json!(moe.experts), json!(0));
    let shared = each(&|moe| json!(moe.shared), json!(first.map_or(0, |moe| moe.shared)));
    let always = each(&|moe| json!(moe.always_active), json!([]));
    let shared_always = first.filter(|moe| !moe.always_active.is_empty() && uniform(&always));
    let act = match first.map_or_else(|| dense.map(|dense| dense.activation), |moe| Some(moe.activation)) {
        None | Some(Activation::Silu) => "silu",
        Some(Activation::Gelu) => "gelu",
        Some(Activation::GeluTanh) => "gelu_pytorch_tanh",
        Some(Activation::Relu) => "relu",
        Some(Activation::ReluSquared) => "relu2",
    };
    let mut json = json!({
        "model_type": "emo",
        "architectures": ["EmoForCausalLM"],
        "dtype": "float32",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": first.map_or(0, |moe| moe.hidden),
        "num_hidden_layers": config.layers(),
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "hidden_act": act,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": null,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "initializer_range": config.init_std,
        "use_cache": true,
        "tie_word_embeddings": config.tied_embeddings,
        "pad_token_id": config.pad_id,
        "bos_token_id": config.bos_id,
        "eos_token_id": config.eos_id,
        "num_experts": moes.iter().flatten().map(|moe| moe.experts).max().unwrap_or(0),
        "num_experts_per_tok": moes.iter().flatten().map(|moe| moe.top_k).max().unwrap_or(0),
        "num_shared_experts": first.map_or(0, |moe| moe.shared),
        // Not defined together with shared or always-active experts.
        "norm_topk_prob": first.is_some_and(|moe| {
            moe.normalise == Some(1.0) && moe.shared == 0 && moe.always_active.is_empty()
        }),
        "output_router_logits": true,
        "router_aux_loss_coef": 0.01,
        "num_experts_per_layer": spread(experts),
        "num_shared_experts_per_layer": spread(shared),
        "always_active_experts": shared_always.map(|moe| &moe.always_active),
        "always_active_experts_per_layer": spread(always),
        "dense_intermediate_size": dense.map(|dense| dense.hidden),
        "dense_mlp_bias": dense.is_some_and(|dense| dense.bias),
    });
    let kept: Option<Vec<&Kept>> = moes.iter().flatten().map(|moe| moe.kept.as_ref()).collect();
    if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
        let of = moes.iter().flatten().zip(&kept).map(|(moe, kept)| json!(kept.of + moe.shared));
        let of: Vec<Value> = of.collect();
        json["kept_experts"] = kept.iter().map(|kept| json!(kept.experts)).collect();
        json["original_num_experts"] = if uniform(&of) { of[0].clone() } else { json!(of) };
    }
    if config.width != config.heads * config.head_dim {
        json["head_dim"] = json!(config.head_dim);
    }
    json
}

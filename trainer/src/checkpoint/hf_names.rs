//! Names of the Hugging Face tensors, each a contiguous part of the parameter arena: import, export and gradients by
//! name are slicing only.

use std::ops::Range;

use super::Family;
use crate::model::{FeedForward, FeedForwardLayout, Layout, ModelConfig, NormPlacement};

/// A tensor of a Hugging Face checkpoint and where it lies in the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HfTensor {
    /// Name in the checkpoint.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Elements in the arena.
    pub range: Range<usize>,
}

struct Names {
    tensors: Vec<HfTensor>,
}

impl Names {
    fn add(&mut self, name: String, shape: &[usize], start: usize) {
        let len: usize = shape.iter().product();
        self.tensors.push(HfTensor { name, shape: shape.to_vec(), range: start..start + len });
    }

    /// Cuts `range` into consecutive tensors.
    fn split<'a>(&mut self, range: &Range<usize>, parts: impl IntoIterator<Item = (String, &'a [usize])>) {
        let mut start = range.start;
        for (name, shape) in parts {
            self.add(name, shape, start);
            start += shape.iter().product::<usize>();
        }
    }
}

/// Every tensor of a checkpoint of this family. Names of features that a family's own code does not have follow the
/// families that do.
pub(crate) fn tensors(config: &ModelConfig, layout: &Layout, family: Family) -> Vec<HfTensor> {
    let d = config.width;
    let mut names = Names { tensors: Vec::new() };
    names.add("model.embed_tokens.weight".into(), &[config.vocabulary, d], layout.embedding.start);
    let (attention_norm, feed_forward_norm) = match (config.norm, family) {
        (NormPlacement::Post, _) => ("post_attention_layernorm", "post_feedforward_layernorm"),
        (NormPlacement::Pre, Family::Emo) => ("pre_attention_layernorm", "pre_feedforward_layernorm"),
        (NormPlacement::Pre, _) => ("input_layernorm", "post_attention_layernorm"),
    };
    for (index, (layer, kind)) in layout.layers.iter().zip(&config.feed_forward).enumerate() {
        let name = |part: &str| format!("model.layers.{index}.{part}.weight");
        let (query, key) = (config.query_width(), config.key_width());
        names.add(name(attention_norm), &[d], layer.attention_norm.start);
        names.split(
            &layer.qkv,
            [("q", query), ("k", key), ("v", key)]
                .map(|(part, rows)| (name(&format!("self_attn.{part}_proj")), [rows, d]))
                .iter()
                .map(|(name, shape)| (name.clone(), &shape[..])),
        );
        for (part, range) in [("q", &layer.q_norm), ("k", &layer.k_norm)] {
            if let Some(range) = range {
                names.add(name(&format!("self_attn.{part}_norm")), &[range.len()], range.start);
            }
        }
        names.add(name("self_attn.o_proj"), &[d, query], layer.output.start);
        names.add(name(feed_forward_norm), &[d], layer.feed_forward_norm.start);
        feed_forward(&mut names, index, d, kind, &layer.feed_forward, family);
    }
    names.add("model.norm.weight".into(), &[d], layout.final_norm.start);
    if !config.tied_embeddings {
        names.add("lm_head.weight".into(), &[config.vocabulary, d], layout.head.start);
    }
    names.tensors
}

fn feed_forward(
    names: &mut Names,
    index: usize,
    d: usize,
    kind: &FeedForward,
    layout: &FeedForwardLayout,
    family: Family,
) {
    match (kind, layout) {
        (FeedForward::Moe(moe), FeedForwardLayout::Moe { router, bias, taps, w_in, w_out }) => {
            let (block, [gate, up, down]) = match family {
                Family::Mixtral => ("block_sparse_moe", ["w1", "w3", "w2"]),
                _ => ("mlp", ["gate_proj", "up_proj", "down_proj"]),
            };
            let prefix = format!("model.layers.{index}.{block}");
            names.add(format!("{prefix}.gate.weight"), &[moe.experts, d], router.start);
            if let Some(bias) = bias {
                names.add(format!("{prefix}.gate.bias"), &[moe.experts], bias.start);
            }
            if let (Some(taps), Some(smoothing)) = (taps, moe.smoothing) {
                let shape = [moe.taps() / smoothing.width, smoothing.width];
                names.add(format!("{prefix}.gate.smoothing_taps"), &shape, taps.start);
            }
            for expert in 0..moe.experts {
                let name = |part: &str| format!("{prefix}.experts.{expert}.{part}.weight");
                let rows = [moe.hidden, d];
                let start = w_in.start + expert * moe.pre() * d;
                let parts = if moe.gated { vec![gate, up] } else { vec![up] };
                names.split(&(start..start), parts.into_iter().map(|part| (name(part), &rows[..])));
                names.add(name(down), &[d, moe.hidden], w_out.start + expert * d * moe.hidden);
            }
        }
        (FeedForward::Dense(dense), FeedForwardLayout::Dense { w_in, bias_in, w_out, bias_out }) => {
            let name = |part: &str| format!("model.layers.{index}.mlp.{part}");
            let (rows, width) = ([dense.hidden, d], [dense.hidden]);
            let inputs = ["gate_proj", "up_proj"];
            names.split(w_in, inputs.map(|part| (name(&format!("{part}.weight")), &rows[..])));
            names.add(name("down_proj.weight"), &[d, dense.hidden], w_out.start);
            if let (Some(bias_in), Some(bias_out)) = (bias_in, bias_out) {
                names.split(bias_in, inputs.map(|part| (name(&format!("{part}.bias")), &width[..])));
                names.add(name("down_proj.bias"), &[d], bias_out.start);
            }
        }
        // The layout was made from this configuration.
        _ => {}
    }
}

/// Name of the score-correction bias of a layer.
pub(crate) fn selection_bias(layer: usize) -> String {
    format!("model.layers.{layer}.mlp.gate.e_score_correction_bias")
}

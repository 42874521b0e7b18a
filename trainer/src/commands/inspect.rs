//! `trainer inspect`: what a checkpoint, a run or a folder of shards holds.

use std::path::Path;

use serde_json::{Value, json};

use crate::checkpoint::state::{STATE, State};
use crate::checkpoint::{Family, folder, hf};
use crate::cli::Inspect;
use crate::data::shard::Manifest;
use crate::error::{Error, Result};
use crate::model::{FeedForward, Layout, Tensor};
use crate::output::out;
use crate::progress::si;

/// Prints what is there.
pub fn run(args: &Inspect) -> Result<()> {
    let path = &args.path;
    let value = if path.join("config.json").exists() || path.join("checkpoints").exists() {
        checkpoint(&folder::find(path)?, args.tensors)?
    } else if path.join(crate::data::shard::manifest::MANIFEST).exists() {
        shards(path)?
    } else {
        return Err(Error::Usage(format!(
            "{} is no checkpoint (config.json), no run (checkpoints/) and no folder of shards (manifest.json)",
            path.display()
        )));
    };
    if args.json {
        out!("{value}");
    } else {
        print(&value, 0);
    }
    Ok(())
}

fn checkpoint(path: &Path, tensors: bool) -> Result<Value> {
    let (config, family) = hf::read_config(path)?;
    let layout = Layout::new(&config)?;
    let layers: Vec<String> = config
        .feed_forward
        .iter()
        .map(|kind| match kind {
            FeedForward::Moe(moe) => format!(
                "{} experts of width {}, top {}{}{}{}",
                moe.experts,
                moe.hidden,
                moe.top_k,
                if moe.shared > 0 { format!(", {} shared", moe.shared) } else { String::new() },
                if moe.smoothing.is_some() { ", smoothed" } else { "" },
                moe.kept.as_ref().map_or(String::new(), |kept| format!(", kept of {}", kept.of + moe.shared)),
            ),
            FeedForward::Dense(dense) => format!("dense of width {}", dense.hidden),
        })
        .collect();
    let mut value = json!({
        "checkpoint": path,
        "family": family.name(),
        "parameters": layout.len(),
        "active_parameters": layout.active(&config),
        "vocabulary": config.vocabulary,
        "width": config.width,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "positions": config.max_positions,
        "end_of_document": config.eos_id,
        "layers": layers,
    });
    if path.join(STATE).exists() {
        let state = State::read(path)?;
        value["step"] = json!(state.step);
        value["tokens"] = json!(state.tokens);
    }
    if path.join(folder::MANIFEST).exists() {
        value["files"] = json!(folder::verify(path).map(|_| "whole: every checksum is right")?);
    }
    if tensors {
        let stored = hf::tensors(&config, &layout, Family::Emo);
        let first = |tensor: &Tensor| {
            let inside = stored.iter().find(|stored| tensor.range.contains(&stored.range.start));
            inside.map_or("", |stored| stored.name.as_str())
        };
        let each: Vec<Value> = layout
            .tensors
            .iter()
            .map(|tensor| json!({ "name": tensor.name, "shape": tensor.shape, "first_in_file": first(tensor) }))
            .collect();
        value["tensors"] = json!(each);
    }
    Ok(value)
}

fn shards(path: &Path) -> Result<Value> {
    let manifest = Manifest::read(path)?;
    let domains: Vec<Value> = manifest
        .domains
        .iter()
        .map(|d| json!({ "name": d.name, "documents": d.documents, "tokens": d.tokens, "text_bytes": d.text_bytes }))
        .collect();
    Ok(json!({
        "shards": path,
        "complete": manifest.complete,
        "tokenizer": manifest.tokenizer.words(),
        "tokens": manifest.tokens,
        "documents": manifest.documents,
        "text_bytes": manifest.text_bytes,
        "bytes_per_token": manifest.text_bytes as f64 / manifest.tokens.max(1) as f64,
        "files": manifest.shards.len(),
        "domains": domains,
    }))
}

/// An object as indented `key  value` lines; equal neighbours of a list are counted.
fn print(value: &Value, indent: usize) {
    let Some(map) = value.as_object() else { return };
    for (key, value) in map {
        let key = key.replace('_', " ");
        match value {
            Value::Array(items) => {
                out!("{:indent$}{key}", "");
                let mut at = 0;
                while at < items.len() {
                    let same = items[at..].iter().take_while(|item| **item == items[at]).count();
                    let name = if same == 1 { format!("{at}") } else { format!("{at} to {}", at + same - 1) };
                    out!("{:indent$}  {name:<10} {}", "", line(&items[at]));
                    at += same;
                }
            }
            value => out!("{:indent$}{key:<20} {}", "", line(value)),
        }
    }
}

fn line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(whole) if whole >= 100_000 => format!("{whole} ({})", si(whole as f64).trim_end()),
            _ => number.to_string(),
        },
        Value::Object(map) => {
            let each = map.iter().map(|(key, value)| format!("{}: {}", key.replace('_', " "), line(value)));
            each.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

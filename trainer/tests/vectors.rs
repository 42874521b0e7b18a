//! Models against the reference vectors: every case folder under `EMO_VECTORS` (default `tests/vectors`), on the CPU in
//! f32 and on the f64 oracle. A case that this runner cannot run fails by name; so does a tensor it compares with nothing.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Outcome, Reference, Report, Tolerance, folder, words};
use emo::Backend;
use emo::ops::router::SharedWeight;
use serde_json::Value;
use trainer::checkpoint::{Family, hf};
use trainer::model::{
    Balance, Capacity, FeedForward, Inputs, Model, ModelConfig, Objective, Piece, Routing, Segments,
};

const IGNORE: i64 = -100;

#[test]
fn oracle_agrees_with_every_case() {
    // Weights and gradients are stored in f32, logits and losses in f64. Rotary tables are f32 in both.
    let tolerance = Tolerance { value: 2e-6, gradient: 1e-6, loss: 1e-7 };
    run_all(|| Ok(Arc::new(emo::oracle::Oracle)), tolerance);
}

#[test]
fn cpu_agrees_with_every_case() {
    let tolerance = Tolerance { value: 2e-5, gradient: 1e-5, loss: 2e-6 };
    run_all(|| emo::cpu::Cpu::new(2).map(Arc::new).map_err(words), tolerance);
}

fn run_all<B: Backend>(backend: impl Fn() -> Outcome<Arc<B>>, tolerance: Tolerance) {
    let cases = cases();
    assert!(!cases.is_empty(), "no cases under {}", folder().display());
    let mut failures = Vec::new();
    for (kind, case) in cases {
        let name = format!("{kind}/{}", case.file_name().unwrap_or_default().to_string_lossy());
        let mut report = Report::new(tolerance);
        let outcome = backend().and_then(|backend| match kind.as_str() {
            "hf" | "emo_hf" => hugging_face(&case, &kind, backend, &mut report),
            "emo_train" => emo_train(&case, backend, &mut report),
            _ => Err("unknown kind of case".into()),
        });
        println!("{name}: {}", summary(&report));
        let broken = report.failures.into_iter().chain(outcome.err());
        failures.extend(broken.map(|failure| format!("{name}: {failure}")));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn summary(report: &Report) -> String {
    let worst: Vec<String> = report.worst.iter().map(|(kind, error)| format!("{kind} {error:.1e}")).collect();
    worst.join(", ")
}

/// Kind and folder of every case. `kernels` belongs to the library's runner.
fn cases() -> Vec<(String, PathBuf)> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("folder entry").path()).collect();
        paths.retain(|path| path.is_dir());
        paths.sort();
        paths
    };
    let mut cases = Vec::new();
    for kind in folders(&folder()) {
        let name = kind.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != "kernels" {
            cases.extend(folders(&kind).into_iter().map(|case| (name.clone(), case)));
        }
    }
    cases
}

fn json(path: &Path) -> Outcome<Value> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(words)
}

fn number(json: &Value, key: &str) -> Outcome<f64> {
    json[key].as_f64().ok_or_else(|| format!("ref.json: `{key}` must be a number"))
}

fn capacity(tokens: usize, longest: usize) -> Capacity {
    Capacity { tokens, longest, domains: 0, redundancy: false, backward: true }
}

fn to_u32(values: &[i64]) -> Vec<u32> {
    values.iter().map(|&value| value as u32).collect()
}

fn to_i32(values: &[i64]) -> Vec<i32> {
    values.iter().map(|&value| value as i32).collect()
}

/// Every parameter's gradient against `prefix + name`; one that the reference leaves out must be zero.
fn gradients<B: Backend>(
    model: &Model<B>,
    family: Family,
    reference: &mut Reference,
    prefix: &str,
    report: &mut Report,
) -> Outcome<()> {
    for tensor in hf::tensors(model.config(), model.layout(), family) {
        let ours = model.get_gradients(tensor.range.clone()).map_err(words)?;
        let name = format!("{prefix}{}", tensor.name);
        let theirs = if reference.has(&name) {
            if reference.shape(&name)? != tensor.shape {
                return Err(format!(
                    "{name}: shape {:?} against {:?}",
                    tensor.shape,
                    reference.shape(&name)?
                ));
            }
            reference.floats(&name)?
        } else {
            vec![0.0; ours.len()]
        };
        report.gradient(&name, &ours, &theirs);
    }
    Ok(())
}

// Hugging Face models ----------------------------------------------------------------------------------------------

fn hugging_face<B: Backend>(case: &Path, kind: &str, backend: Arc<B>, report: &mut Report) -> Outcome<()> {
    let mut reference = Reference::open(case)?;
    let numbers = json(&case.join("ref.json"))?;
    let runs = numbers["cases"].as_object().ok_or("ref.json: `cases` must be an object")?;
    let continues = reference.has("greedy.ids");
    let continuation = if continues { reference.shape("greedy.ids")? } else { vec![0, 0] };
    let (mut longest, mut tokens) = (continuation[1], continuation.iter().product::<usize>());
    for run in runs.keys() {
        let shape = reference.shape(&format!("{run}.input_ids"))?;
        longest = longest.max(shape[1]);
        tokens = tokens.max(shape[0] * shape[1]);
    }
    let (_, family) = hf::read_config(case).map_err(words)?;
    let mut model = hf::load(case, backend, capacity(tokens, longest)).map_err(words)?;
    for (run, numbers) in runs {
        run_case(&mut model, family, kind, run, numbers, &mut reference, report)?;
    }
    if continues {
        greedy(&mut model, &mut reference, report)?;
    }
    reference.all_used()
}

fn run_case<B: Backend>(
    model: &mut Model<B>,
    family: Family,
    kind: &str,
    run: &str,
    numbers: &Value,
    reference: &mut Reference,
    report: &mut Report,
) -> Outcome<()> {
    let key = |part: &str| format!("{run}.{part}");
    let shape = reference.shape(&key("input_ids"))?;
    let (rows, length) = (shape[0], shape[1]);
    let labels = reference.integers(&key("labels"))?;
    let mask = if reference.has(&key("attention_mask")) {
        reference.integers(&key("attention_mask"))?
    } else {
        vec![1; labels.len()]
    };
    let keep: Vec<bool> = mask.iter().map(|&keep| keep != 0).collect();
    let mut inputs = Inputs::rows(to_u32(&reference.integers(&key("input_ids"))?), rows, length);
    for row in labels.chunks(length) {
        inputs.labels.extend(to_i32(&row[1..]));
        inputs.labels.push(IGNORE as i32);
    }
    inputs.loss_tokens = inputs.labelled() as f64;
    let valid = |token: usize| if kind == "hf" { keep[token] } else { labels[token] != IGNORE };
    inputs.valid = Some((0..labels.len()).map(|token| u8::from(valid(token))).collect());

    model.forward(&inputs).map_err(words)?;
    let logits = model.logits(0..inputs.tokens()).map_err(words)?;
    report.values("logits", &key("logits_f64"), &logits, &reference.floats(&key("logits_f64"))?, Some(&keep));
    if reference.has(&key("logits")) {
        report.values_of_f32_run(&key("logits"), &logits, &reference.floats(&key("logits"))?, &keep);
    }
    let layers = model.config().layers();
    for index in 0..=layers {
        let name = key(&format!("hidden.{index}"));
        if reference.has(&name) {
            let ours = if index == layers { model.final_hidden() } else { model.hidden(index) };
            let theirs = reference.floats(&name)?;
            report.values("hidden", &name, &ours.map_err(words)?, &theirs, Some(&keep));
        }
    }
    for ordinal in 0..model.config().moe_layers().count() {
        let name = key(&format!("router_logits.{ordinal}"));
        if reference.has(&name) {
            let routing = routing(model, ordinal)?;
            report.values_of_f32_run(&name, &routing.logits, &reference.floats(&name)?, &keep);
        }
    }

    let weight = numbers["aux_coef"].as_f64().unwrap_or(0.0);
    let balance = if kind == "hf" { Balance::Pooled } else { Balance::PerLayer };
    let objective = |load_balance| Objective { load_balance, balance, ..Objective::default() };
    model.zero_gradients().map_err(words)?;
    let losses = model.loss_and_backward(&inputs, &objective(weight)).map_err(words)?;
    report.loss(&key("ce_loss"), losses.cross_entropy, number(numbers, "ce_loss_f64")?);
    report.loss(&key("loss"), losses.total(), number(numbers, "loss_f64")?);
    gradients(model, family, reference, &key("grad."), report)?;
    if let Some(auxiliary) = numbers["aux_loss_f64"].as_f64() {
        let losses = model.loss_and_backward(&inputs, &objective(1.0)).map_err(words)?;
        report.loss(&key("aux_loss"), losses.auxiliary(), auxiliary);
    }
    Ok(())
}

fn routing<B: Backend>(model: &Model<B>, ordinal: usize) -> Outcome<Routing> {
    model.routing(ordinal).map_err(words)?.ok_or_else(|| format!("no layer with experts number {ordinal}"))
}

/// The likeliest token after that of row `at` of the last forward pass.
fn likeliest<B: Backend>(model: &mut Model<B>, at: usize) -> Outcome<u32> {
    let logits = model.logits(at..at + 1).map_err(words)?;
    let best = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a });
    Ok(best.unwrap_or(0) as u32)
}

/// The likeliest token, again and again: from the whole prefix each time, then over cached keys and values.
fn greedy<B: Backend>(model: &mut Model<B>, reference: &mut Reference, report: &mut Report) -> Outcome<()> {
    let (prompt, ids) = (reference.shape("greedy.prompt")?, reference.shape("greedy.ids")?);
    let prompts: Vec<Vec<u32>> = reference.integers("greedy.prompt")?.chunks(prompt[1]).map(to_u32).collect();
    let expected = to_u32(&reference.integers("greedy.ids")?);
    let mut rows = prompts.clone();
    for length in prompt[1]..ids[1] {
        let inputs = Inputs::rows(rows.concat(), rows.len(), length);
        model.forward(&inputs).map_err(words)?;
        for (index, row) in rows.iter_mut().enumerate() {
            row.push(likeliest(model, (index + 1) * length - 1)?);
        }
    }
    report.same("greedy.ids", &rows.concat(), &expected);
    model.remember(prompts.len()).map_err(words)?;
    let mut rows = prompts;
    let mut past = 0;
    for length in prompt[1]..ids[1] {
        let pieces = rows.iter().enumerate().map(|(place, row)| Piece { place, past, ids: &row[past..] });
        model.extend(&pieces.collect::<Vec<_>>()).map_err(words)?;
        for (index, row) in rows.iter_mut().enumerate() {
            row.push(likeliest(model, (index + 1) * (length - past) - 1)?);
        }
        past = length;
    }
    report.same("greedy.ids over cached keys", &rows.concat(), &expected);
    Ok(())
}

// Ai2's training code ----------------------------------------------------------------------------------------------

/// Pools of a case: what the router's settings ask for.
struct Pools {
    /// In training, for each layer and document in order.
    training: Option<Vec<Vec<u32>>>,
    /// In evaluation, every document.
    evaluation: Option<u32>,
}

fn emo_train<B: Backend>(case: &Path, backend: Arc<B>, report: &mut Report) -> Outcome<()> {
    let mut reference = Reference::open(case)?;
    let numbers = json(&case.join("ref.json"))?;
    let shape = reference.shape("input_ids")?;
    let (rows, length) = (shape[0], shape[1]);
    let (config, family) = training_config(case, &numbers)?;
    let segments = documents(&numbers, rows, length)?;
    let pools = pools(&numbers, config.moe_layers().count(), segments.count())?;
    let mut model =
        hf::load_as(case, config, family, backend, capacity(rows * length, length)).map_err(words)?;

    let mut inputs = Inputs::rows(to_u32(&reference.integers("input_ids")?), rows, length);
    inputs.labels = to_i32(&reference.integers("labels")?);
    inputs.loss_tokens = number(&numbers, "loss_div_factor")?;
    if inputs.labelled() as f64 != inputs.loss_tokens {
        return Err(format!("loss_div_factor {} but {} labels", inputs.loss_tokens, inputs.labelled()));
    }
    inputs.routing = segments;
    let layers = model.config().moe_layers().count();
    inputs.pools = pools.evaluation.map(|size| vec![vec![size; inputs.routing.count()]; layers]);
    model.forward(&inputs).map_err(words)?;
    compare_forward(&mut model, &mut reference, "eval.", report)?;

    inputs.pools = pools.training;
    model.forward(&inputs).map_err(words)?;
    compare_forward(&mut model, &mut reference, "", report)?;
    let settings = &numbers["router_kw"];
    let objective = Objective {
        load_balance: numbers["lb_loss_weight"].as_f64().unwrap_or(0.0),
        balance: Balance::MicroBatch,
        router_z: numbers["z_loss_weight"].as_f64().unwrap_or(0.0),
        token_entropy: settings["expert_cond_token_entropy_bias"].as_f64().unwrap_or(0.0),
        marginal_entropy: settings["expert_uncond_entropy_bias"].as_f64().unwrap_or(0.0),
        ..Objective::default()
    };
    model.zero_gradients().map_err(words)?;
    let losses = model.loss_and_backward(&inputs, &objective).map_err(words)?;
    report.loss("ce_loss", losses.cross_entropy, number(&numbers, "ce_loss_f64")?);
    report.loss("total_objective", losses.total(), number(&numbers, "total_objective_f64")?);
    let auxiliary = numbers["layers"].as_array().ok_or("ref.json: `layers` must be a list")?;
    if auxiliary.len() != losses.layers.len() {
        return Err(format!("{} layers against {}", losses.layers.len(), auxiliary.len()));
    }
    for (index, (ours, theirs)) in losses.layers.iter().zip(auxiliary).enumerate() {
        if !theirs["aux_loss_f64"].is_null() {
            report.loss(&format!("layer {index} aux_loss"), ours.total(), number(theirs, "aux_loss_f64")?);
        }
    }
    gradients(&model, family, &mut reference, "grad.", report)?;
    reference.all_used()
}

/// The checkpoint's configuration with the training code's rules: shared experts weigh 1 each, forced experts, and an
/// embedding whose every row is trained.
fn training_config(case: &Path, numbers: &Value) -> Outcome<(ModelConfig, Family)> {
    let (mut config, family) = hf::read_config(case).map_err(words)?;
    config.pad_id = None;
    let settings = &numbers["router_kw"];
    for kind in &mut config.feed_forward {
        if let FeedForward::Moe(moe) = kind {
            moe.shared_weight = SharedWeight::One;
            moe.forced = settings["num_forced_experts"].as_u64().unwrap_or(0) as usize;
            let shared = settings["num_shared_experts"].as_u64().unwrap_or(0) as usize;
            if moe.shared != shared {
                return Err(format!("router_kw has {shared} shared experts, config.json {}", moe.shared));
            }
        }
    }
    Ok((config, family))
}

fn documents(numbers: &Value, rows: usize, length: usize) -> Outcome<Segments> {
    let boundaries = numbers["document_boundaries_exclusive_ends"].as_array();
    let boundaries = boundaries.filter(|list| list.len() == rows).ok_or("one list of boundaries a row")?;
    let mut offsets = vec![0u32];
    for (row, ends) in boundaries.iter().enumerate() {
        for end in ends.as_array().into_iter().flatten() {
            let end = (row * length) as u64 + end.as_u64().ok_or("boundaries must be whole numbers")?;
            // An empty document has no draw.
            if offsets.last().is_some_and(|&last| u64::from(last) < end) {
                offsets.push(end as u32);
            }
        }
        let end = ((row + 1) * length) as u32;
        if offsets.last() != Some(&end) {
            offsets.push(end);
        }
    }
    Ok(Segments { offsets })
}

fn pools(numbers: &Value, layers: usize, documents: usize) -> Outcome<Pools> {
    let router = numbers["router"].as_str().ok_or("ref.json: `router` must be a string")?;
    let settings = numbers["router_kw"].as_object().ok_or("ref.json: `router_kw` must be an object")?;
    const KNOWN: [&str; 9] = [
        "eos_token_id",
        "num_shared_experts",
        "num_forced_experts",
        "document_expert_pool",
        "min_document_expert_pool",
        "max_document_expert_pool",
        "eval_document_expert_pool",
        "expert_cond_token_entropy_bias",
        "expert_uncond_entropy_bias",
    ];
    if let Some((key, value)) =
        settings.iter().find(|(key, value)| !KNOWN.contains(&key.as_str()) && !value.is_null())
    {
        return Err(format!("router {router}: unknown setting {key} = {value}"));
    }
    let size = |key: &str| settings.get(key).and_then(Value::as_u64).map(|size| size as u32);
    let draws: Vec<u32> = numbers["pool_draws_in_call_order"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|draw| draw.as_u64().map(|draw| draw as u32))
        .collect();
    let each = |size: u32| Some(vec![vec![size; documents]; layers]);
    let (minimum, maximum) = (size("min_document_expert_pool"), size("max_document_expert_pool"));
    let fixed = size("document_expert_pool");
    if let (Some(minimum), Some(maximum)) = (minimum, maximum) {
        let training = if draws.is_empty() && minimum == maximum {
            each(minimum)
        } else if draws.len() == layers * documents {
            Some(draws.chunks(documents).map(<[u32]>::to_vec).collect())
        } else {
            return Err(format!("{} pool draws for {layers} layers of {documents} documents", draws.len()));
        };
        return Ok(Pools { training, evaluation: size("eval_document_expert_pool").or(Some(maximum)) });
    }
    if !draws.is_empty() {
        return Err(format!("router {router}: pool draws without a range of sizes"));
    }
    match fixed {
        Some(size) => Ok(Pools { training: each(size), evaluation: Some(size) }),
        None if router.contains("TwoLevel") => Err(format!("router {router}: no pool size in router_kw")),
        None => Ok(Pools { training: None, evaluation: None }),
    }
}

/// Logits and every router's input, indices, weights and counts.
fn compare_forward<B: Backend>(
    model: &mut Model<B>,
    reference: &mut Reference,
    prefix: &str,
    report: &mut Report,
) -> Outcome<()> {
    let name = format!("{prefix}logits_f64");
    let tokens = reference.shape(&name)?[..2].iter().product();
    let logits = model.logits(0..tokens).map_err(words)?;
    report.values("logits", &name, &logits, &reference.floats(&name)?, None);
    for ordinal in 0..model.config().moe_layers().count() {
        let ours = routing(model, ordinal)?;
        let key = |part: &str| format!("{prefix}router.{ordinal}.{part}");
        let indices = to_u32(&reference.integers(&key("indices"))?);
        report.same(&key("indices"), &ours.indices, &indices);
        let weights = reference.floats(&key("weights_f64"))?;
        report.values("router weights", &key("weights_f64"), &ours.weights, &weights, None);
        if reference.has(&key("counts")) {
            report.same(&key("counts"), &ours.counts, &to_u32(&reference.integers(&key("counts"))?));
        }
        if reference.has(&key("input")) {
            report.values(
                "router input",
                &key("input"),
                &ours.input,
                &reference.floats(&key("input"))?,
                None,
            );
        }
    }
    Ok(())
}

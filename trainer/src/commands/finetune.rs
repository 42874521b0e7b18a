//! `trainer finetune`: a pretraining run that starts from a checkpoint, on text of its own, over a part of its parameters.

use std::path::Path;

use super::device;
use super::pretrain::{Training, quoted};
use crate::checkpoint::{folder, hf};
use crate::cli::{Compute, Fall, Finetune, Tune};
use crate::config::{Config, Data, Losses, Optimiser, Run, Schedule, Shape, Source, Train, Validation};
use crate::data::shard::Manifest;
use crate::data::shard::manifest::MANIFEST;
use crate::error::{Error, Result};
use crate::evaluate::text::run_config;
use crate::evaluate::tokens::{Tokens, check_run};
use crate::model::ModelConfig;
use crate::subset::ExpertSubset;
use crate::train::folder::RunFolder;
use crate::train::pretrain::Options;
use crate::train::text::Text;

/// Load balance while a router is tuned, as in the release (emo.md 6.4); a frozen one has none.
const LOAD_BALANCE: f64 = 0.01;
/// Peak learning rate where the checkpoint's own is unknown (emo.md 6.4), and its share where it is known.
const RATE: f64 = 5e-5;
const SHARE_OF_RATE: f64 = 0.1;
/// Share of the steps that warm up.
const WARMUP: f64 = 0.1;

/// Tunes.
pub fn run(args: &Finetune) -> Result<()> {
    let checkpoint = folder::find(&args.checkpoint)?;
    let config = configuration(args, &checkpoint)?;
    let run = RunFolder::of(&config, args.out.as_deref());
    run.refuse_if_used(args.force)?;
    let words = ["trainer", "pretrain", "--resume", "--out"].map(str::to_owned);
    let resume_command = quoted(words.into_iter().chain([run.root().display().to_string()]));
    let options = Options {
        run,
        peak: None,
        resume: None,
        force: args.force,
        stop_after: args.stop_after,
        json: args.json,
        warnings: Vec::new(),
        resume_command,
    };
    let compute = Compute { storage: config.train.storage, threads: config.run.threads, ..args.compute };
    device::run(compute, Training { config, options })
}

/// The run as a configuration, complete: to go on with it needs neither these arguments nor the checkpoint.
fn configuration(args: &Finetune, checkpoint: &Path) -> Result<Config> {
    let (model, _) = hf::read_config(checkpoint)?;
    let before = run_config(checkpoint)?;
    let only = trained(args, checkpoint, &model)?;
    let known = before.is_some();
    let mut config = before.unwrap_or_default();
    config.describe(&model);
    config.data = data(args, checkpoint, &model, known.then_some(config.data))?;
    let lr = args.lr.unwrap_or(if known { SHARE_OF_RATE * config.optimiser.lr } else { RATE });
    config.optimiser = Optimiser { lr, weight_decay: 0.0, ..config.optimiser };
    let router = only.is_empty() || args.train_router;
    config.losses = Losses {
        load_balance: if router { LOAD_BALANCE } else { 0.0 },
        router_z: 0.0,
        head_z: 0.0,
        token_entropy: 0.0,
        marginal_entropy: 0.0,
        sequence_consistency: 0.0,
        domain_consistency: 0.0,
        redundancy: 0.0,
        ..config.losses
    };
    let batch = args.batch.unwrap_or(config.train.batch);
    let micro = config.train.micro_batch;
    config.train = Train {
        steps: 1,
        batch,
        micro_batch: if micro > 0 && batch.is_multiple_of(micro) { micro } else { 0 },
        clip: 1.0,
        storage: args.compute.storage,
        init: checkpoint.to_path_buf(),
        init_moments: false,
        init_model: true,
        only,
        freeze: Vec::new(),
    };
    let name = if config.run.name.is_empty() { "model" } else { &config.run.name };
    config.run =
        Run { name: format!("{name}-tuned"), seed: args.seed, threads: args.compute.threads, ..config.run };
    config.train.steps = match args.steps {
        Some(steps) => steps,
        None => one_pass(&with_overrides(&config, args)?)?,
    };
    let steps = config.train.steps;
    config.schedule = Schedule {
        warmup: (steps as f64 * WARMUP).ceil() as u64,
        shape: match args.schedule {
            Fall::Linear => Shape::Linear,
            Fall::Constant => Shape::Constant,
        },
        final_fraction: 0.0,
        ..config.schedule
    };
    config.validation = Validation { every: steps.div_ceil(4), ..config.validation };
    with_overrides(&config, args)
}

fn with_overrides(config: &Config, args: &Finetune) -> Result<Config> {
    Config::from_toml(&config.to_toml()?, &args.set)
}

/// Steps that read the text once.
fn one_pass(config: &Config) -> Result<u64> {
    let mut quick = config.clone();
    quick.data.verify = false;
    let text = Text::load(&quick, false)?;
    let tokens: usize = text.train.iter().map(|portion| portion.documents.token_count()).sum();
    Ok((tokens as u64).div_ceil(config.tokens_per_step()).max(1))
}

/// The text: what the arguments name, else what the run had.
fn data(args: &Finetune, checkpoint: &Path, model: &ModelConfig, before: Option<Data>) -> Result<Data> {
    let sequence =
        before.as_ref().map_or(model.max_positions.min(Data::default().sequence), |data| data.sequence);
    let mut data = match (&args.data, before) {
        (None, Some(before)) => before,
        (None, None) => {
            return Err(Error::Usage(format!(
                "{} comes from no run of this program, so what it was trained on is unknown; give text with --data",
                checkpoint.display()
            )));
        }
        (Some(path), before) if path.join(MANIFEST).exists() => Data {
            source: Source::Shards,
            path: path.clone(),
            eos: Some(Manifest::read(path)?.tokenizer.eos),
            valid_path: before.map_or_else(Default::default, |data| data.valid_path),
            ..Data::default()
        },
        (Some(path), _) => {
            Tokens::of(checkpoint, model)?.check(path, model)?;
            Data { source: Source::Folder, path: path.clone(), ..Data::default() }
        }
    };
    check_run(&data, model, checkpoint)?;
    data.sequence = sequence;
    data.domains.clone_from(&args.domain);
    if let Some(valid) = &args.valid {
        data.valid_path.clone_from(valid);
    }
    data.answer_after = args.answer_after.clone().unwrap_or_default();
    Ok(data)
}

/// `train.only` for what the arguments ask to train; nothing where that is everything.
fn trained(args: &Finetune, checkpoint: &Path, model: &ModelConfig) -> Result<Vec<String>> {
    let tune = args.tune.unwrap_or(if args.experts.is_some() { Tune::Experts } else { Tune::Full });
    if tune == Tune::Full {
        return match args.experts.is_some() || args.train_router || args.train_shared {
            false => Ok(Vec::new()),
            true => Err(Error::Usage(
                "`--tune full` trains everything; --experts, --train-router and --train-shared go with `--tune experts`"
                    .into(),
            )),
        };
    }
    if model.moe_layers().next().is_none() {
        return Err(Error::checkpoint(checkpoint, "has no experts to tune"));
    }
    let chosen = args.experts.as_ref().map(|path| ExpertSubset::load(path)).transpose()?;
    let places = chosen.map(|subset| subset.places(model)).transpose()?;
    let mut only = Vec::new();
    for (ordinal, (layer, moe)) in model.moe_layers().enumerate() {
        let rows = match &places {
            Some(places) => places[ordinal].iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            None => format!("0-{}", moe.routed() - 1),
        };
        if !rows.is_empty() {
            only.push(format!("layers.{layer}.experts_*[{rows}]"));
            if args.train_router {
                // Also the bias, where there is one.
                only.push(format!("layers.{layer}.router*[{rows}]"));
            }
        }
        if args.train_shared && moe.shared > 0 {
            only.push(format!("layers.{layer}.experts_*[{}-{}]", moe.routed(), moe.experts - 1));
        }
    }
    Ok(only)
}

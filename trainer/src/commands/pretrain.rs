//! `trainer pretrain`: from a configuration to a finished run.

use std::path::Path;

use emo::Backend;

use super::device::{self, Start, Work};
use crate::checkpoint::folder;
use crate::checkpoint::state::CONFIG;
use crate::cli::{Compute, Pretrain};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::train::folder::RunFolder;
use crate::train::pretrain::{Options, pretrain};

/// Keys that may differ when a run goes on: they change how it is watched, or how far it goes, not what it computed.
const FREE: [&str; 7] = [
    "train.steps",
    "run.name",
    "run.threads",
    "run.checkpoint_every",
    "run.keep",
    "validation.every",
    "validation.rows",
];

/// Keys that `--set` may change when a run goes on, because they are what helps against a loss that has become infinite. From
/// a CONFIG that has been edited meanwhile they are refused like any other.
const REMEDIES: [&str; 5] =
    ["optimiser.lr", "train.clip", "schedule.warmup", "schedule.shape", "schedule.final_fraction"];

/// Trains.
pub fn run(args: &Pretrain) -> Result<()> {
    let overrides = overrides(args);
    let mut warnings = Vec::new();
    let (config, run, resume) = if args.resume {
        let run = match (&args.source.config, &args.out) {
            (None, Some(out)) => RunFolder::at(out),
            (name, out) => RunFolder::of(
                &Config::load(name.as_deref().unwrap_or("quickstart"), &overrides)?,
                out.as_deref(),
            ),
        };
        let (checkpoint, found) = folder::latest(&run.checkpoints())?;
        warnings.extend(found);
        (continued(args, &checkpoint, &overrides, &mut warnings)?, run, Some(checkpoint))
    } else {
        let config = Config::load(args.source.config.as_deref().unwrap_or("quickstart"), &overrides)?;
        let run = RunFolder::of(&config, args.out.as_deref());
        run.refuse_if_used(args.force)?;
        (config, run, None)
    };
    let options = Options {
        run,
        peak: None,
        resume,
        force: args.force,
        stop_after: args.stop_after,
        json: args.source.json,
        warnings,
        resume_command: resume_command(args),
    };
    let compute = Compute { device: args.device, storage: config.train.storage, threads: config.run.threads };
    device::run(compute, Training { config, options })
}

/// A run on whichever backend it is given.
pub(super) struct Training {
    /// What to train.
    pub config: Config,
    /// What the command line says beside it.
    pub options: Options,
}

impl Work for Training {
    const PEAK: bool = true;

    fn on<B: Backend>(self, backend: B, start: Start) -> Result<()> {
        let Self { config, mut options } = self;
        options.peak = start.peak;
        options.warnings.extend(start.note);
        pretrain(backend, config, options)
    }
}

fn overrides(args: &Pretrain) -> Vec<String> {
    let mut overrides = args.source.set.clone();
    let flags = [
        ("train.steps", args.steps.map(|value| value.to_string())),
        ("train.storage", args.storage.map(|value| value.to_string())),
        ("run.seed", args.seed.map(|value| value.to_string())),
        ("run.threads", args.threads.map(|value| value.to_string())),
    ];
    overrides.extend(flags.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))));
    overrides
}

/// The configuration that the run in `checkpoint` goes on with.
fn continued(
    args: &Pretrain,
    checkpoint: &Path,
    overrides: &[String],
    warnings: &mut Vec<String>,
) -> Result<Config> {
    let path = checkpoint.join(CONFIG);
    let saved = Config::saved(&path, &[])?;
    let config = match &args.source.config {
        Some(name) => Config::load(name, overrides)?,
        None => Config::saved(&path, overrides)?,
    };
    let asked = |key: &str| {
        let mut keys = overrides.iter().filter_map(|assignment| Some(assignment.split_once('=')?.0.trim()));
        REMEDIES.contains(&key) && keys.any(|name| name == key)
    };
    let mut different = Vec::new();
    for (key, was, now) in saved.differences(&config) {
        if asked(&key) {
            warnings.push(format!("`{key}` was {was} up to here and is {now} from here on"));
        } else if !FREE.contains(&key.as_str()) {
            different.push(format!("`{key}` was {was}, is {now}"));
        }
    }
    if different.is_empty() {
        return Ok(config);
    }
    Err(Error::Usage(format!(
        "the run in {} was started with another configuration: {}. Resume with the same one (leave CONFIG out and give \
         --out; --set may change {}), or start a new run with --out",
        checkpoint.display(),
        different.join("; "),
        REMEDIES.join(", ")
    )))
}

/// What to type to go on after an interruption.
fn resume_command(args: &Pretrain) -> String {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let mut words: Vec<String> = words.filter(|word| word != "--force" && word != "--resume").collect();
    let stop = words.iter().position(|word| word.starts_with("--stop-after"));
    if let (Some(_), Some(position)) = (args.stop_after, stop) {
        let value = usize::from(!words[position].contains('='));
        words.drain(position..=position + value);
    }
    words.push("--resume".into());
    quoted(words)
}

/// A command as a shell reads it.
pub(super) fn quoted(words: impl IntoIterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    let quote = |word: String| match word.chars().all(plain) && !word.is_empty() {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

//! The loop: step, validate, save, tell.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use emo::Backend;
use serde::Serialize;

use super::folder::RunFolder;
use super::interrupt;
use super::session::{Outcome, Session};
use super::text::Text;
use super::throughput::Throughput;
use super::watch::Watch;
use crate::checkpoint::folder;
use crate::config::{Config, Losses as Weights};
use crate::error::{Error, Result};
use crate::evaluate::held_out::HeldOut;
use crate::metrics::{LoadSummary, MetricsWriter, Record, StepRecord, ValidRecord, read_records};
use crate::model::{LayerLosses, Losses};
use crate::output::tell;
use crate::progress::{Mode, Progress, Update};
use crate::replace::replace_with;
use crate::report::{self, RunInfo};
use crate::tensorboard::EventWriter;

/// What the command line says beside the configuration.
pub struct Options {
    /// Where the run's files go.
    pub run: RunFolder,
    /// The checkpoint to go on from.
    pub resume: Option<PathBuf>,
    /// Delete what an earlier run left.
    pub force: bool,
    /// Stop after this step.
    pub stop_after: Option<u64>,
    /// Print JSON lines.
    pub json: bool,
    /// The machine's measured peak, FLOP a second.
    pub peak: Option<f64>,
    /// Things to tell before the start.
    pub warnings: Vec<String>,
    /// The command that continues this run.
    pub resume_command: String,
}

impl Options {
    /// Share of the peak. More than all of it says that the peak was measured while the machine was busy: then none.
    fn peak_share(&self, flops_per_s: f64) -> Option<f64> {
        self.peak.map(|peak| flops_per_s / peak).filter(|&share| share <= 1.0)
    }
}

/// The last line of `--json`.
#[derive(Debug, Clone, Serialize)]
struct Summary {
    event: &'static str,
    /// Whether the run reached its last step.
    finished: bool,
    steps: u64,
    tokens: u64,
    tokens_per_s: f64,
    loss: Option<f64>,
    /// Bits per byte.
    validation: BTreeMap<String, f64>,
    paths: BTreeMap<&'static str, PathBuf>,
}

/// Trains to the last step, or until Ctrl-C or `stop_after`; saves in every case.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, with everything saved; else what went wrong, with the last good checkpoint kept.
pub fn pretrain<B: Backend>(backend: B, config: Config, options: Options) -> Result<()> {
    interrupt::listen();
    let mut progress = Progress::new(Mode::choose(options.json), config.train.steps);
    options.warnings.iter().for_each(|warning| progress.note(&format!("warning: {warning}")));
    let text = Text::load(&config, options.resume.is_none())?;
    let validation = held_out(&config, &text)?;
    progress.note(&format!("{} on {}", config.run.name, backend.describe()));
    text.notes.iter().for_each(|note| progress.note(note));
    if config.schedule.warmup >= config.train.steps {
        progress.note("the warm-up is not shorter than the run: the learning rate never reaches its peak");
    }
    let backend = Arc::new(backend);
    let lock = options.run.lock()?;
    let (session, metrics, before) = match &options.resume {
        None => {
            let session = Session::new(backend, config, &text)?;
            options.run.begin(options.force)?;
            write_info(&options.run, &session.config)?;
            (session, MetricsWriter::create(&options.run.metrics())?, 0.0)
        }
        Some(checkpoint) => {
            let session = Session::restore(backend, config, &text, checkpoint)?;
            if session.step > session.config.train.steps {
                return Err(Error::Usage(format!(
                    "the run in {} is at step {} already, beyond `train.steps = {}`; give more with --steps",
                    options.run.root().display(),
                    session.step,
                    session.config.train.steps
                )));
            }
            progress.note(&format!("resuming after step {}", session.step));
            write_info(&options.run, &session.config)?;
            let metrics = MetricsWriter::resume(&options.run.metrics(), session.step)?;
            (session, metrics, last_step(&options.run)?.map_or(0.0, |record| record.elapsed_s))
        }
    };
    let events = options.run.events();
    let events = EventWriter::create(&events, session.step).map_err(Error::io("write", &events))?;
    Loop {
        watch: Watch::default(),
        events,
        _lock: lock,
        saved: options.resume.as_ref().map(|_| session.step),
        loss: last_step(&options.run)?.map(|record| record.loss),
        valid: last_valid(&options.run)?,
        clock: Throughput::start(before),
        session,
        validation,
        metrics,
        progress,
        options,
    }
    .run()
}

struct Loop<B: Backend> {
    session: Session<B>,
    validation: Option<HeldOut>,
    metrics: MetricsWriter,
    progress: Progress,
    options: Options,
    clock: Throughput,
    /// Step of the newest checkpoint.
    saved: Option<u64>,
    loss: Option<f64>,
    valid: Option<ValidRecord>,
    watch: Watch,
    events: EventWriter,
    /// Held as long as the run writes into its folder.
    _lock: File,
}

impl<B: Backend> Loop<B> {
    fn run(mut self) -> Result<()> {
        let interrupted = self.train().map_err(|error| self.with_last_good(error))?;
        let step = self.session.step;
        let resume = self.options.resume_command.clone();
        self.finish()?;
        if interrupted { Err(Error::Interrupted { step, resume }) } else { Ok(()) }
    }

    /// Trains, saves and reports; true when Ctrl-C cut it short.
    fn train(&mut self) -> Result<bool> {
        let steps = self.session.config.train.steps;
        let last = self.options.stop_after.map_or(steps, |stop| stop.min(steps));
        // What a run that starts from a checkpoint is compared with.
        if self.session.step == 0 && self.session.config.train.init_model {
            self.validate()?;
        }
        while self.session.step < last && !interrupt::asked() {
            let outcome = self.session.step()?;
            self.record(&outcome)?;
            let (step, end) = (self.session.step, self.session.step == steps);
            if end || due(step, self.session.config.validation.every) {
                self.validate()?;
            }
            if due(step, self.session.config.run.checkpoint_every) {
                self.save()?;
            }
        }
        self.save()?;
        report::write(self.options.run.root())?;
        Ok(interrupt::asked() && self.session.step < last)
    }

    fn record(&mut self, outcome: &Outcome) -> Result<()> {
        let session = &self.session;
        let seconds = self.clock.step(outcome.tokens as f64, outcome.flop);
        let loss = outcome.losses.total();
        self.loss = Some(loss);
        let flops_per_s = outcome.flop / seconds;
        self.metrics.append(&Record::Step(StepRecord {
            step: session.step,
            tokens: session.tokens,
            loss,
            ce: outcome.losses.cross_entropy,
            aux: auxiliary(&outcome.losses, &session.config.losses),
            lr: outcome.lr,
            grad_norm: outcome.grad_norm,
            tokens_per_s: outcome.tokens as f64 / seconds,
            flops_per_s,
            peak_share: self.options.peak_share(flops_per_s),
            elapsed_s: self.clock.elapsed(),
            expert_load: outcome.counts.iter().map(|counts| LoadSummary::of_counts(counts)).collect(),
        }))?;
        let load = self.watch.step(session.step, &outcome.counts);
        let (busiest, dead) = load.map_or((f64::NAN, f64::NAN), |load| (load.busiest, load.dead as f64));
        let scalars = [
            ("train/loss", loss),
            ("train/cross_entropy", outcome.losses.cross_entropy),
            ("train/gradient_norm", outcome.grad_norm),
            ("train/learning_rate", outcome.lr),
            ("speed/tokens_per_s", outcome.tokens as f64 / seconds),
            ("experts/busiest", busiest),
            ("experts/dead", dead),
        ];
        self.events.scalars(session.step, scalars).map_err(Error::io("write", self.events.path()))?;
        let flops_per_s = self.clock.flops_per_s();
        self.progress.step(&Update {
            step: session.step,
            steps: session.config.train.steps,
            loss,
            tokens_per_s: self.clock.tokens_per_s(),
            flops_per_s,
            peak_share: self.options.peak_share(flops_per_s),
            eta_s: self.clock.eta(session.config.train.steps - session.step),
            load,
        });
        Ok(())
    }

    fn validate(&mut self) -> Result<()> {
        let Some(validation) = &mut self.validation else { return Ok(()) };
        let (domains, routing) = validation.run(&mut self.session.model)?;
        let record = ValidRecord { step: self.session.step, tokens: self.session.tokens, domains };
        let path = self.options.run.routing();
        let json = serde_json::to_string(&routing).map_err(|error| Error::checkpoint(&path, error))?;
        put(&path, &json)?;
        self.metrics.append(&Record::Valid(record.clone()))?;
        let tags: Vec<(String, f64)> = record
            .domains
            .iter()
            .map(|(name, domain)| (format!("valid/bits_per_byte/{name}"), domain.bits_per_byte))
            .chain([("valid/bits_per_byte".to_owned(), record.bits_per_byte())])
            .collect();
        let scalars = tags.iter().map(|(tag, value)| (tag.as_str(), *value));
        self.events.scalars(record.step, scalars).map_err(Error::io("write", self.events.path()))?;
        self.progress.valid(&record);
        self.valid = Some(record);
        report::write(self.options.run.root())?;
        self.clock.skip();
        Ok(())
    }

    /// Saves unless this very step is saved already.
    fn save(&mut self) -> Result<()> {
        let root = self.options.run.checkpoints();
        if self.saved != Some(self.session.step) {
            self.metrics.sync()?;
            self.session.save(&root)?;
            self.saved = Some(self.session.step);
            self.clock.skip();
        }
        // Also where an earlier process saved and ended before it came to this.
        folder::prune(&root, self.session.step, self.session.config.run.keep)
    }

    /// Adds to an error what is left to go on from.
    fn with_last_good(&self, error: Error) -> Error {
        let Error::NonFinite(message) = error else {
            let checkpoints = self.options.run.checkpoints();
            match self.saved {
                Some(step) if !checkpoints.exists() => tell!(
                    "{} is not there any more; the checkpoint of step {step} went with it. Bring it back, then continue with \
                     --resume",
                    checkpoints.display()
                ),
                Some(step) => {
                    tell!("the checkpoint of step {step} is whole; continue from it with --resume")
                }
                None => tell!("there is no checkpoint yet; start over with --force"),
            }
            return error;
        };
        Error::NonFinite(match self.saved {
            Some(step) => format!(
                "{message}. The last good checkpoint, of step {step}, is kept in {}. Continue from it for example with:\n  \
                 {} --set optimiser.lr={}",
                self.options.run.checkpoints().display(),
                self.options.resume_command,
                self.session.config.optimiser.lr / 2.0
            ),
            None => {
                format!("{message}. There is no checkpoint yet: start over with --force and other settings")
            }
        })
    }

    fn finish(self) -> Result<()> {
        let finished = self.session.step == self.session.config.train.steps;
        let run = &self.options.run;
        let mut paths = BTreeMap::from([("run", run.root().to_path_buf()), ("metrics", run.metrics())]);
        paths.insert("report", run.root().join("report.html"));
        paths.insert("checkpoint", folder::latest(&run.checkpoints())?.0);
        if run.routing().exists() {
            paths.insert("routing", run.routing());
        }
        let validation = self.valid.as_ref().map(|record| {
            record.domains.iter().map(|(name, domain)| (name.clone(), domain.bits_per_byte)).collect()
        });
        let summary = Summary {
            event: "summary",
            finished,
            steps: self.session.step,
            tokens: self.session.tokens,
            tokens_per_s: self.clock.mean_tokens_per_s(),
            loss: self.loss,
            validation: validation.unwrap_or_default(),
            paths,
        };
        let mut words = format!(
            "{} after step {}: loss {:.4}, {:.0} tokens/s",
            if finished { "finished" } else { "stopped" },
            summary.steps,
            summary.loss.unwrap_or(f64::NAN),
            summary.tokens_per_s,
        );
        for (name, path) in &summary.paths {
            words.push_str(&format!("\n  {name}: {}", path.display()));
        }
        self.progress.finish(&summary, &words);
        Ok(())
    }
}

/// The validation rows of a run; nothing where the configuration asks for none.
fn held_out(config: &Config, text: &Text) -> Result<Option<HeldOut>> {
    if config.validation.rows == 0 {
        return Ok(None);
    }
    let (domains, packing) = (text.domains.clone(), config.packing());
    let across = config.model.attend_across_documents;
    HeldOut::new(Arc::clone(&text.valid), domains, &packing, config.validation.rows, across).map(Some)
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// The weighted auxiliary losses that are on, layers summed.
fn auxiliary(losses: &Losses, weights: &Weights) -> BTreeMap<String, f64> {
    let sum = |part: fn(&LayerLosses) -> f64| losses.layers.iter().map(part).sum::<f64>();
    [
        ("load_balance", weights.load_balance, sum(|layer| layer.load_balance)),
        ("router_z", weights.router_z, sum(|layer| layer.router_z)),
        (
            "mutual_information",
            weights.token_entropy + weights.marginal_entropy,
            sum(|layer| layer.mutual_information),
        ),
        ("sequence_consistency", weights.sequence_consistency, sum(|layer| layer.sequence_consistency)),
        ("domain_consistency", weights.domain_consistency, sum(|layer| layer.domain_consistency)),
        ("redundancy", weights.redundancy, sum(|layer| layer.redundancy)),
        ("head_z", weights.head_z, losses.head_z),
    ]
    .into_iter()
    .filter(|&(_, weight, _)| weight > 0.0)
    .map(|(name, _, value)| (name.to_owned(), value))
    .collect()
}

fn records(run: &RunFolder) -> Result<Vec<Record>> {
    let path = run.metrics();
    Ok(if path.exists() { read_records(&path)? } else { Vec::new() })
}

fn last_step(run: &RunFolder) -> Result<Option<StepRecord>> {
    let step = |record| if let Record::Step(step) = record { Some(step) } else { None };
    Ok(records(run)?.into_iter().rev().find_map(step))
}

fn last_valid(run: &RunFolder) -> Result<Option<ValidRecord>> {
    let valid = |record| if let Record::Valid(valid) = record { Some(valid) } else { None };
    Ok(records(run)?.into_iter().rev().find_map(valid))
}

/// What the report says about the run.
fn write_info(run: &RunFolder, config: &Config) -> Result<()> {
    let toml = config.to_toml()?;
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in toml.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once(" = ") {
            settings.push((format!("{section}.{key}"), value.to_owned()));
        }
    }
    let title = format!("{}, seed {}", config.run.name, config.run.seed);
    let info = RunInfo { title, config: settings, environment: environment() };
    let path = run.info();
    let json = serde_json::to_string_pretty(&info).map_err(|error| Error::checkpoint(&path, error))?;
    put(&path, &json)
}

fn put(path: &Path, json: &str) -> Result<()> {
    replace_with(path, json.as_bytes()).map_err(Error::io("write", path))
}

/// What the run is made with, as the report says it.
fn environment() -> Vec<(String, String)> {
    let cores = std::thread::available_parallelism().map_or("unknown".into(), |cores| cores.to_string());
    let machine = format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    [
        ("program", format!("trainer {} ({build})", env!("CARGO_PKG_VERSION"))),
        ("system", machine),
        ("processor cores", cores),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

//! What people see while a run goes on: a live line on a terminal, plain lines elsewhere, JSON objects for programs.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::metrics::ValidRecord;
use crate::output::out;
use crate::train::watch::Load;

/// What one step shows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Update {
    /// Optimiser steps taken.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Loss, in nats a token.
    pub loss: f64,
    /// Tokens a second, recently.
    pub tokens_per_s: f64,
    /// Model FLOP a second, recently.
    pub flops_per_s: f64,
    /// `flops_per_s` over the machine's measured peak, where that is known.
    pub peak_share: Option<f64>,
    /// Seconds left, where they can be told.
    pub eta_s: Option<f64>,
    /// How the experts are used; none for a dense model.
    pub load: Option<Load>,
}

impl Update {
    /// The update as the words that both the live and the plain line show.
    #[must_use]
    pub fn line(&self) -> String {
        let peak = self.peak_share.map_or(String::new(), |share| format!(" ({:.0}% of peak)", 100.0 * share));
        let experts = self.load.map_or(String::new(), |load| {
            let dead = if load.dead > 0 {
                format!(", {} of {} dead", load.dead, load.experts)
            } else {
                String::new()
            };
            format!("  load {:.1}x{dead}", load.busiest)
        });
        let eta = self.eta_s.map_or(String::new(), |seconds| format!("  ETA {}", duration(seconds)));
        format!(
            "loss {:.4}  {} tok/s  {}FLOP/s{peak}{experts}{eta}",
            self.loss,
            si(self.tokens_per_s).replace(' ', ""),
            si(self.flops_per_s)
        )
    }
}

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One line on the terminal (standard error), redrawn in place.
    Live,
    /// A line of its own every now and then, on standard error.
    Plain,
    /// One JSON object a line, on standard output.
    Json,
}

impl Mode {
    /// JSON when asked for; otherwise live on a terminal and plain elsewhere.
    #[must_use]
    pub fn choose(json: bool) -> Self {
        match (json, std::io::stderr().is_terminal()) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Live,
            (false, false) => Mode::Plain,
        }
    }
}

/// How often the plain mode speaks: at the first and last step, and whenever one of these has passed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Every so many steps.
    pub steps: u64,
    /// After so much time.
    pub time: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { steps: 100, time: Duration::from_secs(10) }
    }
}

/// The progress of one run. A reader that has gone away (a closed pipe) never stops the run.
pub enum Progress {
    /// See [`Mode::Live`].
    Live(ProgressBar),
    /// See [`Mode::Plain`].
    Plain {
        /// Where lines go.
        out: Box<dyn Write + Send>,
        /// How often.
        pace: Pace,
        /// When the last line was written.
        last: Option<Instant>,
    },
    /// See [`Mode::Json`].
    Json {
        /// Where lines go.
        out: Box<dyn Write + Send>,
    },
}

/// Every JSON line but the summary says what it is about.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Step(&'a Update),
    Valid(&'a ValidRecord),
    Note { text: &'a str },
}

impl Progress {
    /// Progress of a run of `steps` steps.
    #[must_use]
    pub fn new(mode: Mode, steps: u64) -> Self {
        match mode {
            Mode::Live => {
                let bar = ProgressBar::new(steps);
                // The template is a constant; were it ever wrong, indicatif's own style would do.
                if let Ok(style) = ProgressStyle::with_template("{bar:24.cyan/dim} {pos}/{len}  {msg}") {
                    bar.set_style(style.progress_chars("━━─"));
                }
                Progress::Live(bar)
            }
            Mode::Plain => Self::plain(Box::new(std::io::stderr()), Pace::default()),
            Mode::Json => Self::json(Box::new(std::io::stdout())),
        }
    }

    /// Plain lines to `out`.
    #[must_use]
    pub fn plain(out: Box<dyn Write + Send>, pace: Pace) -> Self {
        Progress::Plain { out, pace, last: None }
    }

    /// JSON lines to `out`.
    #[must_use]
    pub fn json(out: Box<dyn Write + Send>) -> Self {
        Progress::Json { out }
    }

    /// A step was taken.
    pub fn step(&mut self, update: &Update) {
        match self {
            Progress::Live(bar) => {
                bar.set_position(update.step);
                bar.set_message(update.line());
            }
            Progress::Plain { out, pace, last } => {
                let due = last.is_none_or(|last| last.elapsed() >= pace.time);
                if due || update.step.is_multiple_of(pace.steps.max(1)) || update.step >= update.steps {
                    *last = Some(Instant::now());
                    say(out, &format!("step {}/{}  {}", update.step, update.steps, update.line()));
                }
            }
            Progress::Json { out } => say_json(out, &Event::Step(update)),
        }
    }

    /// A validation was made.
    pub fn valid(&mut self, record: &ValidRecord) {
        match self {
            Progress::Json { out } => say_json(out, &Event::Valid(record)),
            Progress::Live(_) | Progress::Plain { .. } => {
                let domains: Vec<String> = record
                    .domains
                    .iter()
                    .map(|(name, domain)| format!("{name} {:.3}", domain.bits_per_byte))
                    .collect();
                self.note(&format!(
                    "step {}  validation {:.3} bits/byte  ({})",
                    record.step,
                    record.bits_per_byte(),
                    domains.join(", ")
                ));
            }
        }
    }

    /// Something else worth a line: a checkpoint saved, a package missing.
    pub fn note(&mut self, text: &str) {
        match self {
            // The bar hides itself where there is no terminal, and would hide the note with it.
            Progress::Live(bar) if bar.is_hidden() => say(&mut std::io::stderr(), text),
            Progress::Live(bar) => bar.println(text),
            Progress::Plain { out, .. } => say(out, text),
            Progress::Json { out } => say_json(out, &Event::Note { text }),
        }
    }

    /// The run is over: JSON mode writes `summary` as its last line, the others `text`.
    pub fn finish(mut self, summary: &impl Serialize, text: &str) {
        match &mut self {
            Progress::Live(bar) => {
                bar.finish_and_clear();
                say(&mut std::io::stderr(), text);
            }
            Progress::Plain { out, .. } => say(out, text),
            Progress::Json { out } => say_json(out, summary),
        }
    }
}

/// The progress of work that is measured in bytes read.
pub struct Work {
    bar: Option<ProgressBar>,
    json: bool,
    of: u64,
    last: Option<Instant>,
}

impl Work {
    /// Progress through `of` bytes.
    #[must_use]
    pub fn new(mode: Mode, of: u64) -> Self {
        Self::styled(mode, of, "{bar:24.cyan/dim} {bytes}/{total_bytes}  {msg}  ETA {eta}")
    }

    /// Progress through `of` things that the line names.
    #[must_use]
    pub fn counting(mode: Mode, of: u64) -> Self {
        Self::styled(mode, of, "{bar:24.cyan/dim} {msg}  ETA {eta}")
    }

    fn styled(mode: Mode, of: u64, template: &str) -> Self {
        let bar = (mode == Mode::Live).then(|| {
            let bar = ProgressBar::new(of);
            let style = ProgressStyle::with_template(template);
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar
        });
        Self { bar, json: mode == Mode::Json, of, last: None }
    }

    /// There are `of` things to do, which was not known at the start.
    pub fn expect(&mut self, of: u64) {
        self.of = of;
        if let Some(bar) = &self.bar {
            bar.set_length(of);
        }
    }

    /// `read` bytes are done: `line` for people, `event` for programs. Lines come every ten seconds, JSON every second.
    pub fn advance(&mut self, read: u64, line: &str, event: &impl Serialize) {
        if let Some(bar) = &self.bar {
            bar.set_position(read);
            bar.set_message(line.to_owned());
            return;
        }
        let pace = Duration::from_secs(if self.json { 1 } else { 10 });
        if self.last.is_some_and(|last| last.elapsed() < pace) {
            return;
        }
        self.last = Some(Instant::now());
        if self.json {
            say_json(&mut std::io::stdout(), event);
        } else {
            let percent = 100.0 * read as f64 / self.of.max(1) as f64;
            say(&mut std::io::stderr(), &format!("{percent:.0} %  {line}"));
        }
    }

    /// The work is done, and what came of it is told elsewhere.
    pub fn close(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The work is done: `summary` for programs, `text` for people.
    pub fn finish(self, summary: &impl Serialize, text: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.json {
            if let Ok(line) = serde_json::to_string(summary) {
                out!("{line}");
            }
        } else {
            say(&mut std::io::stderr(), text);
        }
    }
}

fn say(out: &mut dyn Write, line: &str) {
    // Progress is a courtesy: nobody listening is no reason to lose a run.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn say_json(out: &mut dyn Write, value: &impl Serialize) {
    if let Ok(line) = serde_json::to_string(value) {
        say(out, &line);
    }
}

/// `value` with three digits and an SI prefix, a space between: `48.7 G`, `3.44 k`, `0.12`.
#[must_use]
pub fn si(value: f64) -> String {
    const PREFIXES: [(f64, &str); 10] = [
        (1e30, " Q"),
        (1e27, " R"),
        (1e24, " Y"),
        (1e21, " Z"),
        (1e18, " E"),
        (1e15, " P"),
        (1e12, " T"),
        (1e9, " G"),
        (1e6, " M"),
        (1e3, " k"),
    ];
    // 999.5 would round to "1000": the next prefix begins there.
    let (scale, prefix) = PREFIXES
        .into_iter()
        .find(|(scale, _)| value.abs() >= scale * 0.9995)
        .unwrap_or((1.0, if value.is_finite() { " " } else { "" }));
    let scaled = value / scale;
    let digits = match scaled.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{prefix}")
}

/// Seconds as people say them: `42s`, `3m12s`, `2h05m`, `3d04h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{:02}h", whole / 86400, whole % 86400 / 3600),
    }
}

//! `trainer bench`: shares of the processor's peaks, and the comparisons that a mixture has to stand.

use std::sync::Arc;

use emo::cpu::{Cpu, simd};
use half::bf16;
use serde::Serialize;

use super::device;
use super::plan::Plan;
use crate::bench::compare::{self, Comparison};
use crate::bench::layer;
use crate::bench::machine::Machine;
use crate::bench::memory::Mark;
use crate::bench::step::{Op, Step, Trial};
use crate::cli::{Bench, Versus};
use crate::config::{Config, Storage};
use crate::error::{Error, Result};
use crate::output::out;
use crate::progress::{Mode, Work, si};

/// A line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// On the way.
    Progress { what: &'a str, done: usize, of: usize },
    /// The yardsticks.
    Machine(Machine),
    /// One op of the step.
    Op {
        config: &'a str,
        storage: Storage,
        #[serde(flatten)]
        op: &'a Op,
    },
    /// The whole step.
    Step {
        config: &'a str,
        storage: Storage,
        #[serde(flatten)]
        step: Step,
    },
    /// A ratio.
    Versus {
        config: &'a str,
        storage: Storage,
        #[serde(flatten)]
        comparison: &'a Comparison,
    },
    /// Memory: what a step took, by the system's count, and what was planned.
    Memory {
        config: &'a str,
        storage: Storage,
        peak_bytes: Option<u64>,
        planned_bytes: usize,
        ratio: Option<f64>,
    },
}

/// Measures.
pub fn run(args: &Bench) -> Result<()> {
    let storages = match args.storage.as_slice() {
        [] => vec![Storage::F32, Storage::Bf16],
        some => some.to_vec(),
    };
    if args.versus.contains(&Versus::Memory) && storages.len() > 1 {
        let message =
            "--versus memory needs one --storage: what the first frees would serve the second again";
        return Err(Error::Usage(message.into()));
    }
    for storage in storages {
        let measuring = Measuring { args, storage, config: config(args, storage, &[])? };
        let cpu = device::cpu(measuring.config.run.threads)?;
        match storage {
            Storage::F32 => measuring.on(Arc::new(cpu))?,
            Storage::Bf16 => measuring.on(Arc::new(cpu.storing::<bf16>()))?,
        }
    }
    Ok(())
}

fn config(args: &Bench, storage: Storage, more: &[String]) -> Result<Config> {
    let mut set = args.set.clone();
    set.push(format!("train.storage={storage}"));
    set.extend(args.threads.map(|threads| format!("run.threads={threads}")));
    set.extend_from_slice(more);
    Config::load(&args.config, &set)
}

struct Measuring<'a> {
    args: &'a Bench,
    storage: Storage,
    config: Config,
}

impl Measuring<'_> {
    fn on<T: simd::Storage>(&self, cpu: Arc<Cpu<T>>) -> Result<()> {
        if self.args.versus.is_empty() {
            return self.step(&cpu);
        }
        // First, while nothing that was freed lies around to be used again.
        if self.args.versus.contains(&Versus::Memory) {
            self.memory(&cpu)?;
        }
        for versus in &self.args.versus {
            match versus {
                Versus::Dense => {
                    self.models(
                        "a mixture : a dense model of equal active parameters",
                        &cpu,
                        compare::dense_twin(&self.config)?,
                    )?;
                }
                Versus::Experts => self.models("256 experts : 8 experts", &cpu, compare::more_experts())?,
                Versus::Skew => self.skew(&cpu)?,
                Versus::Memory => {}
            }
        }
        Ok(())
    }

    fn progress(&self, what: &str, of: usize) -> (Work, impl FnMut(&mut Work, usize)) {
        let what = format!("{what}, {}", self.storage);
        let work = Work::counting(Mode::choose(self.args.json), of as u64);
        (work, move |work: &mut Work, done| {
            let line = format!("{what}: {done} of {of}");
            work.advance(done as u64, &line, &Event::Progress { what: &what, done, of });
        })
    }

    fn step<T: simd::Storage>(&self, cpu: &Arc<Cpu<T>>) -> Result<()> {
        let (args, storage) = (self.args, self.storage);
        let measure = || Machine::measure(cpu.threads(), cpu.isa());
        let before = measure()?;
        let mut trial = Trial::new(Arc::clone(cpu), self.config.clone())?;
        let steps = args.steps as usize;
        let (mut work, mut advance) = self.progress(&args.config, steps);
        let both = || Ok(before.max(measure()?));
        let (machine, step, ops) = trial.measure(storage, both, steps, |done| advance(&mut work, done))?;
        work.close();
        if args.json {
            say(&Event::Machine(machine));
            ops.iter().for_each(|op| say(&Event::Op { config: &args.config, storage, op }));
            say(&Event::Step { config: &args.config, storage, step });
        } else {
            print(&args.config, storage, &machine, &step, &ops);
        }
        Ok(())
    }

    fn models<T: simd::Storage>(
        &self,
        what: &'static str,
        cpu: &Arc<Cpu<T>>,
        overrides: [Vec<String>; 2],
    ) -> Result<()> {
        let [first, second] = overrides.map(|set| config(self.args, self.storage, &set));
        let steps = self.args.steps as usize;
        let (mut work, mut advance) = self.progress(what, steps);
        let comparison =
            compare::alternate(what, cpu, [first?, second?], steps, |done| advance(&mut work, done))?;
        work.close();
        self.tell(&comparison);
        Ok(())
    }

    fn skew<T: simd::Storage>(&self, cpu: &Cpu<T>) -> Result<()> {
        let model = self.config.model_config();
        let Some((_, moe)) = model.moe_layers().find(|(_, moe)| layer::can_be_skewed(moe)) else {
            return Err(Error::Usage(
                "no layer has more experts than a token uses: there is nothing to skew".into(),
            ));
        };
        let steps = self.args.steps as usize;
        let tokens = self.config.micro_batch() * self.config.data.sequence;
        let (mut work, mut advance) = self.progress("a skewed layer", steps);
        let comparison =
            layer::compare(cpu, moe, model.width, tokens, steps, |done| advance(&mut work, done))?;
        work.close();
        self.tell(&comparison);
        Ok(())
    }

    fn tell(&self, comparison: &Comparison) {
        let (config, storage) = (self.args.config.as_str(), self.storage);
        if self.args.json {
            return say(&Event::Versus { config, storage, comparison });
        }
        let Comparison { what, first, second, ratio, median_ratio } = comparison;
        let ms = 1e3;
        out!("{config}, {storage}: {what}");
        out!("  best    {:8.2} ms : {:8.2} ms = {ratio:.3}", ms * first.0, ms * second.0);
        out!("  median  {:8.2} ms : {:8.2} ms = {median_ratio:.3}", ms * first.1, ms * second.1);
    }

    fn memory<T: simd::Storage>(&self, cpu: &Arc<Cpu<T>>) -> Result<()> {
        let planned_bytes = Plan::of(&self.config)?.memory_bytes_in_all;
        let mark = Mark::set();
        let mut trial = Trial::new(Arc::clone(cpu), self.config.clone())?;
        trial.step()?;
        let peak_bytes = mark.and_then(Mark::peak);
        let ratio = peak_bytes.map(|peak| peak as f64 / planned_bytes as f64);
        let (config, storage) = (self.args.config.as_str(), self.storage);
        if self.args.json {
            say(&Event::Memory { config, storage, peak_bytes, planned_bytes, ratio });
            return Ok(());
        }
        out!("{config}, {storage}: memory of a step, resident pages : planned");
        let planned = si(planned_bytes as f64);
        match (peak_bytes, ratio) {
            (Some(peak), Some(ratio)) => out!("  peak    {}B : {planned}B = {ratio:.3}", si(peak as f64)),
            _ => out!("  planned {planned}B; this system does not say how much memory a process takes"),
        }
        Ok(())
    }
}

fn say(event: &Event<'_>) {
    out!("{}", serde_json::to_string(event).unwrap_or_default());
}

fn print(config: &str, storage: Storage, machine: &Machine, step: &Step, ops: &[Op]) {
    out!(
        "{config}, {storage}, {} threads; peaks: {:.0} GFLOP/s f32, {:.0} GFLOP/s bf16, {:.1} GB/s copy\n",
        machine.threads,
        machine.f32_gflops,
        machine.bf16_gflops,
        machine.copy_gb_s
    );
    out!(
        "{:<24}{:>6}{:>11}{:>9}{:>10}{:>9}{:>8}{:>9}",
        "op",
        "calls",
        "ms a step",
        "of step",
        "GFLOP/s",
        "of peak",
        "GB/s",
        "of copy"
    );
    let number = |value: Option<f64>, width: usize, digits: usize| match value {
        Some(value) => format!("{value:>width$.digits$}"),
        None => format!("{:>width$}", "-"),
    };
    let percent = |value: Option<f64>, width: usize| match value {
        Some(value) => format!("{:>1$.0} %", 100.0 * value, width - 2),
        None => format!("{:>width$}", "-"),
    };
    for op in ops {
        out!(
            "{:<24}{:>6}{:>11.3}{}{}{}{}{}",
            op.op,
            op.calls,
            1e3 * op.seconds,
            percent(Some(op.of_step), 9),
            number(op.gflops, 10, 1),
            percent(op.of_peak, 9),
            number(op.gb_s, 8, 1),
            percent(op.of_copy, 9),
        );
    }
    let Step { forward, backward, optimiser, rest, .. } = *step;
    out!(
        "\nforward {:.1} ms, backward and losses {:.1} ms, optimiser {:.1} ms, all else {:.1} ms; loading data {:.2} % of steps",
        1e3 * forward,
        1e3 * backward,
        1e3 * optimiser,
        1e3 * rest,
        100.0 * step.loading
    );
    out!(
        "step: best {:.1} ms, median {:.1} ms; {:.0} tokens/s; {:.1} model GFLOP/s, {:.0} % of peak\n",
        1e3 * step.seconds,
        1e3 * step.median_seconds,
        step.tokens_per_s,
        step.gflops,
        100.0 * step.of_peak
    );
}

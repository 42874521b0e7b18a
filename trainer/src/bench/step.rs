//! Whole training steps, and where their time goes.

use std::sync::Arc;
use std::time::Instant;

use emo::cpu::simd;
use emo::cpu::{Cpu, OpTime};
use serde::Serialize;

use super::floors::Floors;
use super::least_and_median;
use super::machine::Machine;
use crate::config::{Config, Storage};
use crate::error::Result;
use crate::train::flops::Flops;
use crate::train::session::{Outcome, Session};
use crate::train::text::Text;

/// Steps before the clock starts: the first maps memory.
const WARM_UP: usize = 2;

/// A model that trains, step by step.
pub struct Trial<T: simd::Storage> {
    backend: Arc<Cpu<T>>,
    session: Session<Cpu<T>>,
}

/// A step as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Step {
    /// The fastest step, seconds.
    pub seconds: f64,
    /// The median step.
    pub median_seconds: f64,
    /// Tokens a second of the fastest step.
    pub tokens_per_s: f64,
    /// Model FLOP of the fastest step, 10^9 a second.
    pub gflops: f64,
    /// As a share of the multiply-add peak.
    pub of_peak: f64,
    /// Seconds in forward ops, backward ops (with the losses), the optimiser, and all else, of the fastest clocked step.
    pub forward: f64,
    /// See `forward`.
    pub backward: f64,
    /// See `forward`.
    pub optimiser: f64,
    /// See `forward`.
    pub rest: f64,
    /// Share of the time of all unclocked steps that went into loading data: reading, packing, segments and pools.
    pub loading: f64,
}

/// An op in the fastest clocked step: all its calls together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Op {
    /// Its name.
    pub op: &'static str,
    /// Calls a step.
    pub calls: usize,
    /// Seconds a step.
    pub seconds: f64,
    /// Share of the clocked step.
    pub of_step: f64,
    /// What it must do, 10^9 FLOP/s.
    pub gflops: Option<f64>,
    /// As a share of the multiply-add peak.
    pub of_peak: Option<f64>,
    /// What it must move, 10^9 bytes/s.
    pub gb_s: Option<f64>,
    /// As a share of the copy rate.
    pub of_copy: Option<f64>,
}

impl Op {
    /// What the clock said, before it is set against a floor.
    fn unrated(OpTime { op, calls, seconds }: OpTime) -> Self {
        Self { op, calls, seconds, of_step: 0.0, gflops: None, of_peak: None, gb_s: None, of_copy: None }
    }
}

impl<T: simd::Storage> Trial<T> {
    /// A fresh model that has made its first steps.
    ///
    /// # Errors
    /// When the data has no text or there is no memory.
    pub fn new(backend: Arc<Cpu<T>>, config: Config) -> Result<Self> {
        let text = Text::load(&config, true)?;
        let mut trial = Self { session: Session::new(Arc::clone(&backend), config, &text)?, backend };
        (0..WARM_UP).try_for_each(|_| trial.step().map(|_| ()))?;
        Ok(trial)
    }

    /// One step and its seconds.
    ///
    /// # Errors
    /// When the step fails.
    pub fn step(&mut self) -> Result<(f64, Outcome)> {
        let start = Instant::now();
        let outcome = self.session.step()?;
        Ok((start.elapsed().as_secs_f64(), outcome))
    }

    /// `steps` steps as they are and as many with a clock on each op, in alternation. `done` is called after each pair.
    ///
    /// # Errors
    /// When a step fails.
    pub fn measure(
        &mut self,
        storage: Storage,
        machine: impl FnOnce() -> Result<Machine>,
        steps: usize,
        mut done: impl FnMut(usize),
    ) -> Result<(Machine, Step, Vec<Op>)> {
        let (mut plain, mut clocked) = (Vec::new(), Vec::new());
        for step in 0..steps {
            plain.push(self.step()?);
            self.backend.start_clock();
            let timed = self.step();
            let times = self.backend.stop_clock();
            clocked.push((timed?, times));
            done(step + 1);
        }
        let machine = machine()?;
        // A step's random documents make its own FLOP: times and FLOP are of one step each, the fastest of its kind.
        clocked.sort_by(|((a, _), _), ((b, _), _)| a.total_cmp(b));
        let ((clocked, outcome), times) = clocked.into_iter().next().unwrap_or_default();
        let mut ops: Vec<Op> = times.into_iter().map(Op::unrated).collect();
        self.rate(&mut ops, &outcome, storage, &machine, clocked);
        let of = |phase: Phase| ops.iter().filter(|op| phase_of(op.op) == phase).map(|op| op.seconds).sum();
        let (forward, backward, optimiser): (f64, f64, f64) =
            (of(Phase::Forward), of(Phase::Backward), of(Phase::Optimiser));
        let loading: f64 = plain.iter().map(|(_, outcome)| outcome.loading).sum();
        let loading = loading / plain.iter().map(|(seconds, _)| seconds).sum::<f64>();
        plain.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let (_, median_seconds) = least_and_median(plain.iter().map(|(seconds, _)| *seconds).collect());
        let (seconds, fastest) = plain.into_iter().next().unwrap_or_default();
        let gflops = fastest.flop / seconds * 1e-9;
        let step = Step {
            seconds,
            median_seconds,
            tokens_per_s: fastest.tokens as f64 / seconds,
            gflops,
            of_peak: gflops / machine.gflops(storage),
            forward,
            backward,
            optimiser,
            rest: (clocked - forward - backward - optimiser).max(0.0),
            loading,
        };
        Ok((machine, step, ops))
    }

    /// Sets each op against its floor.
    fn rate(&self, ops: &mut Vec<Op>, outcome: &Outcome, storage: Storage, machine: &Machine, step: f64) {
        let (config, model) = (&self.session.config, self.session.model.config());
        let micro_batches = config.micro_batches();
        // Random documents differ from step to step; what they cost says how many pairs there were.
        let flops = Flops::of(model);
        let products = flops.training(outcome.tokens as f64, 0.0);
        let pairs = (outcome.flop - products) / flops.training(0.0, 1.0);
        let floors = Floors::of(
            model,
            outcome.tokens as usize / micro_batches,
            (pairs / micro_batches as f64).round() as usize,
        );
        let floors = floors.times(micro_batches).with_optimiser(self.session.model.layout().len());
        let size = match storage {
            Storage::F32 => 4,
            Storage::Bf16 => 2,
        };
        ops.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        for op in ops {
            op.of_step = op.seconds / step;
            let Some(floor) = floors.get(op.op) else { continue };
            let gb_s = floor.bytes_of(size) as f64 / op.seconds * 1e-9;
            (op.gb_s, op.of_copy) = (Some(gb_s), Some(gb_s / machine.copy_gb_s));
            if floor.flops > 0 {
                let gflops = floor.flops as f64 / op.seconds * 1e-9;
                (op.gflops, op.of_peak) = (Some(gflops), Some(gflops / machine.gflops(storage)));
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Forward,
    Backward,
    Optimiser,
}

/// Where an op belongs. The rotation, which is called in both passes, counts as forward; the losses, which make gradients, as
/// backward.
fn phase_of(op: &str) -> Phase {
    let backward = ["_backward", "_dgrad", "_wgrad"].iter().any(|end| op.ends_with(end));
    let loss = ["cross_entropy", "load_balance", "mutual_information", "redundancy"].contains(&op);
    match op {
        "adamw" | "sum_of_squares" => Phase::Optimiser,
        _ if backward || loss || op.ends_with("_consistency") => Phase::Backward,
        _ => Phase::Forward,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::compare;

    const SMALL: [&str; 4] = ["data.sequence=16", "train.batch=2", "model.layers=2", "model.vocabulary=64"];

    fn small(more: &[String]) -> Config {
        let mut set: Vec<String> = SMALL.map(String::from).to_vec();
        set.extend_from_slice(more);
        Config::load("bench-olmoe", &set).unwrap()
    }

    fn reports<T: simd::Storage>(cpu: Cpu<T>, storage: Storage) {
        let config = small(&[format!("train.storage={storage}")]);
        let mut trial = Trial::new(Arc::new(cpu), config).unwrap();
        let machine = Machine { threads: 2, f32_gflops: 500.0, bf16_gflops: 1000.0, copy_gb_s: 50.0 };
        let mut done = Vec::new();
        let (_, step, ops) = trial.measure(storage, || Ok(machine), 2, |n| done.push(n)).unwrap();
        assert_eq!(done, [1, 2]);
        let calls = |name| ops.iter().find(|op| op.op == name).map(|op| op.calls);
        assert_eq!(calls("experts_forward"), Some(2));
        assert_eq!(calls("linear_wgrad"), Some(5), "two products in each layer's attention, and the head");
        for op in &ops {
            assert!(op.seconds > 0.0 && op.of_step > 0.0 && op.of_step < 1.0, "{op:?}");
        }
        let experts = ops.iter().find(|op| op.op == "experts_forward").unwrap();
        let expected = 2.0 * 2.0 * 32.0 * 4.0 * 256.0 * 3.0 * 128.0 * 1e-9 / experts.seconds;
        assert!((experts.gflops.unwrap() / expected - 1.0).abs() < 1e-9);
        assert!((experts.of_peak.unwrap() * machine.gflops(storage) / expected - 1.0).abs() < 1e-9);
        assert!(step.forward > 0.0 && step.backward > 0.0 && step.optimiser > 0.0);
        assert!(step.loading > 0.0 && step.loading < 1.0);
        assert!((step.tokens_per_s * step.seconds / 32.0 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_step_and_its_ops_are_set_against_the_peaks() {
        reports(Cpu::new(2).unwrap(), Storage::F32);
        reports(Cpu::new(2).unwrap().storing::<half::bf16>(), Storage::Bf16);
    }

    #[test]
    fn two_models_take_turns() {
        let [mixture, dense] = compare::dense_twin(&small(&[])).unwrap().map(|set| small(&set));
        let cpu = Arc::new(Cpu::new(1).unwrap());
        let comparison = compare::alternate("a : b", &cpu, [mixture, dense], 3, |_| {}).unwrap();
        assert!(comparison.ratio > 0.0 && comparison.ratio.is_finite());
        assert!(comparison.first.0 <= comparison.first.1 && comparison.second.0 <= comparison.second.1);
    }
}

//! How fast a run is going.

use std::time::Instant;

/// Weight of the past in the averages, a step at a time: about the last twenty steps.
const MEMORY: f64 = 0.95;

/// Averages over the recent steps, and the time left.
#[derive(Debug)]
pub struct Throughput {
    started: Instant,
    before: f64,
    last: Instant,
    weight: f64,
    seconds: f64,
    tokens: f64,
    flop: f64,
    all_seconds: f64,
    all_tokens: f64,
}

impl Throughput {
    /// Starts the clock; `before` seconds were trained before a resume.
    #[must_use]
    pub fn start(before: f64) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            before,
            last: now,
            weight: 0.0,
            seconds: 0.0,
            tokens: 0.0,
            flop: 0.0,
            all_seconds: 0.0,
            all_tokens: 0.0,
        }
    }

    /// Time that is no training, such as a validation, does not count against the speed.
    pub fn skip(&mut self) {
        self.last = Instant::now();
    }

    /// A step is done; returns its own seconds.
    pub fn step(&mut self, tokens: f64, flop: f64) -> f64 {
        let seconds = self.last.elapsed().as_secs_f64().max(1e-9);
        self.last = Instant::now();
        for (average, value) in
            [(&mut self.seconds, seconds), (&mut self.tokens, tokens), (&mut self.flop, flop)]
        {
            *average = MEMORY * *average + value;
        }
        self.all_seconds += seconds;
        self.all_tokens += tokens;
        self.weight = MEMORY * self.weight + 1.0;
        seconds
    }

    /// Tokens a second over all steps since the start or resume; 0 before the first.
    #[must_use]
    pub fn mean_tokens_per_s(&self) -> f64 {
        if self.all_seconds > 0.0 { self.all_tokens / self.all_seconds } else { 0.0 }
    }

    /// Tokens a second, recently.
    #[must_use]
    pub fn tokens_per_s(&self) -> f64 {
        self.tokens / self.seconds
    }

    /// Model FLOP a second, recently.
    #[must_use]
    pub fn flops_per_s(&self) -> f64 {
        self.flop / self.seconds
    }

    /// Seconds that `steps` more steps will take; none before the first step.
    #[must_use]
    pub fn eta(&self, steps: u64) -> Option<f64> {
        (self.weight > 0.0).then(|| steps as f64 * self.seconds / self.weight)
    }

    /// Seconds since the run began, those before a resume included.
    #[must_use]
    pub fn elapsed(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }
}

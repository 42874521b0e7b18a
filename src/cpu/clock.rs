//! Where the time goes: a clock that counts each op of a backend, off unless it is asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What one op took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpTime {
    /// The method of [`crate::Backend`].
    pub op: &'static str,
    /// How often it was called.
    pub calls: usize,
    /// Seconds of all calls together.
    pub seconds: f64,
}

/// Times of ops, in the order in which they were first called.
#[derive(Debug, Default)]
pub(super) struct Clock {
    running: AtomicBool,
    times: Mutex<Vec<OpTime>>,
}

impl Clock {
    /// Starts from nothing.
    pub fn start(&self) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.running.store(true, Ordering::Relaxed);
    }

    /// Stops and returns what was counted.
    pub fn stop(&self) -> Vec<OpTime> {
        self.running.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls `f`, which is `op`.
    #[inline]
    pub fn time<R>(&self, op: &'static str, f: impl FnOnce() -> R) -> R {
        if !self.running.load(Ordering::Relaxed) {
            return f();
        }
        let start = Instant::now();
        let result = f();
        let seconds = start.elapsed().as_secs_f64();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        match times.iter_mut().find(|time| time.op == op) {
            Some(time) => {
                time.calls += 1;
                time.seconds += seconds;
            }
            None => times.push(OpTime { op, calls: 1, seconds }),
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_clock_counts() {
        let clock = Clock::default();
        assert_eq!(clock.time("a", || 1), 1);
        assert_eq!(clock.stop(), []);
        clock.start();
        (0..3).for_each(|_| clock.time("a", || ()));
        clock.time("b", || std::thread::sleep(std::time::Duration::from_millis(2)));
        let times = clock.stop();
        assert_eq!(times.iter().map(|t| (t.op, t.calls)).collect::<Vec<_>>(), [("a", 3), ("b", 1)]);
        assert!(times[1].seconds >= 0.002);
        clock.time("b", || ());
        assert_eq!(clock.stop(), []);
    }
}

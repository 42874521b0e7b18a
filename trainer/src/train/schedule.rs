//! The learning rate over the steps.

use crate::config::{Schedule, Shape};

/// Share of the peak learning rate in `step` (from 1) of `steps`.
///
/// Linear `step / warmup` up to the warm-up's end, then with `u` running from 0 there to 1 at the last step
/// `f + (1 - f) (1 + cos(pi u)) / 2` (cosine) or `1 - (1 - f) u` (linear), with `f = final_fraction`; WSD stays at 1 and
/// falls in a straight line over the last `decay_fraction` of the steps.
/// Source: Loshchilov & Hutter 2017 (arXiv 1608.03983); Hu et al. 2024 (arXiv 2404.06395); emo.md 4.2.
#[must_use]
pub fn factor(schedule: &Schedule, step: u64, steps: u64) -> f64 {
    if step < schedule.warmup {
        return step as f64 / schedule.warmup as f64;
    }
    let span = steps.saturating_sub(schedule.warmup).max(1);
    let u = ((step - schedule.warmup) as f64 / span as f64).min(1.0);
    let floor = schedule.final_fraction;
    match schedule.shape {
        Shape::Constant => 1.0,
        Shape::Linear => 1.0 - (1.0 - floor) * u,
        Shape::Wsd => {
            let decay = (steps as f64 * schedule.decay_fraction).min(span as f64);
            let left = steps.saturating_sub(step) as f64;
            if left < decay { floor + (1.0 - floor) * left / decay } else { 1.0 }
        }
        Shape::Cosine => floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * u).cos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_one_at_the_end_of_the_warm_up_and_falls_to_the_fraction() {
        for (shape, middle) in [(Shape::Cosine, 0.55), (Shape::Linear, 0.55), (Shape::Constant, 1.0)] {
            let schedule = Schedule { warmup: 10, shape, final_fraction: 0.1, decay_fraction: 0.2 };
            assert_eq!(factor(&schedule, 1, 110), 0.1);
            assert_eq!(factor(&schedule, 5, 110), 0.5);
            assert_eq!(factor(&schedule, 10, 110), 1.0);
            assert!((factor(&schedule, 60, 110) - middle).abs() < 1e-12);
            let last = if shape == Shape::Constant { 1.0 } else { 0.1 };
            assert!((factor(&schedule, 110, 110) - last).abs() < 1e-12);
            assert!((factor(&schedule, 500, 110) - last).abs() < 1e-12);
        }
    }

    #[test]
    fn warm_up_stable_decay_holds_the_peak_until_the_last_fifth() {
        let schedule = Schedule { warmup: 10, shape: Shape::Wsd, final_fraction: 0.1, decay_fraction: 0.2 };
        let at = |step| factor(&schedule, step, 100);
        assert_eq!((at(5), at(10), at(50), at(80)), (0.5, 1.0, 1.0, 1.0));
        assert!((at(90) - 0.55).abs() < 1e-12 && (at(100) - 0.1).abs() < 1e-12);
        // A decay longer than what follows the warm-up starts at its end.
        let schedule = Schedule { decay_fraction: 1.0, ..schedule };
        assert_eq!(factor(&schedule, 10, 100), 1.0);
        assert!(factor(&schedule, 11, 100) < 1.0);
    }

    #[test]
    fn no_warm_up_starts_near_the_peak_and_a_run_inside_the_warm_up_never_reaches_it() {
        let schedule = Schedule { warmup: 0, shape: Shape::Cosine, final_fraction: 0.0, decay_fraction: 0.2 };
        assert!(factor(&schedule, 1, 100) > 0.99);
        let schedule = Schedule { warmup: 100, ..schedule };
        assert_eq!(factor(&schedule, 10, 10), 0.1);
    }
}

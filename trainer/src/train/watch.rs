//! Which experts work: what the terminal shows of the load.

use serde::Serialize;

/// Steps without a single token after which an expert counts as dead.
pub const DEAD_AFTER: u64 = 50;

/// The load of the last step, and experts that have been idle for long.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Load {
    /// The busiest expert of any layer, as a multiple of its layer's mean; 1 is perfect balance.
    pub busiest: f64,
    /// Experts of all layers that no token has chosen for [`DEAD_AFTER`] steps.
    pub dead: usize,
    /// Routed experts of all layers.
    pub experts: usize,
}

/// When each expert was last chosen.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    started: Option<u64>,
    last_used: Vec<Vec<u64>>,
}

impl Watch {
    /// Takes in the slots of each routed expert in `step`, layer by layer; none where no layer has experts.
    pub fn step(&mut self, step: u64, counts: &[Vec<u64>]) -> Option<Load> {
        if counts.is_empty() {
            return None;
        }
        // Before the first step nobody knows: the idle time counts from there.
        let started = *self.started.get_or_insert(step.saturating_sub(1));
        self.last_used.resize(counts.len(), Vec::new());
        let mut load = Load::default();
        for (last_used, counts) in self.last_used.iter_mut().zip(counts) {
            last_used.resize(counts.len(), started);
            for (last, &count) in last_used.iter_mut().zip(counts) {
                if count > 0 {
                    *last = step;
                }
            }
            let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
            let most = counts.iter().max().copied().unwrap_or_default() as f64;
            load.busiest = load.busiest.max(if mean > 0.0 { most / mean } else { 0.0 });
            load.dead += last_used.iter().filter(|&&last| step - last >= DEAD_AFTER).count();
            load.experts += counts.len();
        }
        Some(load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expert_dies_after_fifty_idle_steps_and_lives_again_with_one_token() {
        let mut watch = Watch::default();
        let mut at = |step, counts: [u64; 3]| watch.step(step, &[counts.to_vec(), vec![2, 2]]).unwrap();
        assert_eq!(at(101, [3, 3, 0]), Load { busiest: 1.5, dead: 0, experts: 5 });
        for step in 102..=149 {
            assert_eq!(at(step, [6, 0, 0]).dead, 0);
        }
        assert_eq!(at(150, [6, 0, 0]).dead, 1);
        assert_eq!(at(151, [6, 0, 0]), Load { busiest: 3.0, dead: 2, experts: 5 });
        assert_eq!(at(152, [0, 5, 1]).dead, 0);
    }

    #[test]
    fn a_dense_model_has_no_load() {
        assert_eq!(Watch::default().step(1, &[]), None);
    }
}

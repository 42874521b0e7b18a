//! How the balance of the experts went over training.

use serde::{Deserialize, Serialize};

use crate::metrics::{LoadSummary, StepRecord};

/// The balance of every layer around one step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LoadPoint {
    /// The last step of the stretch.
    pub step: u64,
    /// Means over the stretch, one entry a layer with experts.
    pub layers: Vec<LoadSummary>,
}

/// At most `points` means over equally long stretches of the steps that have a load.
#[must_use]
pub fn over_time(steps: &[StepRecord], points: usize) -> Vec<LoadPoint> {
    let layers = steps.iter().map(|record| record.expert_load.len()).max().unwrap_or(0);
    let loaded: Vec<&StepRecord> =
        steps.iter().filter(|record| layers > 0 && record.expert_load.len() == layers).collect();
    let stretch = loaded.len().div_ceil(points.max(1)).max(1);
    let mean = |records: &[&StepRecord], layer: usize| {
        let over = |value: fn(&LoadSummary) -> f64| {
            records.iter().map(|record| value(&record.expert_load[layer])).sum::<f64>() / records.len() as f64
        };
        LoadSummary {
            max: over(|load| load.max),
            min: over(|load| load.min),
            entropy: over(|load| load.entropy),
        }
    };
    loaded
        .chunks(stretch)
        .map(|records| LoadPoint {
            step: records[records.len() - 1].step,
            layers: (0..layers).map(|layer| mean(records, layer)).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_averaged_and_steps_without_load_left_out() {
        let record = |step: u64| StepRecord {
            step,
            expert_load: if step == 3 {
                Vec::new()
            } else {
                vec![LoadSummary { max: step as f64, min: 0.5, entropy: 1.0 }]
            },
            ..StepRecord::default()
        };
        let steps: Vec<StepRecord> = (1..=6).map(record).collect();
        let found = over_time(&steps, 3);
        let seen: Vec<(u64, f64)> = found.iter().map(|point| (point.step, point.layers[0].max)).collect();
        assert_eq!(seen, [(2, 1.5), (5, 4.5), (6, 6.0)]);
        assert!(over_time(&[StepRecord::default()], 3).is_empty());
    }
}

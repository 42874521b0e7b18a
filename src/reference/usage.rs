//! How evenly the experts of a layer are used, from `counts[E]`.

/// Figures of balance, with `μ` the mean count and `f_e = c_e / Σ c`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// `max_e c_e / μ`; 1 is perfect balance.
    pub max_over_mean: f64,
    /// Coefficient of variation, `sqrt(mean_e (c_e - μ)²) / μ` (population); 0 is perfect balance.
    pub coefficient_of_variation: f64,
    /// `-Σ_e f_e ln f_e / ln E`; 1 is perfect balance, also for one expert.
    pub normalised_entropy: f64,
    /// Experts with a count of 0.
    pub dead: usize,
}

/// The figures of `counts[E]`. Without any count the ratios are 0 and every expert is dead.
pub fn forward(counts: &[u64]) -> Usage {
    let experts = counts.len() as f64;
    let total = counts.iter().sum::<u64>() as f64;
    let dead = counts.iter().filter(|c| **c == 0).count();
    if total == 0.0 {
        return Usage { max_over_mean: 0.0, coefficient_of_variation: 0.0, normalised_entropy: 0.0, dead };
    }
    let mean = total / experts;
    let variance = counts.iter().map(|c| (*c as f64 - mean).powi(2)).sum::<f64>() / experts;
    let used = counts.iter().filter(|c| **c > 0).map(|c| *c as f64 / total);
    let entropy: f64 = -used.map(|f| f * f.ln()).sum::<f64>();
    Usage {
        max_over_mean: counts.iter().copied().max().unwrap_or(0) as f64 / mean,
        coefficient_of_variation: variance.sqrt() / mean,
        normalised_entropy: if counts.len() == 1 { 1.0 } else { entropy / experts.ln() },
        dead,
    }
}

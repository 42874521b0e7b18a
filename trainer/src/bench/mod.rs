//! What this processor can do, and what share of it a training step and each of its ops reach.
//!
//! * [`machine`] — the yardsticks: multiply-adds that stay in registers, and copying
//! * [`step`] — whole steps, with and without a clock on each op
//! * [`floors`] — what the ops of a step must do at least
//! * [`compare`] — two models whose steps alternate, so that a drift of the machine hits both
//! * [`layer`] — one mixture layer on routing that is balanced or not
//! * [`memory`] — the peak of a step

pub mod compare;
pub mod floors;
pub mod layer;
pub mod machine;
pub mod memory;
pub mod step;

/// The least and the median of some seconds, which are not empty.
#[must_use]
pub fn least_and_median(mut seconds: Vec<f64>) -> (f64, f64) {
    seconds.sort_by(f64::total_cmp);
    (
        seconds.first().copied().unwrap_or(f64::NAN),
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN),
    )
}

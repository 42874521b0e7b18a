//! One runner a kind of case. The kind is the case's name up to the first underscore.

mod gemm;
mod moe;
mod permutation;
mod pool;
mod router;
mod smoothing;

use super::backend::KernelBackend;
use super::case::{Case, Outcome};
use emo::ops::router::{Normalise, RouterConfig, Score, SharedWeight};

/// Runs one case.
pub fn run(backend: &dyn KernelBackend, case: &Case) -> Outcome {
    match case.name.split('_').next().unwrap_or_default() {
        "router" => router::run(backend, case),
        "lb" if case.name.starts_with("lb_hf") => router::run_pooled_load_balance(backend, case),
        "usage" => router::run_usage(backend, case),
        "smooth" => smoothing::run(backend, case),
        "perm" => permutation::run(backend, case),
        "ggemm" => gemm::run(backend, case),
        "moe" => moe::run(backend, case),
        "pool" => pool::run(backend, case),
        _ => Err(format!("the kind of {} is unknown", case.name)),
    }
}

/// The router that a case's parameters describe, over `experts` experts.
fn router_config(case: &Case, experts: usize) -> Outcome<RouterConfig> {
    case.sizes(&[("E", experts)])?;
    let score = match case.param("score").map(|score| score.as_str()) {
        None | Some(Some("softmax")) => Score::Softmax,
        Some(Some("sigmoid")) => Score::Sigmoid,
        Some(_) => return Err(format!("score {} is unknown", case.params["score"])),
    };
    let cfg = RouterConfig {
        experts,
        top_k: case.count("k")?,
        shared: case.optional_count(&["n_shared"])?.unwrap_or(0),
        shared_weight: SharedWeight::One,
        score,
        temperature: case.optional_number(&["temperature", "temp"])?.unwrap_or(1.0),
        normalise: match case.optional_number(&["norm"])? {
            Some(p) => Normalise::Lp(p),
            None => Normalise::None,
        },
        always_active: Vec::new(),
    };
    let fits = cfg.shared <= cfg.top_k && cfg.top_k <= experts && cfg.shared < experts;
    let fits = fits && cfg.top_k - cfg.shared <= experts - cfg.shared && cfg.temperature > 0.0;
    fits.then_some(cfg).ok_or_else(|| format!("the router {} does not fit {experts} experts", case.params))
}

/// The absolute values of `x`.
fn abs(x: &[f64]) -> Vec<f64> {
    x.iter().map(|v| v.abs()).collect()
}

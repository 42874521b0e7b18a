//! `perm_*`: plan, dispatch and combine with their gradients.

use super::abs;
use crate::common::backend::KernelBackend;
use crate::common::case::{Case, Outcome};
use crate::common::compare::Tolerance;
use emo::reference::permutation;

pub fn run(backend: &dyn KernelBackend, case: &Case) -> Outcome {
    let [tokens, k] = case.shape("in_idx")?;
    let [_, d] = case.shape("in_x")?;
    case.sizes(&[("T", tokens), ("k", k)])?;
    let experts = case.count("E")?;
    let tolerance = backend.tolerance();

    let plan = backend.plan(&case.indices("in_idx")?, k, experts);
    case.check_exact("out_order", &plan.order)?;
    case.check_exact("out_token", &plan.token)?;
    case.check_exact("out_offsets", &plan.offsets)?;
    case.check_exact("out_inverse", &plan.inverse)?;

    // A copy: exact wherever the storage holds the inputs, which are exact in f32.
    let relative = if tolerance.relative < 1e-5 { 0.0 } else { tolerance.relative };
    let copied = Tolerance { relative, ..tolerance };
    case.check(&copied, "out_xp", &backend.dispatch(&plan, case.values("in_x")?, d))?;
    let drows = case.values("in_dxp")?;
    let terms = permutation::dispatch_backward(&plan, &abs(drows), d, tokens);
    case.check_terms(&tolerance, "out_grad_x", &backend.dispatch_backward(&plan, drows, d, tokens), &terms)?;

    let (rows, weights, dy) = (case.values("in_yp")?, case.values("in_w")?, case.values("in_dy")?);
    let y = backend.combine(&plan, rows, weights, d, tokens);
    let terms = permutation::combine(&plan, &abs(rows), &abs(weights), d, tokens);
    case.check_terms(&tolerance, "out_y", &y, &terms)?;
    let (drows, dweights) = backend.combine_backward(&plan, rows, weights, dy, d);
    let terms = permutation::combine_backward(&plan, &abs(rows), &abs(weights), &abs(dy), d);
    case.check_terms(&tolerance, "out_grad_yp", &drows, &terms.0)?;
    case.check_terms(&tolerance, "out_grad_w", &dweights, &terms.1)
}

//! `ggemm_*`: grouped GEMM forward, dgrad and wgrad.

use super::abs;
use crate::common::backend::KernelBackend;
use crate::common::case::{Case, Outcome};
use emo::reference::grouped_gemm;

pub fn run(backend: &dyn KernelBackend, case: &Case) -> Outcome {
    let [rows, k] = case.shape("in_x")?;
    let [experts, n, k_w] = case.shape("in_w")?;
    let offsets = case.indices("in_offsets")?;
    case.sizes(&[("K", k), ("N", n), ("K", k_w)])?;
    let sizes: Vec<u32> = offsets.windows(2).map(|o| o[1] - o[0]).collect();
    if case.param("sizes").is_some_and(|stated| *stated != serde_json::json!(sizes)) {
        return Err(format!("parameter sizes = {}, but in_offsets say {sizes:?}", case.params["sizes"]));
    }
    if offsets.len() != experts + 1 || offsets.last().map(|o| *o as usize) != Some(rows) {
        return Err(format!("in_offsets {offsets:?} do not cover {rows} rows of {experts} experts"));
    }
    let (x, w, dy) = (case.values("in_x")?, case.values("in_w")?, case.values("in_dy")?);
    let tolerance = backend.tolerance();

    let y = backend.grouped_forward(x, &offsets, w, k, n);
    let terms = grouped_gemm::forward(&abs(x), None, &offsets, &abs(w), k, n);
    case.check_terms(&tolerance, "out_y", &y, &terms)?;
    let dx = backend.grouped_dgrad(dy, &offsets, w, k, n);
    case.check_terms(&tolerance, "out_dx", &dx, &grouped_gemm::dgrad(&abs(dy), &offsets, &abs(w), k, n))?;
    let dw = backend.grouped_wgrad(x, dy, &offsets, k, n);
    case.check_terms(&tolerance, "out_dw", &dw, &grouped_gemm::wgrad(&abs(x), None, &abs(dy), &offsets, k, n))
}

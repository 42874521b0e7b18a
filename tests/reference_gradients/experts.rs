//! Permutation, grouped GEMM, expert MLPs and the whole layer.

use crate::dense::ACTIVATIONS;
use crate::{check, dot, noise};
use emo::ops::router::{Normalise, RouterConfig, Score, SharedWeight};
use emo::reference::experts::{self, Mlp};
use emo::reference::moe::{self, AuxGradients, Layer};
use emo::reference::{grouped_gemm, permutation};

#[test]
fn dispatch_and_combine() {
    let (tokens, k, d) = (4, 2, 3);
    let plan = permutation::plan(&[3, 1, 1, 0, 3, 1, 1, 1], k, 5);
    assert_eq!(plan.offsets, [0, 1, 6, 6, 8, 8]);
    assert_eq!(plan.order, [3, 1, 2, 5, 6, 7, 0, 4], "stable inside an expert");
    let (x, rows, weights) = (noise(tokens * d, 1), noise(tokens * k * d, 2), noise(tokens * k, 3));
    let (drows, dy) = (noise(tokens * k * d, 4), noise(tokens * d, 5));
    let dx = permutation::dispatch_backward(&plan, &drows, d, tokens);
    check("dispatch dx", &x, &dx, |x| dot(&drows, &permutation::dispatch(&plan, x, d)));
    let combine =
        |rows: &[f64], weights: &[f64]| dot(&dy, &permutation::combine(&plan, rows, weights, d, tokens));
    let (drows, dweights) = permutation::combine_backward(&plan, &rows, &weights, &dy, d);
    check("combine drows", &rows, &drows, |rows| combine(rows, &weights));
    check("combine dweights", &weights, &dweights, |weights| combine(&rows, weights));
}

#[test]
fn grouped() {
    let (offsets, gather, k, n) = ([0, 0, 3, 3, 4], [2, 0, 2, 1], 5, 3);
    let (x, w, dy) = (noise(3 * k, 1), noise(4 * n * k, 2), noise(4 * n, 3));
    let forward =
        |x: &[f64], g: Option<&[u32]>, w: &[f64]| dot(&dy, &grouped_gemm::forward(x, g, &offsets, w, k, n));
    let dw = grouped_gemm::wgrad(&x, Some(&gather), &dy, &offsets, k, n);
    check("gathered dw", &w, &dw, |w| forward(&x, Some(&gather), w));
    let rows = noise(4 * k, 4);
    check("dx", &rows, &grouped_gemm::dgrad(&dy, &offsets, &w, k, n), |rows| forward(rows, None, &w));
    let dw = grouped_gemm::wgrad(&rows, None, &dy, &offsets, k, n);
    check("dw", &w, &dw, |w| forward(&rows, None, w));
    assert!(dw[2 * n * k..3 * n * k].iter().all(|g| *g == 0.0), "an expert without rows");
}

#[test]
fn expert_mlps() {
    let (tokens, k, n_experts, d, h) = (4, 2, 5, 3, 4);
    let plan = permutation::plan(&[3, 1, 1, 0, 3, 1, 1, 0], k, n_experts);
    for activation in ACTIVATIONS {
        for gated in [false, true] {
            let mlp = Mlp { activation, gated, width: d, hidden: h };
            let (x, weights, dy) = (noise(tokens * d, 1), noise(tokens * k, 2), noise(tokens * d, 3));
            let (w_in, w_out) = (noise(n_experts * mlp.pre_width() * d, 4), noise(n_experts * d * h, 5));
            let row_grad = noise(tokens * k * d, 6);
            let forward = |x: &[f64], w_in: &[f64], w_out: &[f64], weights: &[f64]| {
                let out = experts::forward(&mlp, x, &plan, w_in, w_out);
                dot(&dy, &permutation::combine(&plan, &out.rows, weights, d, tokens))
                    + dot(&row_grad, &out.rows)
            };
            let out = experts::forward(&mlp, &x, &plan, &w_in, &w_out);
            let grad =
                experts::backward(&mlp, &x, &plan, &w_in, &w_out, &out.pre, &weights, &dy, Some(&row_grad));
            let dx = permutation::dispatch_backward(&plan, &grad.dx_rows, d, tokens);
            check(&format!("{mlp:?} dx"), &x, &dx, |x| forward(x, &w_in, &w_out, &weights));
            check(&format!("{mlp:?} dw_in"), &w_in, &grad.dw_in, |w| forward(&x, w, &w_out, &weights));
            check(&format!("{mlp:?} dw_out"), &w_out, &grad.dw_out, |w| forward(&x, &w_in, w, &weights));
            check(&format!("{mlp:?} dweights"), &weights, &grad.dweights, |w| forward(&x, &w_in, &w_out, w));
        }
    }
}

#[test]
fn the_whole_layer() {
    let (tokens, d, h) = (5, 3, 2);
    let cfg = RouterConfig {
        experts: 6,
        top_k: 3,
        shared: 1,
        shared_weight: SharedWeight::One,
        score: Score::Softmax,
        temperature: 0.8,
        normalise: Normalise::Lp(2.0),
        always_active: vec![],
    };
    let mlp = Mlp { activation: ACTIVATIONS[0], gated: true, width: d, hidden: h };
    let keep: Vec<bool> = (0..tokens * 5).map(|i| i % 4 != 1).collect();
    let (x, w_router, bias) = (noise(tokens * d, 1), noise(6 * d, 2), noise(6, 3));
    let (w_in, w_out, selection_bias) = (noise(6 * 2 * h * d, 4), noise(6 * d * h, 5), noise(5, 6));
    let layer = Layer {
        router: &cfg,
        mlp,
        w_router: &w_router,
        bias: Some(&bias),
        selection_bias: Some(&selection_bias),
        keep: Some(&keep),
        w_in: &w_in,
        w_out: &w_out,
    };
    let (dy, dprobs, dlse) = (noise(tokens * d, 7), noise(tokens * 5, 8), noise(tokens, 9));
    let loss = |layer: &Layer, x: &[f64]| {
        let out = moe::forward(layer, x);
        let routing = dot(&dprobs, &out.routing.probs) + dot(&dlse, &out.routing.lse);
        dot(&dy, &out.y) + routing
    };
    let aux = AuxGradients { dprobs: &dprobs, dlse: &dlse };
    let grad = moe::backward(&layer, &x, &moe::forward(&layer, &x), &dy, &aux);
    check("dx", &x, &grad.dx, |x| loss(&layer, x));
    check("dw_router", &w_router, &grad.dw_router, |w| loss(&Layer { w_router: w, ..layer }, &x));
    check("dbias", &bias, &grad.dbias, |b| loss(&Layer { bias: Some(b), ..layer }, &x));
    check("dw_in", &w_in, &grad.dw_in, |w| loss(&Layer { w_in: w, ..layer }, &x));
    check("dw_out", &w_out, &grad.dw_out, |w| loss(&Layer { w_out: w, ..layer }, &x));

    let out = moe::forward(&layer, &[]);
    assert_eq!((out.y.len(), out.plan.offsets), (0, vec![0; 7]), "no tokens");
}

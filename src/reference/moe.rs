//! The whole Mixture-of-Experts layer: logits, router, plan, experts, combine.
//!
//! `y[t, :] = Σ_j weights[t, j] MLP_{indices[t, j]}(x[t, :])`, with weights and indices of [`super::router`].

use super::{add_scaled, experts, permutation, router, router_logits};
use crate::ops::router::RouterConfig;
use experts::Mlp;
use permutation::Plan;

/// What the layer reads besides its input; the parameters and the per-token mask.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// The router.
    pub router: &'a RouterConfig,
    /// The shape and kind of the experts.
    pub mlp: Mlp,
    /// Router weight `[E, d]`.
    pub w_router: &'a [f64],
    /// Gate bias `[E]`, added to the logits.
    pub bias: Option<&'a [f64]>,
    /// Selection bias `[E_r]`, added to the scores for choosing only.
    pub selection_bias: Option<&'a [f64]>,
    /// Keep mask `[T, E_r]`, false where a token may not use an expert.
    pub keep: Option<&'a [bool]>,
    /// `[E, 2h, d]` (gate rows, then up rows) or `[E, h, d]`.
    pub w_in: &'a [f64],
    /// `[E, d, h]`.
    pub w_out: &'a [f64],
}

/// What [`forward`] returns; all but `y` is what the backward and the losses need.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Router logits `[T, E]`.
    pub logits: Vec<f64>,
    /// Scores, weights, indices, counts, logsumexp.
    pub routing: router::Output,
    /// The dispatch plan.
    pub plan: Plan,
    /// Pre-activations and expert outputs.
    pub experts: experts::Output,
    /// The layer's output `[T, d]`.
    pub y: Vec<f64>,
}

/// Gradients that auxiliary losses put on the router.
#[derive(Debug, Clone, Copy)]
pub struct AuxGradients<'a> {
    /// On the scores, `[T, E_r]`.
    pub dprobs: &'a [f64],
    /// On the logsumexp of the biased logits, `[T]`.
    pub dlse: &'a [f64],
}

/// What [`backward`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// With respect to the input, `[T, d]`.
    pub dx: Vec<f64>,
    /// With respect to the router weight, `[E, d]`.
    pub dw_router: Vec<f64>,
    /// With respect to the gate bias, `[E]`.
    pub dbias: Vec<f64>,
    /// With respect to `w_in`.
    pub dw_in: Vec<f64>,
    /// With respect to `w_out`.
    pub dw_out: Vec<f64>,
}

/// The layer on `x[T, d]`.
pub fn forward(layer: &Layer, x: &[f64]) -> Output {
    let (cfg, d) = (layer.router, layer.mlp.width);
    let logits = router_logits::forward(x, layer.w_router, d, cfg.experts);
    let routing = router::forward(cfg, &logits, layer.bias, layer.selection_bias, layer.keep);
    let plan = permutation::plan(&routing.indices, cfg.top_k, cfg.experts);
    let experts = experts::forward(&layer.mlp, x, &plan, layer.w_in, layer.w_out);
    let y = permutation::combine(&plan, &experts.rows, &routing.weights, d, x.len() / d);
    Output { logits, routing, plan, experts, y }
}

/// Gradients from `dy[T, d]` and the auxiliary losses. `x` gets its gradient through the experts and through the router.
pub fn backward(layer: &Layer, x: &[f64], out: &Output, dy: &[f64], aux: &AuxGradients) -> Gradients {
    let (cfg, d) = (layer.router, layer.mlp.width);
    let weights = &out.routing.weights;
    let pre = &out.experts.pre;
    let mlp = experts::backward(&layer.mlp, x, &out.plan, layer.w_in, layer.w_out, pre, weights, dy, None);
    let mut dx = permutation::dispatch_backward(&out.plan, &mlp.dx_rows, d, x.len() / d);

    let routing = &out.routing;
    let router = router::backward(
        cfg,
        &out.logits,
        layer.bias,
        layer.keep,
        routing,
        &mlp.dweights,
        aux.dprobs,
        aux.dlse,
    );
    let (dx_router, dw_router) = router_logits::backward(x, layer.w_router, &router.dlogits, d, cfg.experts);
    add_scaled(&mut dx, 1.0, &dx_router);
    Gradients { dx, dw_router, dbias: router.dbias, dw_in: mlp.dw_in, dw_out: mlp.dw_out }
}

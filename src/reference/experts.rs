//! The expert MLPs over a plan.
//!
//! Row `r` of expert `e`, with `x = x[token[r], :]`:
//! ```text
//! gated:  g = x W_gate[e]ᵀ,  u = x W_up[e]ᵀ,  y = (f(g) ⊙ u) W_out[e]ᵀ      SwiGLU with f = SiLU (Shazeer 2002.05202)
//! plain:  g = x W_in[e]ᵀ,                     y =  f(g)      W_out[e]ᵀ
//! ```
//! `w_in[E, 2h, d]` holds the gate's rows and then the up rows (`[E, h, d]` when plain), `w_out[E, d, h]`. Only the
//! pre-activations are kept for the backward; what follows from them is recomputed.

use super::{activation, grouped_gemm, permutation};
use crate::ops::activation::Activation;
use permutation::Plan;

/// The shape and kind of an expert MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mlp {
    /// The non-linearity `f`.
    pub activation: Activation,
    /// Whether `f(g)` multiplies a second projection.
    pub gated: bool,
    /// Model width `d`.
    pub width: usize,
    /// Expert width `h`.
    pub hidden: usize,
}

impl Mlp {
    /// Columns of the pre-activations: `2h` when gated (gate, then up), else `h`.
    pub fn pre_width(&self) -> usize {
        if self.gated { 2 * self.hidden } else { self.hidden }
    }
}

/// What [`forward`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Pre-activations `[R, 2h]` (gate, then up) or `[R, h]`.
    pub pre: Vec<f64>,
    /// Expert outputs `[R, d]`, not yet weighted.
    pub rows: Vec<f64>,
}

/// What [`backward`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// With respect to the dispatched inputs, `[R, d]`.
    pub dx_rows: Vec<f64>,
    /// With respect to the slot weights, `[T, k]`.
    pub dweights: Vec<f64>,
    /// With respect to `w_in`.
    pub dw_in: Vec<f64>,
    /// With respect to `w_out`.
    pub dw_out: Vec<f64>,
}

/// `a = f(g) ⊙ u` or `f(g)`: pre-activations `[R, 2h | h]` to `[R, h]`.
pub fn hidden(mlp: &Mlp, pre: &[f64]) -> Vec<f64> {
    let h = mlp.hidden;
    let mut hidden = Vec::new();
    for pre in pre.chunks_exact(mlp.pre_width()) {
        for i in 0..h {
            let up = if mlp.gated { pre[h + i] } else { 1.0 };
            hidden.push(activation::value(mlp.activation, pre[i]) * up);
        }
    }
    hidden
}

/// Backward of [`hidden`]: `dg = da ⊙ u ⊙ f'(g)`, `du = da ⊙ f(g)`; `dhidden[R, h]` to `dpre[R, 2h | h]`.
pub fn hidden_backward(mlp: &Mlp, pre: &[f64], dhidden: &[f64]) -> Vec<f64> {
    let h = mlp.hidden;
    let mut dpre = Vec::new();
    for (pre, da) in pre.chunks_exact(mlp.pre_width()).zip(dhidden.chunks_exact(h)) {
        for i in 0..h {
            let up = if mlp.gated { pre[h + i] } else { 1.0 };
            dpre.push(da[i] * up * activation::derivative(mlp.activation, pre[i]));
        }
        if mlp.gated {
            dpre.extend((0..h).map(|i| da[i] * activation::value(mlp.activation, pre[i])));
        }
    }
    dpre
}

/// Runs every dispatched row of `x[T, d]` through its expert.
pub fn forward(mlp: &Mlp, x: &[f64], plan: &Plan, w_in: &[f64], w_out: &[f64]) -> Output {
    let pre = grouped_gemm::forward(x, Some(&plan.token), &plan.offsets, w_in, mlp.width, mlp.pre_width());
    let rows = grouped_gemm::forward(&hidden(mlp, &pre), None, &plan.offsets, w_out, mlp.hidden, mlp.width);
    Output { pre, rows }
}

/// Backward of [`forward`] followed by [`permutation::combine`] with `weights[T, k]`, from `dy[T, d]` and from an extra
/// gradient on the expert outputs, `row_grad[R, d]`. The outputs are recomputed from `pre`.
pub fn backward(
    mlp: &Mlp,
    x: &[f64],
    plan: &Plan,
    w_in: &[f64],
    w_out: &[f64],
    pre: &[f64],
    weights: &[f64],
    dy: &[f64],
    row_grad: Option<&[f64]>,
) -> Gradients {
    let (d, h, p) = (mlp.width, mlp.hidden, mlp.pre_width());
    let hidden = hidden(mlp, pre);
    let rows = grouped_gemm::forward(&hidden, None, &plan.offsets, w_out, h, d);
    let (mut drows, dweights) = permutation::combine_backward(plan, &rows, weights, dy, d);
    if let Some(row_grad) = row_grad {
        super::add_scaled(&mut drows, 1.0, row_grad);
    }
    let dw_out = grouped_gemm::wgrad(&hidden, None, &drows, &plan.offsets, h, d);
    let dhidden = grouped_gemm::dgrad(&drows, &plan.offsets, w_out, h, d);
    let dpre = hidden_backward(mlp, pre, &dhidden);
    let dw_in = grouped_gemm::wgrad(x, Some(&plan.token), &dpre, &plan.offsets, d, p);
    let dx_rows = grouped_gemm::dgrad(&dpre, &plan.offsets, w_in, d, p);
    Gradients { dx_rows, dweights, dw_in, dw_out }
}

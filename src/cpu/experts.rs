//! The expert MLPs of a layer, fused: rows are gathered while packing, the activation is computed while packing the
//! second product's operand, and the backward pass runs the activation's gradient on rows that are still in the cache.
//!
//! Notation, for row r of expert e with token `t = token[r]` and slot `s = order[r]`:
//! ```text
//! pre_r = W_in[e] x_t                     a_r = act(gate) * up, or act(pre_r) without gate       y_r = W_out[e] a_r
//! da'_r = dy_t W_out[e]                   dweights[s] = <dy_t, y_r> = <da'_r, a_r>
//! da_r  = weights[s] da'_r + g_r W_out[e] with g_r an optional gradient on y_r itself
//! dpre  = da * act'(pre), per half        dx_r = dpre_r W_in[e]
//! dW_out[e] += sum dy_t^T (weights[s] a_r) + g_r^T a_r            dW_in[e] += sum dpre_r^T x_t
//! ```
//! A layer keeps only `x` and `pre`; a, y and da are never stored.

use super::activation;
use super::check;
use super::gemm::by_groups::{self, ByGroups, by_groups};
use super::gemm::by_rows::{self, ByRows, Output, Weights, by_rows};
use super::gemm::rows::{Activated, Finish, Hidden, Keep, convert};
use super::gemm::{ALIGN, Machine};
use super::grouped_gemm::Gather;
use super::isa::Isa;
use super::simd::{Kernel, Simd, Storage};
use super::threads::DisjointMut;
use crate::ops::activation::Activation;
use crate::{Result, host};

/// The shape of every expert of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Experts.
    pub experts: usize,
    /// Model width d.
    pub width: usize,
    /// Hidden width h.
    pub hidden: usize,
    /// The non-linearity.
    pub activation: Activation,
    /// Whether `W_in` holds gate and up rows, `[2h, d]`, or `[h, d]`.
    pub gated: bool,
}

impl Shape {
    /// Rows of an expert's `W_in`, and the width of a row of `pre`.
    pub fn pre_width(self) -> usize {
        if self.gated { 2 * self.hidden } else { self.hidden }
    }

    /// f32 elements of workspace for [`forward`].
    pub fn forward_workspace_len<T: Storage>(self, threads: usize) -> usize {
        let Self { experts, width, hidden, .. } = self;
        let up = by_rows::workspace_len::<T>(experts, self.pre_width(), width, threads, false);
        up.max(by_rows::workspace_len::<T>(experts, width, hidden, threads, false))
    }

    /// f32 elements of workspace for [`backward`] of `rows` rows.
    pub fn backward_workspace_len<T: Storage>(self, rows: usize, threads: usize) -> usize {
        dpre_len::<T>(rows, self.pre_width()) + rows + ALIGN + self.backward_products_len::<T>(threads)
    }

    fn backward_products_len<T: Storage>(self, threads: usize) -> usize {
        let Self { experts, width, hidden, .. } = self;
        by_rows::workspace_len::<T>(experts, hidden, width, threads, true)
            .max(by_rows::workspace_len::<T>(experts, width, self.pre_width(), threads, false))
            .max(by_groups::workspace_len(threads))
    }

    fn check_weights(self, op: &'static str, w_in: usize, w_out: usize) -> Result<()> {
        check::len(
            op,
            "w_in",
            check::extent(op, "w_in", &[self.experts, self.pre_width(), self.width])?,
            w_in,
        )?;
        check::len(op, "w_out", check::extent(op, "w_out", &[self.experts, self.width, self.hidden])?, w_out)
    }
}

/// Words that hold the gradients of `rows` pre-activations.
fn dpre_len<T>(rows: usize, pre_width: usize) -> usize {
    (rows * pre_width).div_ceil(size_of::<f32>() / size_of::<T>()).next_multiple_of(ALIGN)
}

/// Which rows there are: sorted by expert.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Row ranges of the experts: `experts + 1` ascending values from 0.
    pub offsets: &'a [u32],
    /// The token of each row; `None` when row r is token r (a dense MLP).
    pub token: Option<&'a [u32]>,
}

/// The weights of the rows in the layer's output, by slot (token * k + choice).
#[derive(Debug)]
pub struct Slots<'a> {
    /// The slot of each row; every slot at most once.
    pub order: &'a [u32],
    /// The weight of each slot.
    pub weights: &'a [f32],
    /// Receives the gradient of each slot's weight; 0 for a slot without a row.
    pub dweights: &'a mut [f32],
}

impl Rows<'_> {
    fn check(self, op: &'static str, experts: usize) -> Result<usize> {
        check::len(op, "offsets", experts + 1, self.offsets.len())?;
        let rows = self.offsets[experts] as usize;
        host::offsets(op, "offsets", self.offsets, rows)?;
        Ok(rows)
    }
}

/// Computes `pre` `[rows, 2h or h]` and `y` `[rows, d]`, the experts' unweighted outputs, from `x` `[tokens, d]`.
///
/// # Errors
/// Wrong lengths, offsets that do not ascend, a token outside `x`.
pub fn forward<T: Storage>(
    machine: Machine,
    shape: Shape,
    rows: Rows,
    x: &[T],
    w_in: &[T],
    w_out: &[T],
    pre: &mut [T],
    y: &mut [T],
    workspace: &mut [f32],
) -> Result<()> {
    const OP: &str = "experts_forward";
    let count = rows.check(OP, shape.experts)?;
    let Shape { width, hidden, activation, gated, .. } = shape;
    let a = &Gather { data: x, index: rows.token }.check(OP, "x", count, width)?;
    shape.check_weights(OP, w_in.len(), w_out.len())?;
    check::len(OP, "pre", check::extent(OP, "pre", &[count, shape.pre_width()])?, pre.len())?;
    check::len(OP, "y", check::extent(OP, "y", &[count, width])?, y.len())?;
    check::workspace(OP, shape.forward_workspace_len::<T>(machine.threads.len()), workspace.len())?;

    let offsets = rows.offsets;
    let up = ByRows { a, offsets, n: shape.pre_width(), k: width, weights: w_in, stored: Weights::Nk };
    by_rows(machine, up, Output::Matrix { c: pre, accumulate: false }, &Keep, workspace);
    let hidden_rows = Hidden { pre, width: hidden, activation, gated };
    let a = &Activated { hidden: hidden_rows, scale: None::<fn(usize) -> f32> };
    let down = ByRows { a, offsets, n: width, k: hidden, weights: w_out, stored: Weights::Nk };
    by_rows(machine, down, Output::Matrix { c: y, accumulate: false }, &Keep, workspace);
    Ok(())
}

/// What [`backward`] reads.
#[derive(Debug, Clone, Copy)]
pub struct BackwardInputs<'a, T> {
    /// `[tokens, d]`.
    pub x: &'a [T],
    /// `[rows, 2h or h]`, from [`forward`].
    pub pre: &'a [T],
    /// `[experts, 2h or h, d]`.
    pub w_in: &'a [T],
    /// `[experts, d, h]`.
    pub w_out: &'a [T],
    /// Gradient of the layer's combined output, `[tokens, d]`.
    pub dy: &'a [T],
    /// A further gradient on the experts' unweighted outputs, `[rows, d]`.
    pub row_grad: Option<&'a [T]>,
}

/// What [`backward`] writes.
#[derive(Debug)]
pub struct BackwardOutputs<'a, T> {
    /// Gradient of each row's input, `[rows, d]`, overwritten; the caller sums a token's rows.
    pub dx: &'a mut [T],
    /// Like `w_in`, added to.
    pub dw_in: &'a mut [f32],
    /// Like `w_out`, added to.
    pub dw_out: &'a mut [f32],
}

/// The gradients of the layer, by the formulas at the top of this module. Without `slots` every row weighs 1.
///
/// # Errors
/// Wrong lengths, offsets that do not ascend, a token or slot outside its buffer.
pub fn backward<T: Storage>(
    machine: Machine,
    shape: Shape,
    rows: Rows,
    slots: Option<Slots>,
    inputs: BackwardInputs<T>,
    outputs: BackwardOutputs<T>,
    workspace: &mut [f32],
) -> Result<()> {
    const OP: &str = "experts_backward";
    let count = rows.check(OP, shape.experts)?;
    let Shape { width, hidden, activation, gated, .. } = shape;
    let BackwardInputs { x, pre, w_in, w_out, dy, row_grad } = inputs;
    let BackwardOutputs { dx, dw_in, dw_out } = outputs;
    let pre_width = shape.pre_width();
    let x = &Gather { data: x, index: rows.token }.check(OP, "x", count, width)?;
    let dy = &Gather { data: dy, index: rows.token }.check(OP, "dy", count, width)?;
    let row_grad = row_grad.map(|g| Gather::all(g).check(OP, "row_grad", count, width)).transpose()?;
    shape.check_weights(OP, w_in.len(), w_out.len())?;
    check::len(OP, "dw_in", w_in.len(), dw_in.len())?;
    check::len(OP, "dw_out", w_out.len(), dw_out.len())?;
    check::len(OP, "pre", check::extent(OP, "pre", &[count, pre_width])?, pre.len())?;
    check::len(OP, "dx", check::extent(OP, "dx", &[count, width])?, dx.len())?;
    if let Some(slots) = &slots {
        check::len(OP, "order", count, slots.order.len())?;
        host::below(OP, "order", slots.order, slots.weights.len())?;
        check::len(OP, "dweights", slots.weights.len(), slots.dweights.len())?;
    }
    check::workspace(OP, shape.backward_workspace_len::<T>(count, machine.threads.len()), workspace.len())?;

    let offsets = rows.offsets;
    let (dpre, rest) = super::gemm::aligned(workspace).split_at_mut(dpre_len::<T>(count, pre_width));
    let dpre = &mut bytemuck::cast_slice_mut::<f32, T>(dpre)[..count * pre_width];
    let (row_dweights, workspace) = rest.split_at_mut(count);
    row_dweights.fill(0.0);
    let hidden_rows = Hidden { pre, width: hidden, activation, gated };
    let weight = |row: usize| slots.as_ref().map_or(1.0, |slots| slots.weights[slots.order[row] as usize]);

    // g W_out waits in the first `hidden` columns of dpre until its row is finished.
    if let Some(g) = &row_grad {
        let product = ByRows { a: g, offsets, n: hidden, k: width, weights: w_out, stored: Weights::Kn };
        let store = StoreRows { rows: DisjointMut::new(dpre), ld: pre_width };
        by_rows(machine, product, Output::Scratch, &store, workspace);
    }
    let finish = ActivationGradient {
        hidden: hidden_rows,
        weight,
        add_stored: row_grad.is_some(),
        dpre: DisjointMut::new(dpre),
        dweights: DisjointMut::new(row_dweights),
    };
    let da = ByRows { a: dy, offsets, n: hidden, k: width, weights: w_out, stored: Weights::Kn };
    by_rows(machine, da, Output::Scratch, &finish, workspace);

    let weighted = Activated { hidden: hidden_rows, scale: Some(weight) };
    by_groups::<T, _, _>(
        machine,
        ByGroups { a: dy, m: width, b: &weighted, n: hidden, offsets },
        dw_out,
        workspace,
    );
    if let Some(g) = &row_grad {
        let plain = Activated { hidden: hidden_rows, scale: None::<fn(usize) -> f32> };
        by_groups::<T, _, _>(
            machine,
            ByGroups { a: g, m: width, b: &plain, n: hidden, offsets },
            dw_out,
            workspace,
        );
    }

    let dpre = &Gather::all(dpre).check(OP, "dpre", count, pre_width)?;
    let product = ByRows { a: dpre, offsets, n: width, k: pre_width, weights: w_in, stored: Weights::Kn };
    by_rows(machine, product, Output::Matrix { c: dx, accumulate: false }, &Keep, workspace);
    by_groups::<T, _, _>(
        machine,
        ByGroups { a: dpre, m: pre_width, b: x, n: width, offsets },
        dw_in,
        workspace,
    );

    if let Some(slots) = slots {
        slots.dweights.fill(0.0);
        for (&slot, &dweight) in slots.order.iter().zip(&*row_dweights) {
            slots.dweights[slot as usize] = dweight;
        }
    }
    Ok(())
}

/// Copies finished rows into the first columns of wider rows.
struct StoreRows<'a, T> {
    rows: DisjointMut<'a, T>,
    ld: usize,
}

impl<T: Storage> Finish for StoreRows<'_, T> {
    const WHOLE_ROWS: bool = true;
    fn row(&self, isa: Isa, row: usize, _: usize, values: &mut [f32]) {
        let at = row * self.ld;
        // SAFETY: rows of the product belong to one task each, and so do these ranges.
        convert(isa, values, unsafe { self.rows.slice_mut(at..at + values.len()) });
    }
}

/// Turns a row of da' into the row's weight gradient and its row of dpre.
struct ActivationGradient<'a, T, W> {
    hidden: Hidden<'a, T>,
    weight: W,
    /// Whether dpre holds g W_out in its first columns.
    add_stored: bool,
    dpre: DisjointMut<'a, T>,
    dweights: DisjointMut<'a, f32>,
}

impl<T: Storage, W: Fn(usize) -> f32 + Sync> Finish for ActivationGradient<'_, T, W> {
    const WHOLE_ROWS: bool = true;
    fn row(&self, isa: Isa, row: usize, _: usize, da: &mut [f32]) {
        let pre_width = self.hidden.pre_width();
        // SAFETY: rows of the product belong to one task each, and so do these ranges.
        let (dpre, dweight) = unsafe {
            (
                self.dpre.slice_mut(row * pre_width..(row + 1) * pre_width),
                self.dweights.slice_mut(row..row + 1),
            )
        };
        let (gate, up) = self.hidden.parts(row);
        let (dgate, dup) = dpre.split_at_mut(da.len());
        let Self { hidden: Hidden { activation, gated, .. }, add_stored, .. } = *self;
        let weight = (self.weight)(row);
        dweight[0] =
            isa.dispatch(GradientRow { activation, gated, add_stored, weight, gate, up, da, dgate, dup });
    }
}

/// One row: returns `<da', a>` and writes dpre.
struct GradientRow<'a, T> {
    activation: Activation,
    gated: bool,
    add_stored: bool,
    weight: f32,
    gate: &'a [T],
    up: &'a [T],
    da: &'a [f32],
    dgate: &'a mut [T],
    dup: &'a mut [T],
}

impl<T: Storage> Kernel for GradientRow<'_, T> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (weight, mut dot) = (s.splat(self.weight), s.splat(0.0));
        for at in (0..self.da.len()).step_by(S::LANES) {
            let range = at..self.da.len().min(at + S::LANES);
            let (f, df) = activation::value_and_derivative(
                s,
                self.activation,
                s.load_partial(&self.gate[range.clone()], 0.0),
            );
            let da = s.load_partial(&self.da[range.clone()], 0.0);
            let dgate = &mut self.dgate[range.clone()];
            let mut total = da * weight;
            if self.add_stored {
                total = total + s.load_partial(&*dgate, 0.0);
            }
            if self.gated {
                let up = s.load_partial(&self.up[range.clone()], 0.0);
                dot = s.fma(da, f * up, dot);
                s.store_partial(dgate, total * up * df);
                s.store_partial(&mut self.dup[range], total * f);
            } else {
                dot = s.fma(da, f, dot);
                s.store_partial(dgate, total * df);
            }
        }
        s.reduce_add(dot)
    }
}

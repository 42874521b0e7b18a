//! The permutation between tokens and experts: plan, dispatch (gather) and combine (weighted gather-sum).
//!
//! Slot `s = t k + j` is the j-th expert of token `t`. The plan sorts the `R = T k` slots by expert, **stably**: inside an
//! expert, rows stay in the order of their slots. Nothing is dropped (MegaBlocks, Gale et al. 2211.15841).

use super::{add_scaled, dot};

/// The sorted order of the slots. Row `r` is the r-th slot in expert order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// `[R]`: the slot of row `r`.
    pub order: Vec<u32>,
    /// `[R]`: the token of row `r`, `order[r] / k`.
    pub token: Vec<u32>,
    /// `[E + 1]`: the rows of expert `e` are `offsets[e]..offsets[e + 1]`.
    pub offsets: Vec<u32>,
    /// `[R]`: the row of slot `s`, so `inverse[order[r]] = r`.
    pub inverse: Vec<u32>,
}

/// The plan of `indices[T, k]` over `experts` experts.
pub fn plan(indices: &[u32], k: usize, experts: usize) -> Plan {
    let (mut order, mut offsets, mut inverse) = (Vec::new(), vec![0], vec![0; indices.len()]);
    for expert in 0..experts as u32 {
        order.extend((0..indices.len() as u32).filter(|slot| indices[*slot as usize] == expert));
        offsets.push(order.len() as u32);
    }
    assert_eq!(order.len(), indices.len(), "every index must be below the number of experts");
    for (row, slot) in order.iter().enumerate() {
        inverse[*slot as usize] = row as u32;
    }
    let token = order.iter().map(|slot| slot / k as u32).collect();
    Plan { order, token, offsets, inverse }
}

/// Dispatch: `rows[r, :] = x[token[r], :]`, from `x[T, d]` to `[R, d]`.
pub fn dispatch(plan: &Plan, x: &[f64], d: usize) -> Vec<f64> {
    plan.token.iter().flat_map(|t| x[*t as usize * d..][..d].iter().copied()).collect()
}

/// Backward of dispatch: `dx[t, :] = Σ_{r: token[r] = t} drows[r, :]`, added in slot order; `dx[T, d]` for `tokens` tokens.
pub fn dispatch_backward(plan: &Plan, drows: &[f64], d: usize, tokens: usize) -> Vec<f64> {
    let mut dx = vec![0.0; tokens * d];
    for row in &plan.inverse {
        let row = *row as usize;
        add_scaled(&mut dx[plan.token[row] as usize * d..][..d], 1.0, &drows[row * d..][..d]);
    }
    dx
}

/// Combine: `y[t, :] = Σ_j weights[t, j] rows[inverse[t k + j], :]`, in slot order; `y[T, d]`.
pub fn combine(plan: &Plan, rows: &[f64], weights: &[f64], d: usize, tokens: usize) -> Vec<f64> {
    let mut y = vec![0.0; tokens * d];
    for (slot, row) in plan.inverse.iter().enumerate() {
        let row = *row as usize;
        add_scaled(&mut y[plan.token[row] as usize * d..][..d], weights[slot], &rows[row * d..][..d]);
    }
    y
}

/// Backward of combine, from `dy[T, d]`: `drows[r, :] = weights[order[r]] dy[token[r], :]` and
/// `dweights[t, j] = dy[t, :] · rows[inverse[t k + j], :]`. Returns `(drows[R, d], dweights[T, k])`.
pub fn combine_backward(
    plan: &Plan,
    rows: &[f64],
    weights: &[f64],
    dy: &[f64],
    d: usize,
) -> (Vec<f64>, Vec<f64>) {
    let (mut drows, mut dweights) = (vec![0.0; rows.len()], vec![0.0; weights.len()]);
    for (row, slot) in plan.order.iter().enumerate() {
        let dy = &dy[plan.token[row] as usize * d..][..d];
        add_scaled(&mut drows[row * d..][..d], weights[*slot as usize], dy);
        dweights[*slot as usize] = dot(dy, &rows[row * d..][..d]);
    }
    (drows, dweights)
}

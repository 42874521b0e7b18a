//! Dense products, `y = x W^T + b` and its gradients: the grouped product with one group, its tiles cut along rows and
//! columns so that few rows still occupy every thread.

use super::check;
use super::gemm::Machine;
use super::gemm::by_groups::{self, ByGroups, by_groups};
use super::gemm::by_rows::{self, ByRows, Output, Weights, by_rows};
use super::gemm::rows::{AddBias, Keep};
use super::grouped_gemm::{self, Gather};
use super::simd::Storage;
use crate::{Error, Result};

/// Extents: `x` is `[rows, k]`, `y` `[rows, n]`, the weights `[n, k]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows (tokens).
    pub rows: usize,
    /// Output features.
    pub n: usize,
    /// Input features.
    pub k: usize,
}

impl Shape {
    fn offsets(self, op: &'static str) -> Result<[u32; 2]> {
        let rows =
            u32::try_from(self.rows).map_err(|_| Error::argument(op, "rows", "below 2^32", self.rows))?;
        Ok([0, rows])
    }
}

/// f32 elements of workspace that each op of this module needs.
pub fn workspace_len<T: Storage>(n: usize, k: usize, threads: usize) -> usize {
    grouped_gemm::workspace_len::<T>(1, n, k, threads)
}

/// `y = x W^T`, plus `bias` `[n]` when given.
///
/// # Errors
/// Wrong lengths.
pub fn forward<T: Storage>(
    machine: Machine,
    shape: Shape,
    x: &[T],
    weight: &[T],
    bias: Option<&[f32]>,
    y: &mut [T],
    workspace: &mut [f32],
) -> Result<()> {
    const OP: &str = "linear_forward";
    let Shape { rows, n, k } = shape;
    let offsets = &shape.offsets(OP)?;
    let a = &Gather::all(x).check(OP, "x", rows, k)?;
    check::len(OP, "weight", check::extent(OP, "weight", &[n, k])?, weight.len())?;
    check::len(OP, "bias", bias.map_or(0, |_| n), bias.map_or(0, <[f32]>::len))?;
    check::len(OP, "y", check::extent(OP, "y", &[rows, n])?, y.len())?;
    check::workspace(
        OP,
        by_rows::workspace_len::<T>(1, n, k, machine.threads.len(), false),
        workspace.len(),
    )?;
    let product = ByRows { a, offsets, n, k, weights: weight, stored: Weights::Nk };
    let output = Output::Matrix { c: y, accumulate: false };
    match bias {
        Some(bias) => by_rows(machine, product, output, &AddBias(bias), workspace),
        None => by_rows(machine, product, output, &Keep, workspace),
    }
    Ok(())
}

/// `dx = dy W`, added to `dx` with `accumulate`.
///
/// # Errors
/// Wrong lengths.
pub fn dgrad<T: Storage>(
    machine: Machine,
    shape: Shape,
    dy: &[T],
    weight: &[T],
    dx: &mut [T],
    accumulate: bool,
    workspace: &mut [f32],
) -> Result<()> {
    let offsets = &shape.offsets("linear_dgrad")?;
    let shape = grouped_gemm::Shape { offsets, n: shape.n, k: shape.k };
    grouped_gemm::dgrad(machine, shape, Gather::all(dy), weight, dx, accumulate, workspace)
}

/// `dW += dy^T x` and, when given, `db[n] += sum of dy over the rows`.
///
/// # Errors
/// Wrong lengths.
pub fn wgrad<T: Storage>(
    machine: Machine,
    shape: Shape,
    dy: &[T],
    x: &[T],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
    workspace: &mut [f32],
) -> Result<()> {
    const OP: &str = "linear_wgrad";
    let Shape { rows, n, k } = shape;
    let offsets = &shape.offsets(OP)?;
    let a = &Gather::all(dy).check(OP, "dy", rows, n)?;
    let b = &Gather::all(x).check(OP, "x", rows, k)?;
    check::len(OP, "dw", check::extent(OP, "dw", &[n, k])?, dw.len())?;
    check::len(OP, "db", db.as_ref().map_or(0, |_| n), db.as_ref().map_or(0, |db| db.len()))?;
    check::workspace(OP, by_groups::workspace_len(machine.threads.len()), workspace.len())?;
    by_groups::<T, _, _>(machine, ByGroups { a, m: n, b, n: k, offsets }, dw, workspace);
    if let Some(db) = db {
        // A task owns some columns and adds the rows in order; wide enough for whole cache lines.
        const COLUMNS: usize = 64;
        machine.threads.for_each_chunk(db, COLUMNS, |i, db, _| {
            for row in 0..rows {
                let dy = &dy[row * n + i * COLUMNS..][..db.len()];
                db.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy.to_f32());
            }
        });
    }
    Ok(())
}

//! Grouped matrix products: rows sorted by group (an expert), one weight matrix a group.
//!
//! `offsets` holds the groups' row ranges: group g owns rows `offsets[g]..offsets[g + 1]`. Groups may be empty and of any
//! size. A row index gathers: row r of the product reads row `index[r]` of the data, while packing; nothing is copied to
//! memory first. All ops work on one flat (group, tile) list, give the same bits for any thread count, and allocate nothing.

use super::check;
use super::gemm::Machine;
use super::gemm::by_groups::{self, ByGroups, by_groups};
use super::gemm::by_rows::{self, ByRows, Output, Weights, by_rows};
use super::gemm::rows::{Keep, Matrix};
use super::simd::Storage;
use crate::{Result, host};

/// Rows of a matrix `[rows of data, width]`, in order or through an index.
#[derive(Debug, Clone, Copy)]
pub struct Gather<'a, T> {
    /// The matrix, row-major.
    pub data: &'a [T],
    /// Row r of the product is row `index[r]` of `data`; without an index, row r.
    pub index: Option<&'a [u32]>,
}

impl<'a, T> Gather<'a, T> {
    /// The rows in order.
    pub fn all(data: &'a [T]) -> Self {
        Self { data, index: None }
    }

    /// Checks that it yields `rows` rows of `width` elements.
    pub(crate) fn check(
        self,
        op: &'static str,
        arg: &'static str,
        rows: usize,
        width: usize,
    ) -> Result<Matrix<'a, T>> {
        match self.index {
            None => check::len(op, arg, check::extent(op, arg, &[rows, width])?, self.data.len())?,
            Some(index) => {
                check::len(op, "index", rows, index.len())?;
                let data_rows = self.data.len().checked_div(width).unwrap_or(usize::MAX);
                host::below(op, "index", index, data_rows)?;
            }
        }
        Ok(Matrix { data: self.data, width, index: self.index })
    }
}

/// Extents of a grouped product between rows of `k` and rows of `n` elements with weights `[groups, n, k]`.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Row ranges of the groups: `groups + 1` ascending values from 0 to the number of rows.
    pub offsets: &'a [u32],
    /// Output features of the forward product.
    pub n: usize,
    /// Input features of the forward product.
    pub k: usize,
}

impl Shape<'_> {
    fn check(self, op: &'static str) -> Result<(usize, usize, usize)> {
        let rows = self.offsets.last().map_or(0, |&last| last as usize);
        host::offsets(op, "offsets", self.offsets, rows)?;
        let groups = self.offsets.len() - 1;
        Ok((groups, rows, check::extent(op, "weights", &[groups, self.n, self.k])?))
    }
}

/// f32 elements of workspace that each op of this module needs for `groups` weights of `[n, k]`.
pub fn workspace_len<T: Storage>(groups: usize, n: usize, k: usize, threads: usize) -> usize {
    let along_rows = by_rows::workspace_len::<T>(groups, n, k, threads, false);
    along_rows
        .max(by_rows::workspace_len::<T>(groups, k, n, threads, false))
        .max(by_groups::workspace_len(threads))
}

/// `y[r, n] = x[r, k] W_g^T` for every row r of group g, with `weights` `[groups, n, k]`.
///
/// # Errors
/// Wrong lengths, offsets that do not ascend, an index outside `x`.
pub fn forward<T: Storage>(
    machine: Machine,
    shape: Shape,
    x: Gather<T>,
    weights: &[T],
    y: &mut [T],
    workspace: &mut [f32],
) -> Result<()> {
    const OP: &str = "grouped_gemm_forward";
    let (groups, rows, weights_len) = shape.check(OP)?;
    let Shape { offsets, n, k } = shape;
    let a = &x.check(OP, "x", rows, k)?;
    check::len(OP, "weights", weights_len, weights.len())?;
    check::len(OP, "y", check::extent(OP, "y", &[rows, n])?, y.len())?;
    check::workspace(
        OP,
        by_rows::workspace_len::<T>(groups, n, k, machine.threads.len(), false),
        workspace.len(),
    )?;
    let product = ByRows { a, offsets, n, k, weights, stored: Weights::Nk };
    by_rows(machine, product, Output::Matrix { c: y, accumulate: false }, &Keep, workspace);
    Ok(())
}

/// `dx[r, k] = dy[r, n] W_g` for every row r of group g, added to `dx` with `accumulate`.
///
/// # Errors
/// Wrong lengths, offsets that do not ascend, an index outside `dy`.
pub fn dgrad<T: Storage>(
    machine: Machine,
    shape: Shape,
    dy: Gather<T>,
    weights: &[T],
    dx: &mut [T],
    accumulate: bool,
    workspace: &mut [f32],
) -> Result<()> {
    const OP: &str = "grouped_gemm_dgrad";
    let (groups, rows, weights_len) = shape.check(OP)?;
    let Shape { offsets, n, k } = shape;
    let a = &dy.check(OP, "dy", rows, n)?;
    check::len(OP, "weights", weights_len, weights.len())?;
    check::len(OP, "dx", check::extent(OP, "dx", &[rows, k])?, dx.len())?;
    check::workspace(
        OP,
        by_rows::workspace_len::<T>(groups, k, n, machine.threads.len(), false),
        workspace.len(),
    )?;
    let product = ByRows { a, offsets, n: k, k: n, weights, stored: Weights::Kn };
    by_rows(machine, product, Output::Matrix { c: dx, accumulate }, &Keep, workspace);
    Ok(())
}

/// `dw_g[n, k] += sum over the rows r of group g of dy[r]^T x[r]`, with `dw` `[groups, n, k]`.
///
/// # Errors
/// Wrong lengths, offsets that do not ascend, an index outside `x` or `dy`.
pub fn wgrad<T: Storage>(
    machine: Machine,
    shape: Shape,
    dy: Gather<T>,
    x: Gather<T>,
    dw: &mut [f32],
    workspace: &mut [f32],
) -> Result<()> {
    const OP: &str = "grouped_gemm_wgrad";
    let (_, rows, weights_len) = shape.check(OP)?;
    let Shape { offsets, n, k } = shape;
    let a = &dy.check(OP, "dy", rows, n)?;
    let b = &x.check(OP, "x", rows, k)?;
    check::len(OP, "dw", weights_len, dw.len())?;
    check::workspace(OP, by_groups::workspace_len(machine.threads.len()), workspace.len())?;
    by_groups::<T, _, _>(machine, ByGroups { a, m: n, b, n: k, offsets }, dw, workspace);
    Ok(())
}

//! The router's linear layer, summed in f64.
//!
//! A logit is a sum of eight f64 lanes, lane `i` taking the elements `i, i + 8, ...` in ascending order, then a tree: the
//! same bits for every instruction set, tile and number of threads.

use std::ops::Range;

use crate::Result;
use crate::ops::router_logits::{Backward, Forward, Shape};

use super::simd::{Kernel, Simd, Storage};
use super::{Cpu, vector};

/// Tokens of a forward task, whose rows stay in cache while the weights stream by.
const TOKENS: usize = 16;
/// Most experts of a task of the weight's gradient.
const EXPERTS: usize = 32;
/// Terms that the backward pass sums before it touches memory: 128 rows of a tile of `b` stay in the first cache.
const DEPTH: usize = 128;
/// Rows of a backward register tile, and of one where there are 32 registers.
const ROWS: usize = 4;
const MANY_ROWS: usize = 8;

pub(super) fn forward<T: Storage>(cpu: &Cpu<T>, args: Forward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let Shape { width, experts, .. } = args.shape;
    if experts == 0 {
        return Ok(());
    }
    cpu.threads.for_each_chunk(args.logits, TOKENS * experts, |block, logits, _| {
        let x = &args.x[block * TOKENS * width..][..logits.len() / experts * width];
        cpu.isa.dispatch(Logits { x, w: args.w, width, experts, logits });
    });
    Ok(())
}

/// A block of tokens against every expert.
struct Logits<'a, T> {
    x: &'a [T],
    w: &'a [f32],
    width: usize,
    experts: usize,
    logits: &'a mut [f32],
}

impl<T: Storage> Kernel for Logits<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Sums of eight lanes in registers; a load, which widens, serves as many products as the tile is wide or high.
        match S::LANES {
            16 => self.tiles::<S, 4, 6>(s),
            _ => self.tiles::<S, 3, 4>(s),
        }
    }
}

impl<T: Storage> Logits<'_, T> {
    /// Tiles of `M` tokens and `N` experts, and single pairs at the edges.
    #[inline(always)]
    fn tiles<S: Simd, const M: usize, const N: usize>(self, s: S) {
        let tokens = self.logits.len() / self.experts;
        for e in (0..self.experts).step_by(N) {
            for t in (0..tokens).step_by(M) {
                if t + M <= tokens && e + N <= self.experts {
                    let x = std::array::from_fn(|i| &self.x[(t + i) * self.width..][..self.width]);
                    let w = std::array::from_fn(|j| &self.w[(e + j) * self.width..][..self.width]);
                    let sums: [[f64; N]; M] = dot_tile(s, x, w);
                    for (i, row) in sums.iter().enumerate() {
                        for (j, &sum) in row.iter().enumerate() {
                            self.logits[(t + i) * self.experts + e + j] = sum as f32;
                        }
                    }
                } else {
                    for t in t..tokens.min(t + M) {
                        let x = &self.x[t * self.width..][..self.width];
                        for e in e..self.experts.min(e + N) {
                            let w = &self.w[e * self.width..][..self.width];
                            self.logits[t * self.experts + e] = vector::dot_f64(s, x, w) as f32;
                        }
                    }
                }
            }
        }
    }
}

/// [`vector::dot_f64`] of every pair, with the same bits.
#[inline(always)]
fn dot_tile<S: Simd, T: Storage, const M: usize, const N: usize>(
    s: S,
    x: [&[T]; M],
    w: [&[f32]; N],
) -> [[f64; N]; M] {
    let width = x[0].len();
    let mut sums = [[s.wide_zero(); N]; M];
    let whole = width - width % 8;
    for at in (0..whole).step_by(8) {
        add_terms(s, &mut sums, &x, &w, at..at + 8);
    }
    if whole < width {
        add_terms(s, &mut sums, &x, &w, whole..width);
    }
    let mut totals = [[0.0; N]; M];
    for i in 0..M {
        for j in 0..N {
            totals[i][j] = s.wide_reduce_add(sums[i][j]);
        }
    }
    totals
}

/// Adds the products of up to eight elements.
#[inline(always)]
fn add_terms<S: Simd, T: Storage, const M: usize, const N: usize>(
    s: S,
    sums: &mut [[S::Wide; N]; M],
    x: &[&[T]; M],
    w: &[&[f32]; N],
    at: Range<usize>,
) {
    // Plain loops: closures of array methods are not always compiled for the instruction set.
    let mut token = [s.wide_zero(); M];
    for i in 0..M {
        token[i] = s.load_wide(&x[i][at.clone()]);
    }
    for j in 0..N {
        let w = s.load_wide(&w[j][at.clone()]);
        for i in 0..M {
            sums[i][j] = s.wide_fma(token[i], w, sums[i][j]);
        }
    }
}

pub(super) fn backward<T: Storage>(cpu: &Cpu<T>, args: Backward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let Shape { tokens, width, experts } = args.shape;
    if tokens * width * experts == 0 {
        return Ok(());
    }
    cpu.threads.for_each_chunk(args.dx, TOKENS * width, |block, c, _| {
        let a = &args.dlogits[block * TOKENS * experts..];
        cpu.isa.dispatch(AddProduct { a, strides: (experts, 1), depth: experts, b: args.w, width, c });
    });
    let rows = experts.div_ceil(2 * cpu.threads.len()).next_multiple_of(MANY_ROWS).min(EXPERTS);
    cpu.threads.for_each_chunk(args.dw, rows * width, |block, c, _| {
        let a = &args.dlogits[block * rows..];
        cpu.isa.dispatch(AddProduct { a, strides: (1, experts), depth: tokens, b: args.x, width, c });
    });
    Ok(())
}

/// `c_i += sum_k a[i, k] b_k` for rows of `width` elements; `a[i, k]` lies at `i * strides.0 + k * strides.1`.
/// Blocks of [`DEPTH`] terms are summed in registers and added to `c` in ascending order; all of them at once where `c` would
/// round every sum.
struct AddProduct<'a, X, Y> {
    a: &'a [f32],
    strides: (usize, usize),
    depth: usize,
    b: &'a [X],
    width: usize,
    c: &'a mut [Y],
}

impl<X: Storage, Y: Storage> Kernel for AddProduct<'_, X, Y> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let rows = self.c.len() / self.width;
        let block = if Y::as_f32(self.c).is_some() { DEPTH } else { self.depth };
        for start in (0..self.depth).step_by(block) {
            let depth = start..self.depth.min(start + block);
            for column in (0..self.width).step_by(2 * S::LANES) {
                let mut row = 0;
                while S::LANES == 16 && row + MANY_ROWS <= rows {
                    self.tile::<S, MANY_ROWS>(s, row, column, depth.clone());
                    row += MANY_ROWS;
                }
                while row + ROWS <= rows {
                    self.tile::<S, ROWS>(s, row, column, depth.clone());
                    row += ROWS;
                }
                while row < rows {
                    self.tile::<S, 1>(s, row, column, depth.clone());
                    row += 1;
                }
            }
        }
    }
}

impl<X: Storage, Y: Storage> AddProduct<'_, X, Y> {
    /// `R` rows from `row` and two vectors of columns from `column`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(
        &mut self,
        s: S,
        row: usize,
        column: usize,
        depth: std::ops::Range<usize>,
    ) {
        let end = self.width.min(column + 2 * S::LANES);
        let middle = end.min(column + S::LANES);
        let mut sums = [[s.splat(0.0); 2]; R];
        let last = depth.end.saturating_sub(1);
        assert!(depth.is_empty() || (row + R - 1) * self.strides.0 + last * self.strides.1 < self.a.len());
        let whole = end - column == 2 * S::LANES;
        for k in depth {
            let b = &self.b[k * self.width + column..k * self.width + end];
            let b = match whole {
                true => [s.load(b), s.load(&b[S::LANES..])],
                false => {
                    [s.load_partial(&b[..middle - column], 0.0), s.load_partial(&b[middle - column..], 0.0)]
                }
            };
            for i in 0..R {
                let at = (row + i) * self.strides.0 + k * self.strides.1;
                // SAFETY: at most the index that was checked, of the last row and the last term.
                let a = s.splat(unsafe { *self.a.get_unchecked(at) });
                sums[i] = [s.fma(a, b[0], sums[i][0]), s.fma(a, b[1], sums[i][1])];
            }
        }
        for i in 0..R {
            let c = &mut self.c[(row + i) * self.width..][..self.width];
            for (at, sum) in [(column..middle, sums[i][0]), (middle..end, sums[i][1])] {
                let total = s.load_partial(&c[at.clone()], 0.0) + sum;
                s.store_partial(&mut c[at], total);
            }
        }
    }
}

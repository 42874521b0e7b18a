//! The router's linear layer, summed in f64.
//!
//! A logit is a sum of eight f64 lanes, lane `i` taking the elements `i, i + 8, ...` in ascending order, then a tree: the
//! same bits for every instruction set, tile and number of threads.

use std::ops::Range;

use crate::Result;
use crate::ops::router_logits::{Backward, Forward, Shape};

use super::Cpu;
use super::simd::{Kernel, Simd, Storage};

/// Tokens of a forward task, whose rows stay in cache while the weights stream by.
const TOKENS: usize = 32;
/// Terms of a backward tile that are copied at a time: 128 rows of two vectors are 16 KiB.
const DEPTH: usize = 128;
/// Most rows of a backward task: what is copied for one tile of columns serves all of them.
const MOST_ROWS: usize = 128;
/// Lanes of the widest vector, of which a backward tile has two.
const MOST_LANES: usize = 16;
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
    fn run<S: Simd>(mut self, s: S) {
        // Sums of eight lanes in registers; a vector of tokens serves as many products as the tile is wide.
        match S::LANES {
            16 => self.panels::<S, 4, 6>(s),
            _ => self.panels::<S, 3, 4>(s),
        }
    }
}

impl<T: Storage> Logits<'_, T> {
    /// Panels of `N` experts, and narrower ones for those left over: a single pair has to wait for its own sums.
    #[inline(always)]
    fn panels<S: Simd, const M: usize, const N: usize>(&mut self, s: S) {
        let mut e = 0;
        while e + N <= self.experts {
            self.panel::<S, M, N>(s, e);
            e += N;
        }
        while e + 2 <= self.experts {
            self.panel::<S, M, 2>(s, e);
            e += 2;
        }
        if e < self.experts {
            self.panel::<S, M, 1>(s, e);
        }
    }

    /// `N` experts from `e` against all tokens, `M` at a time.
    #[inline(always)]
    fn panel<S: Simd, const M: usize, const N: usize>(&mut self, s: S, e: usize) {
        let tokens = self.logits.len() / self.experts;
        let mut t = 0;
        while t + M <= tokens {
            self.tile::<S, M, N>(s, t, e);
            t += M;
        }
        while t < tokens {
            self.tile::<S, 1, N>(s, t, e);
            t += 1;
        }
    }

    /// `M` tokens from `t` and `N` experts from `e`, the bits of [`vector::dot_f64`](super::vector::dot_f64).
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(&mut self, s: S, t: usize, e: usize) {
        let width = self.width;
        // Plain loops: closures of array methods are not always compiled for the instruction set.
        let (mut x, mut w) = ([&self.x[..0]; M], [&self.w[..0]; N]);
        for i in 0..M {
            x[i] = &self.x[(t + i) * width..][..width];
        }
        for j in 0..N {
            w[j] = &self.w[(e + j) * width..][..width];
        }
        let (mut tokens, mut sums) = ([s.wide_zero(); M], [[s.wide_zero(); N]; M]);
        let whole = width - width % 8;
        for at in (0..whole).step_by(8) {
            for i in 0..M {
                // SAFETY: `at + 8 <= whole <= width`, the length of the row.
                tokens[i] = unsafe { T::load_wide_ptr(s, x[i].as_ptr().add(at)) };
            }
            for j in 0..N {
                // SAFETY: as above.
                let weights = unsafe { s.load_wide_ptr(w[j].as_ptr().add(at)) };
                for i in 0..M {
                    sums[i][j] = s.wide_fma(tokens[i], weights, sums[i][j]);
                }
            }
        }
        for i in 0..M {
            for j in 0..N {
                if whole < width {
                    let (x, w) = (s.load_wide(&x[i][whole..]), s.load_wide(&w[j][whole..]));
                    sums[i][j] = s.wide_fma(x, w, sums[i][j]);
                }
                self.logits[(t + i) * self.experts + e + j] = s.wide_reduce_add(sums[i][j]) as f32;
            }
        }
    }
}

pub(super) fn backward<T: Storage>(cpu: &Cpu<T>, args: Backward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let Shape { tokens, width, experts } = args.shape;
    if tokens * width * experts == 0 {
        return Ok(());
    }
    let fair = |rows: usize| rows.div_ceil(cpu.threads.len()).next_multiple_of(MANY_ROWS).min(MOST_ROWS);
    let rows = fair(tokens);
    cpu.threads.for_each_chunk(args.dx, rows * width, |block, c, _| {
        let a = &args.dlogits[block * rows * experts..];
        cpu.isa.dispatch(AddProduct { a, strides: (experts, 1), depth: experts, b: args.w, width, c });
    });
    let rows = fair(experts);
    cpu.threads.for_each_chunk(args.dw, rows * width, |block, c, _| {
        let a = &args.dlogits[block * rows..];
        cpu.isa.dispatch(AddProduct { a, strides: (1, experts), depth: tokens, b: args.x, width, c });
    });
    Ok(())
}

/// `c_i += sum_k a[i, k] b_k` for at most [`MOST_ROWS`] rows of `width` elements; `a[i, k]` lies at `i * strides.0 + k * strides.1`.
///
/// Two vectors of columns at a time, of which [`DEPTH`] rows of `b` are copied side by side: where `b` lies, rows a power of two
/// apart push each other out of the cache. Sums over the blocks are f32, in ascending order, and `c` rounds once.
struct AddProduct<'a, X, Y> {
    a: &'a [f32],
    strides: (usize, usize),
    depth: usize,
    b: &'a [X],
    width: usize,
    c: &'a mut [Y],
}

/// The columns of one pass over `a`: a copy of their part of `b`, and the sums of all rows.
struct Columns {
    b: [f32; 2 * MOST_LANES * DEPTH],
    sums: [f32; 2 * MOST_LANES * MOST_ROWS],
}

impl<X: Storage, Y: Storage> Kernel for AddProduct<'_, X, Y> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.c.len() / self.width;
        let mut own = Columns { b: [0.0; _], sums: [0.0; _] };
        for column in (0..self.width).step_by(2 * S::LANES) {
            let end = self.width.min(column + 2 * S::LANES);
            let middle = end.min(column + S::LANES);
            own.sums[..2 * S::LANES * rows].fill(0.0);
            for start in (0..self.depth).step_by(DEPTH) {
                let depth = start..self.depth.min(start + DEPTH);
                for (k, to) in depth.clone().zip(own.b.chunks_exact_mut(2 * S::LANES)) {
                    let from = &self.b[k * self.width..][..self.width];
                    s.store(to, s.load_partial(&from[column..middle], 0.0));
                    s.store(&mut to[S::LANES..], s.load_partial(&from[middle..end], 0.0));
                }
                let mut row = 0;
                while S::LANES == MOST_LANES && row + MANY_ROWS <= rows {
                    self.tile::<S, MANY_ROWS>(s, row, depth.clone(), &mut own);
                    row += MANY_ROWS;
                }
                while row + ROWS <= rows {
                    self.tile::<S, ROWS>(s, row, depth.clone(), &mut own);
                    row += ROWS;
                }
                while row < rows {
                    self.tile::<S, 1>(s, row, depth.clone(), &mut own);
                    row += 1;
                }
            }
            for (c, sums) in self.c.chunks_exact_mut(self.width).zip(own.sums.chunks_exact(2 * S::LANES)) {
                for (at, sums) in [(column..middle, sums), (middle..end, &sums[S::LANES..])] {
                    let total = s.load_partial(&c[at.clone()], 0.0) + s.load(sums);
                    s.store_partial(&mut c[at], total);
                }
            }
        }
    }
}

impl<X: Storage, Y: Storage> AddProduct<'_, X, Y> {
    /// `R` rows from `row` against the copied columns.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(&self, s: S, row: usize, depth: Range<usize>, own: &mut Columns) {
        let sums_at = |i: usize| 2 * S::LANES * (row + i);
        let mut sums = [[s.splat(0.0); 2]; R];
        for i in 0..R {
            sums[i] = [s.load(&own.sums[sums_at(i)..]), s.load(&own.sums[sums_at(i) + S::LANES..])];
        }
        let last = depth.end.saturating_sub(1);
        assert!(depth.is_empty() || (row + R - 1) * self.strides.0 + last * self.strides.1 < self.a.len());
        for (k, b) in depth.zip(own.b.chunks_exact(2 * S::LANES)) {
            let b = [s.load(b), s.load(&b[S::LANES..])];
            for i in 0..R {
                let at = (row + i) * self.strides.0 + k * self.strides.1;
                // SAFETY: at most the index that was checked, of the last row and the last term.
                let a = s.splat(unsafe { *self.a.get_unchecked(at) });
                sums[i] = [s.fma(a, b[0], sums[i][0]), s.fma(a, b[1], sums[i][1])];
            }
        }
        for i in 0..R {
            s.store(&mut own.sums[sums_at(i)..], sums[i][0]);
            s.store(&mut own.sums[sums_at(i) + S::LANES..], sums[i][1]);
        }
    }
}

//! Loops over one or two slices that several ops share. Slices that go together have equal lengths.

use super::simd::{Kernel, Simd, Storage};

/// `y += a x`.
#[inline(always)]
pub(super) fn add_scaled<S: Simd, T: Storage>(s: S, y: &mut [f32], a: f32, x: &[T]) {
    let a = s.splat(a);
    for (y, x) in y.chunks_mut(S::LANES).zip(x.chunks(S::LANES)) {
        let sum = s.fma(a, s.load_partial(x, 0.0), s.load_partial(y, 0.0));
        s.store_partial(y, sum);
    }
}

/// `y += x`.
#[inline(always)]
pub(super) fn add<S: Simd, T: Storage, U: Storage>(s: S, y: &mut [T], x: &[U]) {
    for (y, x) in y.chunks_mut(S::LANES).zip(x.chunks(S::LANES)) {
        let sum = s.load_partial(y, 0.0) + s.load_partial(x, 0.0);
        s.store_partial(y, sum);
    }
}

/// `y = a x`.
#[inline(always)]
pub(super) fn scaled<S: Simd, T: Storage, U: Storage>(s: S, y: &mut [T], a: f32, x: &[U]) {
    let a = s.splat(a);
    for (y, x) in y.chunks_mut(S::LANES).zip(x.chunks(S::LANES)) {
        let product = a * s.load_partial(x, 0.0);
        s.store_partial(y, product);
    }
}

/// The greatest element, `-inf` when there is none.
#[inline(always)]
pub(super) fn max<S: Simd, T: Storage>(s: S, x: &[T]) -> f32 {
    let lowest = s.splat(f32::NEG_INFINITY);
    let mut best = [lowest; 4];
    let mut blocks = x.chunks_exact(4 * S::LANES);
    for block in &mut blocks {
        for (i, best) in best.iter_mut().enumerate() {
            *best = s.max(s.load(&block[i * S::LANES..]), *best);
        }
    }
    for part in blocks.remainder().chunks(S::LANES) {
        best[0] = s.max(s.load_partial(part, f32::NEG_INFINITY), best[0]);
    }
    s.reduce_max(s.max(s.max(best[0], best[1]), s.max(best[2], best[3])))
}

/// `sum a_i b_i` in f64, in eight lanes whatever the instruction set, so that every machine gets the same bits.
#[inline(always)]
pub(super) fn dot_f64<S: Simd, T: Storage, U: Storage>(s: S, a: &[T], b: &[U]) -> f64 {
    let mut lanes = s.wide_zero();
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        lanes = s.wide_fma(s.load_wide(a), s.load_wide(b), lanes);
    }
    s.wide_reduce_add(lanes)
}

/// [`add`] as a kernel of its own.
pub(super) struct Add<'a, X, Y> {
    pub(super) x: &'a [X],
    pub(super) y: &'a mut [Y],
}

impl<X: Storage, Y: Storage> Kernel for Add<'_, X, Y> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        add(s, self.y, self.x);
    }
}

/// `to = from`, widened or rounded.
pub(super) struct Convert<'a, X, Y> {
    pub(super) from: &'a [X],
    pub(super) to: &'a mut [Y],
}

impl<X: Storage, Y: Storage> Kernel for Convert<'_, X, Y> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (from, to) in self.from.chunks(S::LANES).zip(self.to.chunks_mut(S::LANES)) {
            s.store_partial(to, s.load_partial(from, 0.0));
        }
    }
}

/// `sum e^(x_i - shift)`, and `x_i = e^(x_i - shift)` where `replace`. Blocks of 32 vectors are summed in f32, the blocks in
/// f64, so that a long row does not lose digits.
#[inline(always)]
pub(super) fn exp_sum<S: Simd, T: Storage>(s: S, x: &mut [T], shift: f32, replace: bool) -> f64 {
    let mut total = 0.0;
    let shift = s.splat(shift);
    for block in x.chunks_mut(32 * S::LANES) {
        let mut sums = [s.splat(0.0); 2];
        for (i, part) in block.chunks_mut(S::LANES).enumerate() {
            let e = s.exp(s.load_partial(part, f32::NEG_INFINITY) - shift);
            sums[i % 2] = sums[i % 2] + e;
            if replace {
                s.store_partial(part, e);
            }
        }
        total += f64::from(s.reduce_add(sums[0] + sums[1]));
    }
    total
}

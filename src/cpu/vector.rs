//! Loops over one or two f32 slices that several ops share. Slices that go together have equal lengths.

use super::simd::{Kernel, Simd};

/// `y += a x`.
#[inline(always)]
pub(super) fn add_scaled<S: Simd>(s: S, y: &mut [f32], a: f32, x: &[f32]) {
    let a = s.splat(a);
    for (y, x) in y.chunks_mut(S::LANES).zip(x.chunks(S::LANES)) {
        let sum = s.fma(a, s.load_partial(x, 0.0), s.load_partial(y, 0.0));
        s.store_partial(y, sum);
    }
}

/// `y += x`.
#[inline(always)]
pub(super) fn add<S: Simd>(s: S, y: &mut [f32], x: &[f32]) {
    for (y, x) in y.chunks_mut(S::LANES).zip(x.chunks(S::LANES)) {
        let sum = s.load_partial(y, 0.0) + s.load_partial(x, 0.0);
        s.store_partial(y, sum);
    }
}

/// `y = a x`.
#[inline(always)]
pub(super) fn scaled<S: Simd>(s: S, y: &mut [f32], a: f32, x: &[f32]) {
    let a = s.splat(a);
    for (y, x) in y.chunks_mut(S::LANES).zip(x.chunks(S::LANES)) {
        let product = a * s.load_partial(x, 0.0);
        s.store_partial(y, product);
    }
}

/// The greatest element, `-inf` when there is none.
#[inline(always)]
pub(super) fn max<S: Simd>(s: S, x: &[f32]) -> f32 {
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
pub(super) fn dot_f64<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = s.wide_zero();
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        lanes = s.wide_fma(s.load_wide(a), s.load_wide(b), lanes);
    }
    s.wide_reduce_add(lanes)
}

/// [`add`] as a kernel of its own.
pub(super) struct Add<'a> {
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        add(s, self.y, self.x);
    }
}

/// `sum e^(x_i - shift)`, and `x_i = e^(x_i - shift)` where `replace`. Blocks of 32 vectors are summed in f32, the blocks in
/// f64, so that a long row does not lose digits.
#[inline(always)]
pub(super) fn exp_sum<S: Simd>(s: S, x: &mut [f32], shift: f32, replace: bool) -> f64 {
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

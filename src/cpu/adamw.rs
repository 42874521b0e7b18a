//! AdamW and the sum of squares.

use crate::Result;
use crate::ops::adamw::{Rates, Step, SumOfSquares};

use super::simd::{Kernel, Simd, Storage};
use super::threads::DisjointMut;
use super::{Cpu, vector};

/// Elements of an AdamW task.
const CHUNK: usize = 1 << 14;
/// A sum is cut into at most this many partial sums, whatever the number of threads.
const PARTS: usize = 256;

pub(super) fn step<T: Storage>(cpu: &Cpu<T>, args: Step<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let len = args.params.len();
    let rates = Rates::new(&args.hyper);
    let (m, v) = (DisjointMut::new(args.m), DisjointMut::new(args.v));
    let copy = args.copy.map(DisjointMut::new);
    cpu.threads.for_each_chunk(args.params, CHUNK, |chunk, params, _| {
        let range = chunk * CHUNK..len.min((chunk + 1) * CHUNK);
        // SAFETY: chunks are distinct, so the ranges are disjoint.
        let (m, v) = unsafe { (m.slice_mut(range.clone()), v.slice_mut(range.clone())) };
        let grads = &args.grads[range.clone()];
        // SAFETY: as above.
        let copy = copy.as_ref().map(|copy| unsafe { copy.slice_mut(range) });
        cpu.isa.dispatch(Update { rates, params, grads, m, v, copy });
    });
    Ok(())
}

struct Update<'a, T> {
    rates: Rates,
    params: &'a mut [f32],
    grads: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    copy: Option<&'a mut [T]>,
}

impl<T: Storage> Kernel for Update<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let r = self.rates;
        for at in (0..self.params.len()).step_by(S::LANES) {
            let p = s.load_partial(&self.params[at..], 0.0);
            let g = s.load_partial(&self.grads[at..], 0.0) * s.splat(r.grad_scale);
            let m = s.load_partial(&self.m[at..], 0.0);
            let v = s.load_partial(&self.v[at..], 0.0);
            let m = s.fma(s.splat(r.beta1), m, s.splat(r.rest1) * g);
            let v = s.fma(s.splat(r.beta2), v, s.splat(r.rest2) * g * g);
            let denominator = s.fma(s.sqrt(v), s.splat(r.correction), s.splat(r.eps));
            // Where both moments and eps are 0 there is nothing to divide: the quotient is taken as 0. NaN stays NaN.
            let zero = s.splat(0.0);
            let quotient = s.select_lt(denominator, s.splat(f32::MIN_POSITIVE), zero, m / denominator);
            let p = s.fma(s.splat(r.lr), quotient, s.fma(s.splat(r.decay), p, p));
            s.store_partial(&mut self.params[at..], p);
            s.store_partial(&mut self.m[at..], m);
            s.store_partial(&mut self.v[at..], v);
            if let Some(copy) = &mut self.copy {
                s.store_partial(&mut copy[at..], p);
            }
        }
    }
}

pub(super) fn sum_of_squares<T: Storage>(cpu: &Cpu<T>, args: SumOfSquares<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let mut parts = [0.0f64; PARTS];
    let chunk = args.x.len().div_ceil(PARTS).next_multiple_of(1024).max(1024);
    let used = args.x.len().div_ceil(chunk);
    cpu.threads.for_each_chunk(&mut parts[..used], SIDE, |i, sums, _| {
        let start = i * SIDE * chunk;
        let x = &args.x[start..args.x.len().min(start + SIDE * chunk)];
        cpu.isa.dispatch(Squares { x, chunk, sums });
    });
    args.out[0] = parts.iter().sum();
    Ok(())
}

/// Parts that are summed side by side: a sum by itself waits for its own additions. Each has the bits it has alone.
const SIDE: usize = 4;

struct Squares<'a> {
    x: &'a [f32],
    /// Elements of a part.
    chunk: usize,
    /// One a part.
    sums: &'a mut [f64],
}

impl Kernel for Squares<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, chunk, sums } = self;
        if x.len() < SIDE * chunk {
            for (sum, part) in sums.iter_mut().zip(x.chunks(chunk)) {
                *sum = vector::dot_f64(s, part, part);
            }
            return;
        }
        let parts: [&[f32]; SIDE] = std::array::from_fn(|i| &x[i * chunk..(i + 1) * chunk]);
        let mut lanes = [s.wide_zero(); SIDE];
        for at in (0..chunk).step_by(8) {
            for (lane, part) in lanes.iter_mut().zip(parts) {
                let x = s.load_wide(&part[at..chunk.min(at + 8)]);
                *lane = s.wide_fma(x, x, *lane);
            }
        }
        for (sum, lane) in sums.iter_mut().zip(lanes) {
            *sum = s.wide_reduce_add(lane);
        }
    }
}

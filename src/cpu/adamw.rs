//! AdamW and the sum of squares.

use crate::Result;
use crate::ops::adamw::{Hyper, Step, SumOfSquares};

use super::simd::{Kernel, Simd};
use super::threads::DisjointMut;
use super::{Cpu, vector};

/// Elements of an AdamW task.
const CHUNK: usize = 1 << 14;
/// A sum is cut into at most this many partial sums, whatever the number of threads.
const PARTS: usize = 256;

pub(super) fn step(cpu: &Cpu, args: Step<'_, Cpu>) -> Result<()> {
    args.check()?;
    let len = args.params.len();
    let rates = Rates::new(&args.hyper);
    let (m, v) = (DisjointMut::new(args.m), DisjointMut::new(args.v));
    let copy = args.copy.map(DisjointMut::new);
    cpu.threads.for_each_chunk(args.params, CHUNK, |chunk, params, _| {
        let range = chunk * CHUNK..len.min((chunk + 1) * CHUNK);
        // SAFETY: chunks are distinct, so the ranges are disjoint.
        let (m, v) = unsafe { (m.slice_mut(range.clone()), v.slice_mut(range.clone())) };
        cpu.isa.dispatch(Update { rates, params, grads: &args.grads[range.clone()], m, v });
        if let Some(copy) = &copy {
            // SAFETY: as above.
            unsafe { copy.slice_mut(range) }.copy_from_slice(params);
        }
    });
    Ok(())
}

/// The settings as the factors of the update, rounded once.
#[derive(Clone, Copy)]
struct Rates {
    grad_scale: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    eps: f32,
    decay: f32,
    /// `lr / (1 - beta1^t)`
    lr: f32,
    /// `1 / sqrt(1 - beta2^t)`
    correction: f32,
}

impl Rates {
    fn new(h: &Hyper) -> Self {
        // A step beyond i32 has no bias left to correct.
        let t = i32::try_from(h.step).unwrap_or(i32::MAX);
        Self {
            grad_scale: h.grad_scale as f32,
            beta1: h.beta1 as f32,
            rest1: (1.0 - h.beta1) as f32,
            beta2: h.beta2 as f32,
            rest2: (1.0 - h.beta2) as f32,
            eps: h.eps as f32,
            decay: (-h.lr * h.weight_decay) as f32,
            lr: (-h.lr / (1.0 - h.beta1.powi(t))) as f32,
            correction: (1.0 / (1.0 - h.beta2.powi(t)).sqrt()) as f32,
        }
    }
}

struct Update<'a> {
    rates: Rates,
    params: &'a mut [f32],
    grads: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for Update<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
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
        }
    }
}

pub(super) fn sum_of_squares(cpu: &Cpu, args: SumOfSquares<'_, Cpu>) -> Result<()> {
    args.check()?;
    let mut parts = [0.0f64; PARTS];
    let chunk = args.x.len().div_ceil(PARTS).next_multiple_of(1024).max(1024);
    let used = args.x.len().div_ceil(chunk);
    cpu.threads.for_each_chunk(&mut parts[..used], 1, |i, part, _| {
        let x = &args.x[i * chunk..args.x.len().min((i + 1) * chunk)];
        part[0] = cpu.isa.dispatch(Squares(x));
    });
    args.out[0] = parts.iter().sum();
    Ok(())
}

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        vector::dot_f64(s, self.0, self.0)
    }
}

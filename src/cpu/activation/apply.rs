//! Activation and clamping of whole buffers.

use crate::Result;
use crate::ops::activation::{Activation, Backward, Clamp, ClampBackward, Forward};

use super::{value, value_and_derivative};
use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, Simd, Storage};

/// Elements of an element-wise task.
const CHUNK: usize = 1 << 14;
pub(in crate::cpu) fn forward<T: Storage>(cpu: &Cpu<T>, args: Forward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let (width, pre) = (args.shape.width, args.shape.pre());
    if width == 0 {
        return Ok(());
    }
    let rows = (CHUNK / width).max(1);
    cpu.threads.for_each_chunk(args.out, rows * width, |block, out, _| {
        let pre = &args.pre[block * rows * pre..][..out.len() / width * pre];
        cpu.isa.dispatch(Activate { activation: args.activation, gated: args.shape.gated, width, pre, out });
    });
    Ok(())
}

struct Activate<'a, T> {
    activation: Activation,
    gated: bool,
    width: usize,
    pre: &'a [T],
    out: &'a mut [T],
}

impl<T: Storage> Kernel for Activate<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let pre_width = if self.gated { 2 * self.width } else { self.width };
        for (pre, out) in self.pre.chunks_exact(pre_width).zip(self.out.chunks_exact_mut(self.width)) {
            let (gate, up) = pre.split_at(self.width);
            for at in (0..self.width).step_by(S::LANES) {
                let mut out_value = value(s, self.activation, s.load_partial(&gate[at..], 0.0));
                if self.gated {
                    out_value = out_value * s.load_partial(&up[at..], 0.0);
                }
                s.store_partial(&mut out[at..], out_value);
            }
        }
    }
}

pub(in crate::cpu) fn backward<T: Storage>(cpu: &Cpu<T>, args: Backward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let (width, pre) = (args.shape.width, args.shape.pre());
    if width == 0 {
        return Ok(());
    }
    let rows = (CHUNK / pre).max(1);
    cpu.threads.for_each_chunk(args.dpre, rows * pre, |block, dpre, _| {
        let count = dpre.len() / pre;
        cpu.isa.dispatch(ActivateBackward {
            activation: args.activation,
            gated: args.shape.gated,
            width,
            pre: &args.pre[block * rows * pre..][..dpre.len()],
            dout: &args.dout[block * rows * width..][..count * width],
            dpre,
        });
    });
    Ok(())
}

struct ActivateBackward<'a, T> {
    activation: Activation,
    gated: bool,
    width: usize,
    pre: &'a [T],
    dout: &'a [T],
    dpre: &'a mut [T],
}

impl<T: Storage> Kernel for ActivateBackward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.width;
        let pre_width = if self.gated { 2 * width } else { width };
        let rows = self.pre.chunks_exact(pre_width).zip(self.dpre.chunks_exact_mut(pre_width));
        for ((pre, dpre), dout) in rows.zip(self.dout.chunks_exact(width)) {
            let (gate, up) = pre.split_at(width);
            let (dgate, dup) = dpre.split_at_mut(width);
            for at in (0..width).step_by(S::LANES) {
                let (value, slope) =
                    value_and_derivative(s, self.activation, s.load_partial(&gate[at..], 0.0));
                let mut dout = s.load_partial(&dout[at..], 0.0);
                if self.gated {
                    s.store_partial(&mut dup[at..], dout * value);
                    dout = dout * s.load_partial(&up[at..], 0.0);
                }
                s.store_partial(&mut dgate[at..], dout * slope);
            }
        }
    }
}

pub(in crate::cpu) fn clamp_forward<T: Storage>(cpu: &Cpu<T>, args: Clamp<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let limit = args.limit as f32;
    cpu.threads.for_each_chunk(args.y, CHUNK, |block, y, _| {
        let x = &args.x[block * CHUNK..][..y.len()];
        cpu.isa.dispatch(ClampTo { limit, x, y });
    });
    Ok(())
}

struct ClampTo<'a, T> {
    limit: f32,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Storage> Kernel for ClampTo<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let limit = s.splat(self.limit);
        for (x, y) in self.x.chunks(S::LANES).zip(self.y.chunks_mut(S::LANES)) {
            // The bounds come first so that NaN passes through.
            let bounded = s.min(limit, s.max(-limit, s.load_partial(x, 0.0)));
            s.store_partial(y, bounded);
        }
    }
}

pub(in crate::cpu) fn clamp_backward<T: Storage>(
    cpu: &Cpu<T>,
    args: ClampBackward<'_, Cpu<T>>,
) -> Result<()> {
    args.check()?;
    let limit = args.limit as f32;
    cpu.threads.for_each_chunk(args.dy, CHUNK, |block, dy, _| {
        let x = &args.x[block * CHUNK..][..dy.len()];
        cpu.isa.dispatch(ClampGradient { limit, x, dy });
    });
    Ok(())
}

struct ClampGradient<'a, T> {
    limit: f32,
    x: &'a [T],
    dy: &'a mut [T],
}

impl<T: Storage> Kernel for ClampGradient<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let limit = s.splat(self.limit);
        for (x, dy) in self.x.chunks(S::LANES).zip(self.dy.chunks_mut(S::LANES)) {
            let outside = s.abs(s.load_partial(x, 0.0));
            let kept = s.select_lt(limit, outside, s.splat(0.0), s.load_partial(&*dy, 0.0));
            s.store_partial(dy, kept);
        }
    }
}

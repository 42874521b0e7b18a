//! Cross-entropy with z-loss.

use crate::ops::cross_entropy::{ForwardBackward, IGNORE};
use crate::{Error, Result};

use super::simd::{Kernel, Simd, Storage};
use super::threads::DisjointMut;
use super::{Cpu, vector};

pub(super) fn forward_backward<T: Storage>(cpu: &Cpu<T>, args: ForwardBackward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let vocabulary = args.vocabulary;
    let known = |target: i32| target == IGNORE || usize::try_from(target).is_ok_and(|id| id < vocabulary);
    if let Some(position) = args.targets.iter().position(|&target| !known(target)) {
        return Err(Error::argument(
            "cross_entropy",
            "targets",
            format!("below {vocabulary} or {IGNORE} (at {position})"),
            args.targets[position],
        ));
    }
    let (loss, lse) = (DisjointMut::new(args.loss), DisjointMut::new(args.lse));
    cpu.threads.for_each_chunk(args.logits, vocabulary, |row, logits, _| {
        let target = args.targets[row];
        // SAFETY: a row belongs to one task.
        let (loss, lse) = unsafe { (loss.slice_mut(row..row + 1), lse.slice_mut(row..row + 1)) };
        (loss[0], lse[0]) = if target == IGNORE {
            if args.backward {
                logits.fill(T::from_f32(0.0));
            }
            (0.0, 0.0)
        } else {
            cpu.isa.dispatch(Row {
                target: target as usize,
                scale: args.scale,
                z_weight: args.z_weight,
                backward: args.backward,
                logits,
            })
        };
    });
    Ok(())
}

/// One row: maximum, then exponentials and their sum, then the gradient; the second and third pass find it in cache.
/// Returns the loss and the log-sum-exp.
struct Row<'a, T> {
    target: usize,
    scale: f64,
    z_weight: f64,
    backward: bool,
    logits: &'a mut [T],
}

impl<T: Storage> Kernel for Row<'_, T> {
    type Output = (f32, f32);
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let logits = self.logits;
        let max = vector::max(s, &*logits);
        let own = logits[self.target].to_f32();
        let to_target = f64::from(max) - f64::from(own);
        // f32 holds the exponentials for the next pass; a smaller type would round them, and they are computed again.
        let keep = self.backward && T::as_f32(logits).is_some();
        let sum = vector::exp_sum(s, logits, max, keep);
        let log_sum = sum.ln();
        let lse = f64::from(max) + log_sum;
        if self.backward {
            let factor = self.scale * (1.0 + 2.0 * self.z_weight * lse) / sum;
            let (factor, shift) = (s.splat(factor as f32), s.splat(max));
            for part in logits.chunks_mut(S::LANES) {
                let x = s.load_partial(&*part, 0.0);
                let e = if keep { x } else { s.exp(x - shift) };
                s.store_partial(part, e * factor);
            }
            // Subtracted before it is rounded: the two may nearly cancel.
            let share = match keep {
                true => logits[self.target].to_f32(),
                false => s.reduce_max(s.exp(s.splat(own) - shift) * factor),
            };
            logits[self.target] = T::from_f32(share - self.scale as f32);
        }
        ((to_target + log_sum) as f32, lse as f32)
    }
}

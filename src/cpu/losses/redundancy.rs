//! Redundancy of the experts a token chose.

use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, Simd, Storage};
use crate::cpu::threads::DisjointMut;
use crate::ops::losses::Redundancy;
use crate::{Result, host};

use super::PARTS;

/// Added to squared lengths, so that a row of zeros is orthogonal to everything.
const EPSILON: f32 = 1e-12;
/// Most slots of a token.
const SLOTS: usize = 64;

/// Tokens write the rows that `inverse` names, so it must be a permutation; the start of `drows` serves as the marks of that
/// check before it is overwritten.
pub(in crate::cpu) fn redundancy<T: Storage>(cpu: &Cpu<T>, args: Redundancy<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let (top_k, routed_k, width, rows) = (args.top_k, args.routed_k, args.width, args.inverse.len());
    if args.tokens * top_k * width == 0 {
        return Ok(());
    }
    host::permutation("redundancy", "inverse", args.inverse, &mut args.drows[..rows], T::from_f32(1.0))?;
    let pairs = args.tokens as f64 * (routed_k * routed_k.saturating_sub(1)) as f64 / 2.0;
    let factor = if routed_k < 2 { 0.0 } else { args.coefficient / pairs };
    let drows = DisjointMut::new(args.drows);
    let mut parts = [0.0f64; PARTS];
    let per_part = args.tokens.div_ceil(PARTS);
    cpu.threads.for_each_chunk(&mut parts, 1, |block, part, _| {
        for token in block * per_part..args.tokens.min((block + 1) * per_part) {
            let slots = &args.inverse[token * top_k..][..top_k];
            part[0] +=
                cpu.isa.dispatch(Token { slots, routed_k, width, factor, rows: args.rows, drows: &drows });
        }
    });
    args.loss[0] += parts.iter().sum::<f64>();
    Ok(())
}

/// The slots of one token.
struct Token<'a, 'd, T> {
    slots: &'a [u32],
    routed_k: usize,
    width: usize,
    factor: f64,
    rows: &'a [T],
    drows: &'a DisjointMut<'d, T>,
}

impl<T: Storage> Kernel for Token<'_, '_, T> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let row = |slot: usize| &self.rows[self.slots[slot] as usize * self.width..][..self.width];
        let mut square = [0.0f32; SLOTS];
        for i in 0..self.routed_k {
            square[i] = s.dot(row(i), row(i)) + EPSILON;
        }
        let mut loss = 0.0;
        for i in 0..self.slots.len() {
            let at = self.slots[i] as usize * self.width;
            // SAFETY: `inverse` is a permutation (checked), so the row belongs to this slot, and the slot to one task.
            let drow = unsafe { self.drows.slice_mut(at..at + self.width) };
            if i >= self.routed_k {
                drow.fill(T::from_f32(0.0));
                continue;
            }
            let mut own = 0.0;
            let mut factors = [0.0f32; SLOTS];
            for j in (0..self.routed_k).filter(|&j| j != i) {
                let along = f64::from(s.dot(row(i), row(j)));
                let across = 2.0 * self.factor * along / (f64::from(square[i]) * f64::from(square[j]));
                factors[j] = across as f32;
                own -= across * along / f64::from(square[i]);
                // A pair is met twice.
                loss += 0.25 * across * along;
            }
            for at in (0..self.width).step_by(S::LANES) {
                let mut sum = s.splat(0.0);
                for j in (0..self.routed_k).filter(|&j| j != i) {
                    sum = s.fma(s.splat(factors[j]), s.load_partial(&row(j)[at..], 0.0), sum);
                }
                sum = s.fma(s.splat(own as f32), s.load_partial(&row(i)[at..], 0.0), sum);
                s.store_partial(&mut drow[at..], sum);
            }
        }
        loss
    }
}

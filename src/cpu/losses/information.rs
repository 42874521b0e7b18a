//! Entropies of the scores.

use crate::Result;
use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, Simd, Storage};
use crate::cpu::threads::DisjointMut;
use crate::ops::losses::MutualInformation;

use super::{PARTS, counts};

/// Keeps the logarithm of an unused expert finite.
const EPSILON: f64 = 1e-10;
/// Experts that a task works on at once.
const COLUMNS: usize = 16;

/// Both entropies are sums over experts, so a task owns some columns: their means, then their gradients.
pub(in crate::cpu) fn mutual_information<T: Storage>(
    cpu: &Cpu<T>,
    args: MutualInformation<'_, Cpu<T>>,
) -> Result<()> {
    args.check()?;
    let tokens = (0..args.tokens).filter(|&token| counts(args.valid, token)).count();
    if tokens == 0 || args.routed == 0 {
        return Ok(());
    }
    let columns = args.routed.div_ceil(PARTS).next_multiple_of(COLUMNS);
    let dprobs = DisjointMut::new(args.dprobs);
    let mut parts = [0.0f64; PARTS];
    let used = args.routed.div_ceil(columns);
    cpu.threads.for_each_chunk(&mut parts[..used], 1, |task, part, _| {
        for start in (task * columns..args.routed.min((task + 1) * columns)).step_by(COLUMNS) {
            part[0] += cpu.isa.dispatch(Columns {
                probs: args.probs,
                valid: args.valid,
                routed: args.routed,
                start,
                inverse_tokens: 1.0 / tokens as f64,
                token_weight: args.token_weight,
                marginal_weight: args.marginal_weight,
                dprobs: &dprobs,
            });
        }
    });
    args.loss[0] += parts.iter().sum::<f64>();
    Ok(())
}

/// The experts `start..start + COLUMNS` (or to the end) of all tokens.
struct Columns<'a, 'd> {
    probs: &'a [f32],
    valid: Option<&'a [u8]>,
    routed: usize,
    start: usize,
    inverse_tokens: f64,
    token_weight: f64,
    marginal_weight: f64,
    dprobs: &'a DisjointMut<'d, f32>,
}

impl Kernel for Columns<'_, '_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let end = self.routed.min(self.start + COLUMNS);
        let width = end - self.start;
        let mut mean = [0.0f64; COLUMNS];
        for (token, row) in self.probs.chunks_exact(self.routed).enumerate() {
            if counts(self.valid, token) {
                let p = block(&row[self.start..end]);
                for i in 0..COLUMNS {
                    mean[i] += f64::from(p[i]);
                }
            }
        }
        let (mut marginal, mut marginal_slope) = (0.0, [0.0f32; COLUMNS]);
        for (mean, slope) in mean.iter_mut().zip(&mut marginal_slope).take(width) {
            *mean *= self.inverse_tokens;
            let log = (*mean + EPSILON).ln();
            marginal -= *mean * log;
            let entropy_slope = -(log + *mean / (*mean + EPSILON));
            *slope = (self.marginal_weight * entropy_slope * self.inverse_tokens) as f32;
        }
        let factor = (self.token_weight * self.inverse_tokens) as f32;
        let mut conditional = [0.0f64; COLUMNS];
        for (token, row) in self.probs.chunks_exact(self.routed).enumerate() {
            if !counts(self.valid, token) {
                continue;
            }
            let at = token * self.routed;
            // SAFETY: the columns start..end belong to this task alone, in every row, and this is its only reference.
            let d = unsafe { self.dprobs.slice_mut(at + self.start..at + end) };
            let (p, mut sum) = (block(&row[self.start..end]), block(d));
            for i in 0..COLUMNS {
                let shifted = p[i] + EPSILON as f32;
                let log = ln(shifted);
                conditional[i] -= f64::from(p[i] * log);
                sum[i] += -factor * (log + p[i] / shifted) - marginal_slope[i];
            }
            d.copy_from_slice(&sum[..width]);
        }
        let conditional = conditional.iter().sum::<f64>() * self.inverse_tokens;
        self.token_weight * conditional - self.marginal_weight * marginal
    }
}

/// Up to [`COLUMNS`] values in an array, whose loops the compiler turns into vectors, and zeros after them.
#[inline(always)]
fn block(x: &[f32]) -> [f32; COLUMNS] {
    match x.first_chunk() {
        Some(full) => *full,
        None => {
            let mut padded = [0.0; COLUMNS];
            padded[..x.len()].copy_from_slice(x);
            padded
        }
    }
}

/// Natural logarithm of a positive normal number, within 2 ulp away from 1 and 1e-7 absolutely near it, without a branch so that
/// the compiler vectorises it: `x = 2^n m` with `m` in [1/sqrt 2, sqrt 2), `ln m = 2 artanh((m - 1) / (m + 1))`.
#[inline(always)]
fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let n = (bits.wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits()) as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((n << 23) as u32));
    let t = (m - 1.0) / (m + 1.0);
    let z = t * t;
    // The series of artanh; |t| <= 0.1716, so the first term left out is below 1e-9 of the sum.
    let series = 1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
    n as f32 * std::f32::consts::LN_2 + 2.0 * t * series
}

#[cfg(test)]
mod tests {
    #[test]
    fn logarithm_agrees_with_f64() {
        for i in 0..200_000 {
            let x = f32::from_bits(0x2000_0000 + i * 5003);
            let exact = f64::from(x).ln();
            let error = (f64::from(super::ln(x)) - exact).abs();
            assert!(error <= 1e-7 + 2.4e-7 * exact.abs(), "{x}: {error}");
        }
    }
}

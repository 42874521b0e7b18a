//! The fused router.

mod backward;
mod counts;
mod forward;
mod plain;
mod select;

pub(super) use backward::backward;
pub(super) use forward::forward;

use crate::ops::router::{KeepMask, RouterConfig, Score};
use crate::ops::segments::Segments;
use crate::{Result, host};

use super::Cpu;
use super::simd::{Simd, Storage};

/// Tokens of a task.
const TOKENS: usize = 64;
/// Below this, `e^x` is 0 in f64.
const UNDERFLOW: f64 = -745.133_219_101_941_2;
/// From here on, `1 / (1 + e^-x)` is 1 in f64.
const SATURATION: f64 = 36.736_800_569_677_1;

/// The inputs that both passes read.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    config: &'a RouterConfig,
    logits: &'a [f32],
    bias: Option<&'a [f32]>,
    keep: KeepMask<'a, Cpu>,
}

impl<'a> Inputs<'a> {
    /// The inputs of a backend that stores activations as `T`, which the router never sees.
    fn new<T: Storage>(
        config: &'a RouterConfig,
        logits: &'a [f32],
        bias: Option<&'a [f32]>,
        keep: KeepMask<'a, Cpu<T>>,
    ) -> Self {
        let keep = match keep {
            KeepMask::All => KeepMask::All,
            KeepMask::PerToken(keep) => KeepMask::PerToken(keep),
            KeepMask::PerSegment(keep, Segments { offsets, of_token }) => {
                KeepMask::PerSegment(keep, Segments { offsets, of_token })
            }
        };
        Self { config, logits, bias, keep }
    }

    /// Checks the values inside the mask's segments.
    fn check(&self, op: &'static str, tokens: usize) -> Result<()> {
        match &self.keep {
            KeepMask::PerSegment(_, segments) => host::segments(op, segments, tokens),
            KeepMask::All | KeepMask::PerToken(_) => Ok(()),
        }
    }

    #[inline(always)]
    fn token(&self, token: usize) -> Token<'a> {
        let (experts, routed) = (self.config.experts, self.config.routed());
        let keep = match self.keep {
            KeepMask::All => None,
            KeepMask::PerToken(keep) => Some(&keep[token * routed..][..routed]),
            KeepMask::PerSegment(keep, segments) => {
                Some(&keep[segments.of_token[token] as usize * routed..][..routed])
            }
        };
        let logits = &self.logits[token * experts..][..experts];
        Token { logits: &logits[..routed], shared: &logits[routed..], bias: self.bias, keep }
    }
}

/// One token's inputs.
#[derive(Clone, Copy)]
struct Token<'a> {
    /// Logits of the routed experts.
    logits: &'a [f32],
    /// Logits of the shared experts.
    shared: &'a [f32],
    /// Bias of all experts.
    bias: Option<&'a [f32]>,
    /// Mask of the routed experts.
    keep: Option<&'a [u8]>,
}

/// The point that logits are shifted to before exponentials: the greatest biased logit, as its two parts. Shifting each part
/// by its own keeps the digits of a small difference of large logits.
#[derive(Clone, Copy)]
struct Shift {
    logit: f32,
    bias: f32,
}

impl Shift {
    /// The greatest biased logit, rounded once.
    fn value(self) -> f64 {
        f64::from(self.logit) + f64::from(self.bias)
    }
}

impl Token<'_> {
    #[inline(always)]
    fn bias(&self, expert: usize) -> f32 {
        self.bias.map_or(0.0, |bias| bias[expert])
    }

    /// What orders the allowed routed experts as their exact scores do: the biased logit, which f64 holds with all its digits
    /// where f32 scores underflow, saturate or round to the same value; equal where f64 scores are equal because the
    /// exponential underflows or the sigmoid saturates. `greatest` is the greatest biased logit.
    #[inline(always)]
    fn rank(&self, config: &RouterConfig, greatest: f64, expert: usize) -> f64 {
        let z = f64::from(self.logits[expert]) + f64::from(self.bias(expert));
        match config.score {
            Score::Softmax if (z - greatest) < UNDERFLOW * config.temperature => f64::NEG_INFINITY,
            Score::Sigmoid if z < UNDERFLOW * config.temperature => f64::NEG_INFINITY,
            Score::Sigmoid if z > SATURATION * config.temperature => SATURATION * config.temperature,
            Score::Softmax | Score::Sigmoid => z,
        }
    }

    /// Whether routed expert `expert` is masked out or its logit is `-inf`.
    #[inline(always)]
    fn forbidden(&self, expert: usize) -> bool {
        self.keep.is_some_and(|keep| keep[expert] == 0)
            || self.logits[expert] + self.bias(expert) == f32::NEG_INFINITY
    }

    /// The shift of the allowed routed experts; `None` where there are none. `z` is overwritten.
    #[inline(always)]
    fn shift<S: Simd>(&self, s: S, z: &mut [f32]) -> Option<Shift> {
        for at in (0..z.len()).step_by(S::LANES) {
            let end = z.len().min(at + S::LANES);
            let biased = self.biased(s, at, end);
            s.store_partial(&mut z[at..end], biased);
        }
        self.mask(z);
        let max = super::vector::max(s, z);
        // The maximum passes over NaN. Where there is nothing else, NaN is the shift: it must reach the scores, not look like
        // a token without experts.
        let expert = match max {
            f32::NEG_INFINITY => z.iter().position(|z| z.is_nan())?,
            _ if self.bias.is_none() => return Some(Shift { logit: max, bias: 0.0 }),
            _ => z.iter().position(|&z| z == max).unwrap_or(0),
        };
        Some(Shift { logit: self.logits[expert], bias: self.bias(expert) })
    }

    /// Logits plus bias of the routed experts `at..end`, one vector.
    #[inline(always)]
    fn biased<S: Simd>(&self, s: S, at: usize, end: usize) -> S::F {
        let z = s.load_partial(&self.logits[at..end], f32::NEG_INFINITY);
        match self.bias {
            Some(bias) => z + s.load_partial(&bias[at..end], 0.0),
            None => z,
        }
    }

    /// `z_i = -inf` for the masked experts.
    #[inline(always)]
    fn mask(&self, z: &mut [f32]) {
        if let Some(keep) = self.keep {
            for (z, &keep) in z.iter_mut().zip(keep) {
                *z = if keep == 0 { f32::NEG_INFINITY } else { *z };
            }
        }
    }

    /// `out_i = e^((z_i - shift) / temperature)` for the allowed experts, 0 for the others; returns the sum.
    #[inline(always)]
    fn exponentials<S: Simd>(&self, s: S, shift: Shift, inverse_temperature: f32, out: &mut [f32]) -> f32 {
        let routed = self.logits.len();
        for at in (0..routed).step_by(S::LANES) {
            let end = routed.min(at + S::LANES);
            let mut z = s.load_partial(&self.logits[at..end], f32::NEG_INFINITY) - s.splat(shift.logit);
            if let Some(bias) = self.bias {
                z = z + (s.load_partial(&bias[at..end], 0.0) - s.splat(shift.bias));
            }
            s.store_partial(&mut out[at..end], z);
        }
        self.mask(out);
        let scale = s.splat(inverse_temperature);
        let mut sum = s.splat(0.0);
        for part in out.chunks_mut(S::LANES) {
            let e = s.exp(s.load_partial(part, f32::NEG_INFINITY) * scale);
            sum = sum + e;
            s.store_partial(part, e);
        }
        s.reduce_add(sum)
    }

    /// `out = softmax((z + bias) / temperature)` over the shared experts.
    #[inline(always)]
    fn shared_softmax(&self, temperature: f64, out: &mut [f32]) {
        let (routed, shared) = (self.logits.len(), self.shared.len());
        let biased = |i: usize| f64::from(self.shared[i]) + f64::from(self.bias(routed + i));
        let max = (0..shared).fold(f64::NEG_INFINITY, |max, i| max.max(biased(i)));
        if max == f64::NEG_INFINITY {
            out.fill(0.0);
            return;
        }
        let exponential = |i: usize| ((biased(i) - max) / temperature).exp();
        let sum: f64 = (0..shared).map(exponential).sum();
        (0..shared).for_each(|i| out[i] = (exponential(i) / sum) as f32);
    }
}

//! The commonest router: softmax of temperature 1 over experts of which none is masked, biased or always active.
//!
//! A token's chain of dependent steps (maximum, exponentials, bound, ranks) is longer than a processor looks ahead, so each
//! step is done for a few tokens before the next one, without a branch on a score. Where that is not enough (many ties, a
//! sum that underflows) the general path takes the token; both give the same bits.

use super::{Inputs, UNDERFLOW};
use crate::cpu::simd::Simd;
use crate::ops::router::{KeepMask, Score};

/// Most experts.
pub(super) const EXPERTS: usize = 512;
/// Most experts that reach the bound: a few more than the usual top-k of 8.
const CANDIDATES: usize = 32;
/// Most experts that are chosen: the lanes of the narrowest vector.
const PLACES: usize = 8;
/// Lanes of the widest vector.
const LANES: usize = 16;
/// Tokens that take each step together.
pub(super) const TOGETHER: usize = 8;

/// Whether the router is one of these.
pub(super) fn applies(inputs: &Inputs<'_>, selection_bias: Option<&[f32]>) -> bool {
    let config = inputs.config;
    matches!(inputs.keep, KeepMask::All)
        && inputs.bias.is_none()
        && selection_bias.is_none()
        && config.always_active.is_empty()
        && config.score == Score::Softmax
        && config.temperature == 1.0
        && config.routed_k() <= PLACES
        && (1..=EXPERTS).contains(&config.routed())
}

/// A few tokens between two steps.
pub(super) struct Plain {
    /// Greatest logit of each lane.
    lanes: [[f32; LANES]; TOGETHER],
    /// Greatest logit.
    pub greatest: [f32; TOGETHER],
    /// Sum of `e^(z - greatest)`.
    pub sum: [f32; TOGETHER],
    /// What at least as many logits reach as experts are chosen.
    bound: [f32; TOGETHER],
    /// Logits that reach the bound, in the order of their experts.
    values: [[f32; CANDIDATES + LANES]; TOGETHER],
    /// Their experts, as numbers that f32 holds exactly.
    experts: [[f32; CANDIDATES + LANES]; TOGETHER],
    /// How many they are; more than [`CANDIDATES`] where the general path has to take the token.
    count: [usize; TOGETHER],
}

impl Plain {
    pub fn new() -> Self {
        Self {
            lanes: [[0.0; LANES]; TOGETHER],
            greatest: [0.0; TOGETHER],
            sum: [0.0; TOGETHER],
            bound: [0.0; TOGETHER],
            values: [[0.0; CANDIDATES + LANES]; TOGETHER],
            experts: [[0.0; CANDIDATES + LANES]; TOGETHER],
            count: [0; TOGETHER],
        }
    }

    /// Writes the scores of up to [`TOGETHER`] tokens and finds the candidates for their best experts: of `experts` logits of
    /// a token the first `routed` count, of which `places` will be chosen.
    #[inline(always)]
    pub fn score<S: Simd>(
        &mut self,
        s: S,
        (experts, routed, places): (usize, usize, usize),
        logits: &[f32],
        p: &mut [f32],
    ) {
        let rows = || logits.chunks_exact(experts).map(|row| &row[..routed]).enumerate();
        for (i, row) in rows() {
            let best = lane_maxima(s, row);
            s.store(&mut self.lanes[i], best);
            self.greatest[i] = s.reduce_max(best);
        }
        for ((i, row), p) in rows().zip(p.chunks_exact_mut(routed)) {
            let (shift, mut sum) = (s.splat(self.greatest[i]), s.splat(0.0));
            for (z, p) in row.chunks(S::LANES).zip(p.chunks_mut(S::LANES)) {
                let e = s.exp(s.load_partial(z, f32::NEG_INFINITY) - shift);
                sum = sum + e;
                s.store_partial(p, e);
            }
            self.sum[i] = s.reduce_add(sum);
        }
        for (i, _) in rows() {
            self.bound[i] = bound(s, &self.lanes[i], places);
        }
        for (i, row) in rows() {
            self.candidates(s, i, row);
        }
        for (i, p) in p.chunks_exact_mut(routed).enumerate() {
            let factor = s.splat(1.0 / self.sum[i]);
            for part in p.chunks_mut(S::LANES) {
                let scaled = s.load_partial(part, 0.0) * factor;
                s.store_partial(part, scaled);
            }
        }
    }

    /// Collects the logits of token `i` that reach its bound.
    #[inline(always)]
    fn candidates<S: Simd>(&mut self, s: S, i: usize, logits: &[f32]) {
        const ASCENDING: [f32; LANES] =
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
        let (values, experts) = (&mut self.values[i], &mut self.experts[i]);
        let (reaches, step) = (s.splat(self.bound[i]), s.splat(S::LANES as f32));
        let (mut numbers, mut count) = (s.load(&ASCENDING), 0);
        for part in logits.chunks(S::LANES) {
            let z = s.load_partial(part, f32::NEG_INFINITY);
            let reached = s.mask_le(reaches, z);
            let at = count.min(CANDIDATES);
            s.compress(&mut values[at..], reached, z);
            s.compress(&mut experts[at..], reached, numbers);
            numbers = numbers + step;
            count += reached.count_ones() as usize;
        }
        let lowest = s.splat(f32::NEG_INFINITY);
        for at in (0..LANES).step_by(S::LANES) {
            s.store(&mut values[count.min(CANDIDATES) + at..], lowest);
        }
        // Where the exponential underflows in f64, unequal logits have equal scores.
        let distinct = f64::from(self.bound[i]) - f64::from(self.greatest[i]) >= UNDERFLOW + 1.0;
        self.count[i] = if distinct { count } else { usize::MAX };
    }

    /// The experts of the greatest logits of token `i`, descending, ties to the lower index; false where the general path has
    /// to choose.
    #[inline(always)]
    pub fn top<S: Simd>(&self, s: S, i: usize, experts: &mut [u32]) -> bool {
        // Nearly always one vector of the widest kind.
        let count = self.count[i];
        if count <= LANES {
            self.ranked::<S, LANES>(s, i, experts);
        } else if count <= CANDIDATES {
            self.ranked::<S, CANDIDATES>(s, i, experts);
        }
        count <= CANDIDATES
    }

    /// [`Plain::top`] among the first `N` candidates: an expert's place is the number of those before it.
    #[inline(always)]
    fn ranked<S: Simd, const N: usize>(&self, s: S, i: usize, experts: &mut [u32]) {
        let (values, numbers) = (&self.values[i], &self.experts[i]);
        let mut places = [0.0f32; CANDIDATES];
        for j in 0..N {
            let value = s.splat(values[j]);
            let (mut greater, mut equal_or_greater) = (0u64, 0u64);
            for at in (0..N).step_by(S::LANES) {
                let others = s.load(&values[at..]);
                greater |= s.mask_lt(value, others) << at;
                equal_or_greater |= s.mask_le(value, others) << at;
            }
            let before = greater | (equal_or_greater & ((1 << j) - 1));
            places[before.count_ones() as usize % CANDIDATES] = numbers[j];
        }
        experts.iter_mut().zip(&places).for_each(|(expert, &number)| *expert = number as u32);
    }
}

/// The greatest logit of each lane.
#[inline(always)]
fn lane_maxima<S: Simd>(s: S, logits: &[f32]) -> S::F {
    let mut best = [s.splat(f32::NEG_INFINITY); 2];
    for (i, part) in logits.chunks(S::LANES).enumerate() {
        best[i % 2] = s.max(s.load_partial(part, f32::NEG_INFINITY), best[i % 2]);
    }
    s.max(best[0], best[1])
}

/// The `places`-th greatest lane: as many logits reach it. `-inf` where that takes more lanes than there are.
#[inline(always)]
fn bound<S: Simd>(s: S, lanes: &[f32; LANES], places: usize) -> f32 {
    let best = s.load(lanes);
    let mut reached_by = [f32::NEG_INFINITY; LANES];
    for (&lane, out) in lanes[..S::LANES].iter().zip(&mut reached_by) {
        let reached = s.mask_le(s.splat(lane), best).count_ones() as usize;
        // No branch: whether a lane is among the greatest is a coin toss.
        let keep = u32::from(reached >= places).wrapping_neg();
        *out = f32::from_bits((lane.to_bits() & keep) | (f32::NEG_INFINITY.to_bits() & !keep));
    }
    s.reduce_max(s.load(&reached_by))
}

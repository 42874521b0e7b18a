//! Top-k selection.

use super::{SATURATION, Token, UNDERFLOW};
use crate::cpu::simd::Simd;
use crate::ops::router::{RouterConfig, Score};

/// Most experts that [`Ranking::top`] ranks.
pub(super) const EXPERTS: usize = 512;
/// Most candidates that it ranks: a few more than the usual top-k of 8.
const CANDIDATES: usize = 32;

/// What the routed experts of a token are chosen by.
pub(super) struct Ranking<'a> {
    pub token: &'a Token<'a>,
    pub config: &'a RouterConfig,
    /// The greatest biased logit.
    pub greatest: f64,
    pub scores: &'a [f32],
    pub selection_bias: Option<&'a [f32]>,
    /// Experts to skip.
    pub taken: &'a [u32],
}

impl Ranking<'_> {
    /// What decides, in f64: see [`Token::rank`], or the score with its correction.
    #[inline(always)]
    fn rank(&self, expert: usize) -> f64 {
        match self.selection_bias {
            None => self.token.rank(self.config, self.greatest, expert),
            Some(bias) => f64::from(self.scores[expert]) + f64::from(bias[expert]),
        }
    }

    /// Does what [`Ranking::top_by_insertion`] does without branches on the scores, or returns false where that is rare: many
    /// ties, too few allowed experts, large `k`, ranks that underflow or saturate.
    ///
    /// Keys are the ranks rounded to f32, which keeps their order. The k-th greatest of the lanes' maxima is a bound that k
    /// experts reach, so the best k are among those that do. These few are compared pair by pair; an expert's place is the
    /// number of those before it. `keys` starts as `-inf` and serves the tokens of one call after another.
    #[inline(always)]
    pub fn top<S: Simd>(&self, s: S, keys: &mut [f32; EXPERTS], experts: &mut [u32]) -> bool {
        let (n, places) = (self.scores.len(), experts.len());
        if places == 0 {
            return true;
        }
        if places > S::LANES || n > EXPERTS {
            return false;
        }
        self.keys(s, &mut keys[..n]);
        // Elements from n on are never written.
        let keys = &keys[..n.next_multiple_of(S::LANES)];
        let mut best = s.splat(f32::NEG_INFINITY);
        for part in keys.chunks_exact(S::LANES) {
            best = s.max(s.load(part), best);
        }
        let mut lanes = [f32::NEG_INFINITY; 16];
        s.store(&mut lanes, best);
        let mut bound = f32::NEG_INFINITY;
        for &lane in &lanes[..S::LANES] {
            let reached = s.mask_le(s.splat(lane), best).count_ones() as usize >= places;
            bound = if reached && lane > bound { lane } else { bound };
        }
        if bound == f32::NEG_INFINITY || self.collapses(f64::from(bound)) {
            return false;
        }

        let (mut values, mut candidates) = ([f32::NEG_INFINITY; CANDIDATES], [0u32; CANDIDATES]);
        let mut count = 0;
        for (block, part) in keys.chunks(64).enumerate() {
            let mut reached = 0u64;
            for (i, part) in part.chunks_exact(S::LANES).enumerate() {
                reached |= s.mask_le(s.splat(bound), s.load(part)) << (i * S::LANES);
            }
            if count + reached.count_ones() as usize > CANDIDATES {
                return false;
            }
            while reached != 0 {
                let expert = 64 * block + reached.trailing_zeros() as usize;
                values[count] = keys[expert];
                candidates[count] = expert as u32;
                count += 1;
                reached &= reached - 1;
            }
        }
        let candidates = &candidates[..count];
        if self.token.bias.is_none() && self.selection_bias.is_none() {
            // The key is the logit itself.
            for i in 0..count {
                let value = s.splat(values[i]);
                let (mut greater, mut equal_or_greater) = (0, 0);
                for at in (0..count).step_by(S::LANES) {
                    let others = s.load(&values[at..]);
                    greater |= s.mask_lt(value, others) << at;
                    equal_or_greater |= s.mask_le(value, others) << at;
                }
                let before = greater | (equal_or_greater & ((1 << i) - 1));
                if let Some(expert) = experts.get_mut(before.count_ones() as usize) {
                    *expert = candidates[i];
                }
            }
        } else {
            let mut ranks = [f64::NEG_INFINITY; CANDIDATES];
            ranks.iter_mut().zip(candidates).for_each(|(rank, &expert)| *rank = self.rank(expert as usize));
            for i in 0..count {
                let ahead = |j: usize| ranks[j] > ranks[i] || (ranks[j] == ranks[i] && j < i);
                if let Some(expert) = experts.get_mut((0..count).filter(|&j| ahead(j)).count()) {
                    *expert = candidates[i];
                }
            }
        }
        true
    }

    /// Whether ranks of experts whose key reaches `bound` may be equal where their keys are not.
    #[inline(always)]
    fn collapses(&self, bound: f64) -> bool {
        let temperature = self.config.temperature;
        match (self.selection_bias, self.config.score) {
            (Some(_), _) => false,
            (None, Score::Softmax) => bound - self.greatest < (UNDERFLOW + 1.0) * temperature,
            (None, Score::Sigmoid) => {
                bound < (UNDERFLOW + 1.0) * temperature || self.greatest > (SATURATION - 1.0) * temperature
            }
        }
    }

    /// The ranks rounded to f32, `-inf` for experts that are forbidden or taken.
    #[inline(always)]
    fn keys<S: Simd>(&self, s: S, keys: &mut [f32]) {
        let lowest = s.splat(f32::NEG_INFINITY);
        for at in (0..keys.len()).step_by(S::LANES) {
            let end = keys.len().min(at + S::LANES);
            let biased = self.token.biased(s, at, end);
            let key = match self.selection_bias {
                None => biased,
                Some(bias) => {
                    s.load_partial(&self.scores[at..end], 0.0) + s.load_partial(&bias[at..end], 0.0)
                }
            };
            let allowed = s.select_lt(lowest, biased, key, lowest);
            s.store_partial(&mut keys[at..end], allowed);
        }
        self.token.mask(keys);
        for &expert in self.taken {
            keys[expert as usize] = f32::NEG_INFINITY;
        }
    }

    /// Fills `experts` with the best allowed routed experts by rank, descending, ties to the lower index, and then with
    /// forbidden ones, lowest index first. Experts in `taken` are skipped.
    pub fn top_by_insertion(&self, experts: &mut [u32]) {
        let (token, taken, places) = (self.token, self.taken, experts.len());
        let (mut filled, mut last) = (0, f64::NAN);
        for expert in 0..token.logits.len() {
            let value = self.rank(expert);
            // A full list takes only what is better than its last entry; a NaN is never better.
            let full = filled == places;
            if full && (places == 0 || !better(value, last)) {
                continue;
            }
            if token.forbidden(expert) || taken.contains(&(expert as u32)) {
                continue;
            }
            let mut at = if full { places - 1 } else { filled };
            while at > 0 && better(value, self.rank(experts[at - 1] as usize)) {
                experts[at] = experts[at - 1];
                at -= 1;
            }
            experts[at] = expert as u32;
            filled += usize::from(!full);
            if filled == places {
                last = self.rank(experts[places - 1] as usize);
            }
        }
        let mut expert = 0;
        while filled < places && expert < token.logits.len() {
            if token.forbidden(expert) && !taken.contains(&(expert as u32)) {
                experts[filled] = expert as u32;
                filled += 1;
            }
            expert += 1;
        }
    }
}

/// Whether `value` comes before `other`, which has a lower index. NaN comes last.
#[inline(always)]
fn better(value: f64, other: f64) -> bool {
    value > other || (other.is_nan() && !value.is_nan())
}

//! From logits to tokens.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::data::Tokenizer;
use crate::error::{Error, Result};

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits, 0 to 100; 0 always takes the likeliest token, of equal ones the lowest.
    pub temperature: f64,
    /// Draw among the likeliest tokens that together have this probability, above 0 and at most 1.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// Draws tokens; the same seed and the same logits give the same tokens.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the start of its seed.
    ///
    /// # Errors
    /// [`Error::Usage`] for a temperature or a probability outside its range.
    pub fn new(sampling: Sampling) -> Result<Self> {
        for (name, value, low, high) in [
            ("--temperature", sampling.temperature, 0.0, 100.0),
            ("--top-p", sampling.top_p, f64::MIN_POSITIVE, 1.0),
        ] {
            if !(low..=high).contains(&value) {
                return Err(Error::Usage(format!("{name} must lie between {low} and {high}, found {value}")));
            }
        }
        Ok(Self { sampling, random: ChaCha8Rng::seed_from_u64(sampling.seed) })
    }

    /// Draws from `softmax(logits / temperature)` among the likeliest tokens that together reach `top_p`
    /// (Holtzman et al. 2020, arXiv 1904.09751).
    ///
    /// # Errors
    /// [`Error::NonFinite`] where no logit is a number, or the greatest is not finite.
    pub fn draw(&mut self, logits: &[f64]) -> Result<u32> {
        let Sampling { temperature, top_p, .. } = self.sampling;
        let mut order: Vec<usize> = (0..logits.len()).filter(|&token| !logits[token].is_nan()).collect();
        let better = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
        let Some(&likeliest) = order.iter().min_by(|a, b| better(a, b)) else {
            return Err(Error::NonFinite("the model's logits are no numbers".into()));
        };
        let best = logits[likeliest];
        if !best.is_finite() {
            return Err(Error::NonFinite(format!("the model's greatest logit is {best}")));
        }
        if temperature == 0.0 {
            return Ok(likeliest as u32);
        }
        order.sort_by(better);
        let weight = |token: usize| ((logits[token] - best) / temperature).exp();
        let all: f64 = order.iter().map(|&token| weight(token)).sum();
        let (mut kept, mut last) = (0.0, 0);
        for (rank, &token) in order.iter().enumerate() {
            (kept, last) = (kept + weight(token), rank);
            if kept >= top_p * all {
                break;
            }
        }
        let mut left = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * kept;
        for &token in &order[..last] {
            left -= weight(token);
            if left < 0.0 {
                return Ok(token as u32);
            }
        }
        Ok(order[last] as u32)
    }
}

/// Ids that stand for no text, such as rows that only fill up the table, are never drawn; the end of a document is.
pub fn leave_out_empty(logits: &mut [f64], tokenizer: &Tokenizer) {
    let lengths = tokenizer.byte_lengths();
    for (id, logit) in logits.iter_mut().enumerate() {
        if id != tokenizer.identity().eos as usize && lengths.get(id).is_none_or(|&length| length == 0) {
            *logit = f64::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f64, top_p: f64) -> Sampler {
        Sampler::new(Sampling { temperature, top_p, seed: 1 }).unwrap()
    }

    #[test]
    fn draws_follow_the_probabilities_inside_the_nucleus() {
        let logits = [0.5f64.ln(), 0.3f64.ln(), 0.15f64.ln(), 0.05f64.ln()];
        let mut sampler = sampler(1.0, 0.75);
        let mut seen = [0usize; 4];
        for _ in 0..10_000 {
            seen[sampler.draw(&logits).unwrap() as usize] += 1;
        }
        assert_eq!(&seen[2..], [0, 0], "outside the nucleus");
        assert!((seen[0] as f64 / 10_000.0 - 0.625).abs() < 0.02, "{seen:?}");
    }

    #[test]
    fn no_temperature_takes_the_likeliest_and_of_equals_the_lowest() {
        let mut sampler = sampler(0.0, 1.0);
        assert_eq!(sampler.draw(&[f64::NAN, 1.0, 3.0, 3.0]).unwrap(), 2);
        assert!(sampler.draw(&[f64::NAN]).is_err());
        assert!(sampler.draw(&[]).is_err());
        assert!(sampler.draw(&[f64::NEG_INFINITY, f64::NAN]).is_err());
        assert!(sampler.draw(&[0.0, f64::INFINITY]).is_err());
    }

    #[test]
    fn a_temperature_sharpens() {
        let mut sampler = sampler(0.5, 1.0);
        // exp(ln 3 / 0.5) = 9 against 1.
        let draws = (0..10_000).filter(|_| sampler.draw(&[3f64.ln(), 0.0]).unwrap() == 0).count();
        assert!((draws as f64 / 10_000.0 - 0.9).abs() < 0.02, "{draws}");
    }

    #[test]
    fn settings_outside_their_range_are_refused() {
        for (temperature, top_p) in [(-1.0, 1.0), (f64::NAN, 1.0), (1.0, 0.0), (1.0, 1.1)] {
            assert!(Sampler::new(Sampling { temperature, top_p, seed: 0 }).is_err());
        }
    }
}

//! `trainer generate`: continue a text.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use emo::Backend;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use super::device::{self, Start, Work};
use crate::checkpoint::{folder, hf};
use crate::cli::Generate;
use crate::data::ByteTokenizer;
use crate::error::{Error, Result};
use crate::evaluate::text::reads_bytes;
use crate::model::{Capacity, Inputs, Model};

/// The output of `--json`.
#[derive(Serialize)]
struct Generated<'a> {
    prompt: &'a str,
    text: String,
    tokens: usize,
    checkpoint: PathBuf,
}

/// Samples.
pub fn run(args: &Generate) -> Result<()> {
    for (name, value, low, high) in
        [("--temperature", args.temperature, 0.0, 100.0), ("--top-p", args.top_p, f64::MIN_POSITIVE, 1.0)]
    {
        if !(low..=high).contains(&value) {
            return Err(Error::Usage(format!("{name} must lie between {low} and {high}, found {value}")));
        }
    }
    device::run(args.device, args.storage, args.threads, Sampling(args))
}

struct Sampling<'a>(&'a Generate);

impl Work for Sampling<'_> {
    const PEAK: bool = false;

    fn on<B: Backend>(self, backend: B, start: Start) -> Result<()> {
        start.note.iter().for_each(|note| tracing::warn!("{note}"));
        sample(Arc::new(backend), self.0)
    }
}

fn sample<B: Backend>(backend: Arc<B>, args: &Generate) -> Result<()> {
    let checkpoint = folder::find(&args.checkpoint)?;
    let (config, _) = hf::read_config(&checkpoint)?;
    if !reads_bytes(&config) {
        return Err(Error::checkpoint(
            &checkpoint,
            "was not trained on bytes as tokens, and no other tokeniser is built in",
        ));
    }
    let context = config.max_positions;
    let capacity =
        Capacity { tokens: context, longest: context, domains: 0, redundancy: false, backward: false };
    let mut model = hf::load(&checkpoint, backend, capacity)?;
    let mut ids: Vec<u32> = ByteTokenizer.encode(&args.prompt).collect();
    // The end of a document is what a document begins after.
    if ids.is_empty() {
        ids.push(ByteTokenizer::EOS);
    }
    let prompt = ids.len();
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let mut out = std::io::stdout().lock();
    let mut show = |bytes: &[u8]| {
        if args.json {
            return Ok(());
        }
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::io("write", "the standard output"))
    };
    show(args.prompt.as_bytes())?;
    for _ in 0..args.tokens {
        let window = ids.len().saturating_sub(context);
        let logits = next_logits(&mut model, &ids[window..])?;
        // Ids beyond EOS pad tables and stand for nothing.
        let next = draw(&logits[..=ByteTokenizer::EOS as usize], args.temperature, args.top_p, &mut random);
        if next == ByteTokenizer::EOS {
            break;
        }
        ids.push(next);
        show(&ByteTokenizer.decode_bytes(&[next]))?;
    }
    if args.json {
        let text = ByteTokenizer.decode(&ids[prompt..]);
        let generated = Generated { prompt: &args.prompt, text, tokens: ids.len() - prompt, checkpoint };
        println!("{}", serde_json::to_string(&generated).unwrap_or_default());
        return Ok(());
    }
    show(b"\n")
}

/// Logits of the token that follows `ids`, which are computed again in full.
fn next_logits<B: Backend>(model: &mut Model<B>, ids: &[u32]) -> Result<Vec<f64>> {
    model.forward(&Inputs::rows(ids.to_vec(), 1, ids.len()))?;
    Ok(model.logits(ids.len() - 1..ids.len())?)
}

/// Draws from `softmax(logits / temperature)` among the likeliest tokens that together reach `top_p`
/// (Holtzman et al. 2020, arXiv 1904.09751). Temperature 0 takes the likeliest, ties the lowest.
fn draw(logits: &[f64], temperature: f64, top_p: f64, random: &mut impl Rng) -> u32 {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let best = logits[order[0]];
    if temperature == 0.0 {
        return order[0] as u32;
    }
    let weight = |token: usize| ((logits[token] - best) / temperature).exp();
    let all: f64 = order.iter().map(|&token| weight(token)).sum();
    let mut kept = 0.0;
    let mut last = 0;
    for (rank, &token) in order.iter().enumerate() {
        (kept, last) = (kept + weight(token), rank);
        if kept >= top_p * all {
            break;
        }
    }
    let mut left = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * kept;
    for &token in &order[..last] {
        left -= weight(token);
        if left < 0.0 {
            return token as u32;
        }
    }
    order[last] as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_probabilities_inside_the_nucleus() {
        let logits = [0.5f64.ln(), 0.3f64.ln(), 0.15f64.ln(), 0.05f64.ln()];
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut seen = [0usize; 4];
        for _ in 0..10_000 {
            seen[draw(&logits, 1.0, 0.75, &mut random) as usize] += 1;
        }
        assert_eq!(&seen[2..], [0, 0], "outside the nucleus");
        assert!((seen[0] as f64 / 10_000.0 - 0.625).abs() < 0.02, "{seen:?}");
        assert_eq!(draw(&logits, 0.0, 1.0, &mut random), 0);
        assert_eq!(draw(&[1.0, 1.0], 0.0, 1.0, &mut random), 0);
    }
}

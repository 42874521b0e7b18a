//! `trainer generate`: continue a text.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use emo::Backend;
use serde::Serialize;

use super::device::{self, Start, Work};
use crate::bench::memory::Mark;
use crate::checkpoint::{folder, hf, tokenizer};
use crate::cli::{Generate, TextPool};
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::generate::{Decoder, Sampler, Sampling, Stream, leave_out_empty};
use crate::model::ModelConfig;
use crate::output::{out, tell};
use crate::subset::run;

/// The output of `--json`.
#[derive(Serialize)]
struct Generated<'a> {
    prompt: &'a str,
    text: String,
    prompt_tokens: usize,
    tokens: usize,
    stop: Stop,
    /// Time of all tokens of the prompt.
    prompt_ms: f64,
    /// Mean time of a token after the first, which the prompt's pass gives.
    ms_per_token: Option<f64>,
    /// The most memory that model and text took, as the system counts resident pages; none where it does not.
    peak_memory_bytes: Option<u64>,
    checkpoint: PathBuf,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stop {
    EndOfDocument,
    Tokens,
    Positions,
}

/// Samples.
pub fn run(args: &Generate) -> Result<()> {
    let sampling = Sampling { temperature: args.temperature, top_p: args.top_p, seed: args.seed };
    let sampler = Sampler::new(sampling)?;
    device::run(args.compute, Continuing { args, sampler })
}

struct Continuing<'a> {
    args: &'a Generate,
    sampler: Sampler,
}

impl Work for Continuing<'_> {
    const PEAK: bool = false;

    fn on<B: Backend>(self, backend: B, start: Start) -> Result<()> {
        start.note.iter().for_each(|note| tracing::warn!("{note}"));
        generate(Arc::new(backend), self.args, self.sampler)
    }
}

fn generate<B: Backend>(backend: Arc<B>, args: &Generate, mut sampler: Sampler) -> Result<()> {
    let checkpoint = folder::find(&args.checkpoint)?;
    let (config, _) = hf::read_config(&checkpoint)?;
    let tokenizer = tokenizer::of(&checkpoint, args.tokenizer.as_deref(), &config)?;
    // Only `--json` tells it.
    let mark = args.json.then(Mark::set).flatten();
    let prompt = prompt(&args.prompt, &tokenizer, &config)?;
    let pool = pool_size(args, &config)?;
    let longest = config.max_positions.min(prompt.len().saturating_add(args.tokens));
    let mut capacity = Decoder::<B>::capacity(&config, 1, longest);
    if args.pool_size.is_some() {
        // All of the text that chooses the pool passes through at once.
        let chooses = if args.pool == TextPool::SoFar { longest } else { prompt.len() };
        capacity.tokens = capacity.tokens.max(chooses);
    }
    let mut model = run::load(&checkpoint, args.experts.as_deref(), backend, capacity)?;
    if let Some(size) = pool {
        run::use_pool_of(&mut model, &prompt, size)?;
    }
    let mut decoder = Decoder::new(model, 1)?;
    let mut out = std::io::stdout().lock();
    let mut show = |text: &str| {
        if args.json {
            return Ok(());
        }
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(Error::io("write", "the standard output"))
    };
    show(&args.prompt)?;
    let start = Instant::now();
    let mut logits = decoder.extend(&[(0, &prompt)])?.swap_remove(0);
    let prompt_ms = milliseconds(start);
    let mut stream = Stream::after(&tokenizer, if args.prompt.is_empty() { &[] } else { &prompt });
    let mut text = String::new();
    let (mut tokens, start) = (0, Instant::now());
    let stop = loop {
        if tokens == args.tokens {
            break Stop::Tokens;
        }
        leave_out_empty(&mut logits, &tokenizer);
        let next = sampler.draw(&logits)?;
        if next == tokenizer.identity().eos {
            break Stop::EndOfDocument;
        }
        tokens += 1;
        let piece = stream.push(next);
        show(&piece)?;
        text += &piece;
        if tokens == args.tokens {
            break Stop::Tokens;
        }
        if decoder.room(0) == 0 {
            break Stop::Positions;
        }
        if let Some(size) =
            pool.filter(|_| args.pool == TextPool::SoFar && tokens.is_multiple_of(args.pool_every))
        {
            let text = [decoder.tokens(0), &[next]].concat();
            run::use_pool_of(decoder.model_mut(), &text, size)?;
        }
        logits = decoder.extend(&[(0, &[next])])?.swap_remove(0);
    };
    let ms_per_token = (tokens > 1).then(|| milliseconds(start) / (tokens - 1) as f64);
    let end = stream.finish();
    show(&end)?;
    show("\n")?;
    text += &end;
    if args.json {
        let prompt_tokens = prompt.len();
        let (prompt, peak_memory_bytes) = (&args.prompt, mark.and_then(Mark::peak));
        let generated = Generated {
            prompt,
            text,
            prompt_tokens,
            tokens,
            stop,
            prompt_ms,
            ms_per_token,
            peak_memory_bytes,
            checkpoint,
        };
        out!("{}", serde_json::to_string(&generated).unwrap_or_default());
        return Ok(());
    }
    let why = match stop {
        Stop::EndOfDocument => "the document ended".to_owned(),
        Stop::Tokens => "as many as asked for".to_owned(),
        Stop::Positions => format!("the model's {} positions are full", config.max_positions),
    };
    let speed = ms_per_token.map_or_else(String::new, |ms| format!(", {ms:.2} ms each"));
    tell!("prompt: {} tokens in {prompt_ms:.1} ms; {tokens} tokens{speed}; {why}", prompt.len());
    Ok(())
}

/// Routed experts of the pool; none = no pools.
fn pool_size(args: &Generate, config: &ModelConfig) -> Result<Option<u32>> {
    let refuse = |message: &str| Err(Error::Usage(message.into()));
    match (args.pool, args.pool_size) {
        (TextPool::None, None) => Ok(None),
        (TextPool::None, Some(_)) => refuse("--pool-size needs --pool prompt or so-far"),
        (TextPool::Prompt | TextPool::SoFar, None) => refuse("--pool needs --pool-size"),
        (TextPool::SoFar, _) if args.pool_every == 0 => refuse("--pool-every must be positive"),
        (TextPool::SoFar, _) if config.moe_layers().any(|(_, moe)| moe.smoothing.is_some()) => refuse(
            "the model's routers smooth over tokens, and what they remember of the last ones belongs to one pool; use \
             --pool prompt",
        ),
        (TextPool::Prompt | TextPool::SoFar, size) => Ok(size),
    }
}

/// The tokens to begin with. An empty text begins as a document does: after the end of another.
fn prompt(text: &str, tokenizer: &Tokenizer, config: &ModelConfig) -> Result<Vec<u32>> {
    let mut ids = tokenizer.encode(text).map_err(Error::Usage)?;
    if ids.is_empty() {
        ids.push(config.bos_id.unwrap_or(tokenizer.identity().eos));
    }
    if ids.len() > config.max_positions {
        return Err(Error::Usage(format!(
            "the prompt has {} tokens, and the model's positions end at {}",
            ids.len(),
            config.max_positions
        )));
    }
    Ok(ids)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

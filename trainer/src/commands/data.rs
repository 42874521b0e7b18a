//! `trainer data`: shards and tokenizers.

use std::time::{Duration, Instant};

use rayon::ThreadPoolBuilder;
use serde::Serialize;

use crate::cli::{BuildShards, CheckShards, Data, IdType, Inputs, TrainTokenizer};
use crate::data::read::{Keys, Reading, discover};
use crate::data::shard::build::{self, Settings, Status};
use crate::data::shard::{Manifest, ShardStore};
use crate::data::tokenizer::{Eos, Tokenizer};
use crate::data::{DataError, train_tokenizer};
use crate::error::{Error, Result};
use crate::output::out;
use crate::progress::{Mode, Work, si};

/// One JSON line while shards are built.
#[derive(Serialize)]
#[serde(tag = "event", rename = "progress")]
struct Event {
    read_bytes: u64,
    of_bytes: u64,
    documents: u64,
    tokens: u64,
    tokens_per_s: f64,
}

/// The last JSON line.
#[derive(Serialize)]
struct Summary<'a, T: Serialize> {
    event: &'static str,
    seconds: f64,
    #[serde(flatten)]
    of: &'a T,
}

/// Runs one of the commands.
pub fn run(command: &Data) -> Result<()> {
    match command {
        Data::Build(args) => on_pool(args.inputs.threads, || build(args))?,
        Data::TrainTokenizer(args) => on_pool(args.inputs.threads, || train(args))?,
        Data::Check(args) => check(args),
    }
}

/// `work` on a pool of its own; 0 threads = all cores.
fn on_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    Ok(pool.map_err(|error| Error::Usage(format!("cannot start {threads} threads: {error}")))?.install(work))
}

fn keys(inputs: &Inputs) -> Keys {
    Keys { text: inputs.text_key.clone(), domain: inputs.domain_key.clone() }
}

fn build(args: &BuildShards) -> Result<()> {
    let start = Instant::now();
    let inputs = discover(&args.inputs.paths)?;
    let eos = args.eos.as_deref().map_or(Eos::Usual, Eos::Named);
    let tokenizer = Tokenizer::load(&args.tokenizer, eos)?;
    if args.shard_tokens == 0 {
        return Err(Error::Usage("--shard-tokens must be positive".into()));
    }
    let settings = Settings {
        keys: keys(&args.inputs),
        domain: args.inputs.domain.clone(),
        token_width: args.npy_dtype.map(|kind| match kind {
            IdType::Uint16 => 2,
            IdType::Uint32 => 4,
        }),
        shard_tokens: args.shard_tokens,
        skip_invalid: args.inputs.skip_invalid,
    };
    if args.force {
        build::remove(&args.out)?;
    }
    let mut work = Work::new(Mode::choose(args.inputs.json), inputs.iter().map(|input| input.bytes).sum());
    // What an earlier build did does not count as this one's speed.
    let before = Manifest::read(&args.out).map_or(0, |manifest| manifest.tokens);
    let manifest = build::build(&args.out, &inputs, &tokenizer, &settings, |status: Status| {
        let seconds = start.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        let event = Event {
            read_bytes: status.read,
            of_bytes: status.of,
            documents: status.documents,
            tokens: status.tokens,
            tokens_per_s: status.tokens.saturating_sub(before) as f64 / seconds,
        };
        let line =
            format!("{}tokens  {} tok/s", si(status.tokens as f64), si(event.tokens_per_s).replace(' ', ""));
        work.advance(status.read, &line, &event);
    })?;
    let mut words = describe(&manifest);
    words.push_str(&format!("\n  folder: {}", args.out.display()));
    work.finish(&Summary { event: "summary", seconds: start.elapsed().as_secs_f64(), of: &manifest }, &words);
    Ok(())
}

fn train(args: &TrainTokenizer) -> Result<()> {
    let start = Instant::now();
    let inputs = discover(&args.inputs.paths)?;
    let reading = Reading { keys: keys(&args.inputs), token_width: None, eos: 0, vocabulary: 0 };
    let settings = train_tokenizer::Settings {
        vocabulary: args.vocabulary,
        sample_bytes: args.sample_bytes,
        skip_invalid: args.inputs.skip_invalid,
    };
    let mut work = Work::new(Mode::choose(args.inputs.json), inputs.iter().map(|input| input.bytes).sum());
    let trained = train_tokenizer::train(&args.out, &inputs, &reading, &settings, |read, documents| {
        let event = Event {
            read_bytes: read,
            of_bytes: inputs.iter().map(|input| input.bytes).sum(),
            documents,
            tokens: 0,
            tokens_per_s: 0.0,
        };
        work.advance(read, &format!("{documents} documents"), &event);
    })?;
    let words = format!(
        "learnt {} tokens from {} documents, {} of text\n  tokenizer: {}",
        trained.vocabulary,
        trained.documents,
        bytes(trained.text_bytes),
        args.out.display()
    );
    work.finish(&Summary { event: "summary", seconds: start.elapsed().as_secs_f64(), of: &trained }, &words);
    Ok(())
}

fn check(args: &CheckShards) -> Result<()> {
    let tokenizer = ShardStore::tokenizer(&args.folder)?;
    ShardStore::open(&args.folder, &tokenizer, true)?;
    let manifest = Manifest::read(&args.folder)?;
    if args.json {
        let line = serde_json::to_string(&manifest);
        out!("{}", line.map_err(|error| DataError::Refused(error.to_string()))?);
    } else {
        out!("{}: whole and valid\n{}", args.folder.display(), describe(&manifest));
    }
    Ok(())
}

fn describe(manifest: &Manifest) -> String {
    let mut words = format!(
        "{} tokens, {} documents, {} of text in {} shards\n  tokenizer: {}",
        manifest.tokens,
        manifest.documents,
        bytes(manifest.text_bytes),
        manifest.shards.len(),
        manifest.tokenizer.words()
    );
    for domain in &manifest.domains {
        words.push_str(&format!(
            "\n  {}: {} documents, {} tokens, {} of text",
            domain.name,
            domain.documents,
            domain.tokens,
            bytes(domain.text_bytes)
        ));
    }
    let skipped = &manifest.skipped;
    for (count, why) in [
        (skipped.empty, "empty"),
        (skipped.not_utf8, "files that are not UTF-8"),
        (skipped.invalid, "invalid records"),
    ] {
        if count > 0 {
            words.push_str(&format!("\n  left out: {count} {why}"));
        }
    }
    words
}

fn bytes(count: u64) -> String {
    format!("{}B", si(count as f64))
}

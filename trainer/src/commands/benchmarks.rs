//! `trainer eval --requests`: benchmarks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use emo::Backend;
use serde::Serialize;

use crate::checkpoint::{folder, hf, tokenizer};
use crate::cli::Eval;
use crate::error::{Error, Result};
use crate::evaluate::requests::answer::answers;
use crate::evaluate::requests::encode::Encoder;
use crate::evaluate::requests::likelihood::likelihoods;
use crate::evaluate::requests::{Benchmark, Likelihood, Metric, read, score};
use crate::generate::Decoder;
use crate::model::{Capacity, Model};
use crate::output::out;
use crate::progress::{Mode, Work};
use crate::subset::run;

/// Tokens read at once unless told otherwise, as in ai2-olmo-eval.
const CONTEXT: usize = 2048;

/// The last line of `--json`.
#[derive(Serialize)]
struct Summary {
    event: &'static str,
    checkpoint: PathBuf,
    /// The file of the experts in use; none = all.
    experts: Option<PathBuf>,
    sequence: usize,
    seconds: f64,
    benchmarks: Vec<Answered>,
}

/// A line of `--json` when a benchmark is done.
#[derive(Serialize)]
#[serde(tag = "event", rename = "benchmark")]
struct Done<'a> {
    #[serde(flatten)]
    answered: &'a Answered,
}

/// One benchmark's results.
#[derive(Serialize)]
struct Answered {
    benchmark: String,
    /// What it is judged by, and that value; none where the model can read none of its questions.
    primary: &'static str,
    score: Option<f64>,
    questions: usize,
    /// Questions without a choice that others have, or longer than the model can read.
    left_out: usize,
    /// Questions with a written answer.
    written: usize,
    metrics: BTreeMap<&'static str, f64>,
}

/// One line of `--json` on the way.
#[derive(Serialize)]
#[serde(tag = "event", rename = "progress")]
struct Event<'a> {
    benchmark: &'a str,
    done: usize,
    of: usize,
}

/// Answers every benchmark of `args`.
pub fn run<B: Backend>(backend: Arc<B>, args: &Eval) -> Result<()> {
    let start = Instant::now();
    let inputs = read::discover(&args.benchmarks.requests)?;
    let checkpoint = folder::find(&args.checkpoint)?;
    let (config, _) = hf::read_config(&checkpoint)?;
    let tokenizer = tokenizer::of(&checkpoint, args.benchmarks.tokenizer.as_deref(), &config)?;
    let sequence = args.sequence.unwrap_or(CONTEXT).min(config.max_positions);
    if args.batch == 0 || sequence < 2 || args.benchmarks.limit == Some(0) {
        return Err(Error::Usage("--batch and --limit must be positive, and --sequence at least 2".into()));
    }
    let encoder = Encoder { tokenizer, bos: config.bos_id, longest: sequence };
    let tokens = args.batch.saturating_mul(sequence);
    let capacity = Capacity { tokens, longest: sequence, domains: 0, redundancy: false, backward: false };
    let mut model = run::load(&checkpoint, args.experts.as_deref(), backend, capacity)?;
    let mut benchmarks = Vec::new();
    for input in &inputs {
        let benchmark = Benchmark::read(input, args.benchmarks.limit)?;
        let (found, given_back) = answer(model, &encoder, &benchmark, args)?;
        model = given_back;
        benchmarks.push(found);
    }
    if !args.json {
        out!("{}", table(&benchmarks));
    }
    let seconds = start.elapsed().as_secs_f64();
    let experts = args.experts.clone();
    let summary = Summary { event: "summary", checkpoint, experts, sequence, seconds, benchmarks };
    let words = format!("{} benchmarks in {seconds:.1} s", summary.benchmarks.len());
    Work::counting(Mode::choose(args.json), 0).finish(&summary, &words);
    Ok(())
}

fn answer<B: Backend>(
    mut model: Model<B>,
    encoder: &Encoder,
    benchmark: &Benchmark,
    args: &Eval,
) -> Result<(Answered, Model<B>)> {
    let (mut items, mut kept) = (Vec::new(), Vec::new());
    for question in &benchmark.questions {
        let choices = question.choices.iter().map(|choice| encoder.item(choice));
        if let Some(choices) = choices.collect::<Result<Option<Vec<_>>>>()? {
            items.extend(choices);
            kept.push(question);
        }
    }
    let asked: Vec<_> = kept
        .iter()
        .filter(|_| args.benchmarks.generate)
        .filter_map(|question| Some((&question.choices[0].context[..], question.written.as_ref()?)))
        .collect();
    let (name, of) = (&benchmark.name, items.len() + asked.len());
    let mut work = Work::counting(Mode::choose(args.json), of as u64);
    let mut advance = |done: usize| {
        let line = format!("{name}: {done} of {of} answers");
        work.advance(done as u64, &line, &Event { benchmark: name, done, of });
    };
    let logs = likelihoods(&mut model, &items, &mut advance)?;
    let mut scored = logs.iter().zip(&items);
    let likelihoods = kept.iter().map(|question| {
        let choices = question.choices.iter().zip(&mut scored);
        let choices = choices.map(|(choice, (&log, item))| {
            Likelihood::new(log, &choice.continuation, item.continuation.len())
        });
        (choices.collect(), question.label)
    });
    let mut scores = score::score(&likelihoods.collect::<Vec<_>>());
    if !asked.is_empty() {
        let mut decoder = Decoder::new(model, args.batch)?;
        let before = items.len();
        let texts = answers(&mut decoder, encoder, &asked, args.batch, |done| advance(before + done))?;
        model = decoder.into_model();
        let mean = |of: &dyn Fn(&str, &[String]) -> f64| {
            let values = texts.iter().zip(&asked).map(|(text, (_, written))| of(text, &written.answers));
            values.sum::<f64>() / texts.len() as f64
        };
        let exact = mean(&|text, answers| f64::from(u8::from(score::exact_match(text, answers))));
        scores.insert(Metric::ExactMatch, exact);
        scores.insert(Metric::WordF1, mean(&score::word_f1));
    }
    let answered = Answered {
        benchmark: name.clone(),
        primary: benchmark.primary.name(),
        score: scores.get(&benchmark.primary).copied(),
        questions: kept.len(),
        left_out: benchmark.incomplete + benchmark.questions.len() - kept.len(),
        written: asked.len(),
        metrics: scores.iter().map(|(metric, &value)| (metric.name(), value)).collect(),
    };
    work.finish(&Done { answered: &answered }, &format!("{name}: {}", answered.judged()));
    Ok((answered, model))
}

impl Answered {
    /// What it is judged by, and the value.
    fn judged(&self) -> String {
        self.score.map_or_else(|| "nothing to score".into(), |score| format!("{} {score:.4}", self.primary))
    }
}

/// One line a benchmark: what it is judged by, then what others report.
fn table(benchmarks: &[Answered]) -> String {
    let columns = [
        "acc_raw",
        "acc_per_char",
        "acc_per_byte",
        "acc_per_token",
        "bits_per_byte",
        "exact_match",
        "word_f1",
    ];
    let mut table = format!("{:<34} {:>9} {:>24}", "benchmark", "questions", "judged by");
    columns.iter().for_each(|column| table += &format!(" {column:>13}"));
    for answered in benchmarks {
        let judged = answered.judged();
        table += &format!("\n{:<34} {:>9} {judged:>24}", answered.benchmark, answered.questions);
        for column in columns {
            let value = answered.metrics.get(column).map_or_else(String::new, |value| format!("{value:.4}"));
            table += &format!(" {value:>13}");
        }
        if answered.left_out > 0 {
            table += &format!("  ({} left out)", answered.left_out);
        }
    }
    table
}

//! Requests, a JSON object a line, put together into questions.
//!
//! ```text
//! {"request_type": "loglikelihood", "doc_id": 0, "idx": 1, "label": 2,
//!  "request": {"context": "Question: ...\nAnswer:", "continuation": " Paris"}}
//! ```
//! Lines of one `doc_id` are the choices `idx` = 0, 1, ... of one question, `label` the right one. Where `label` is text, a list of
//! texts or null, the one continuation is a right answer, and the texts are what a written answer is compared with; then
//! `request` may also hold `stop_sequences` and `generation_kwargs.max_gen_toks`. `task_config.primary_metric` of a
//! `config.json` beside the file says what the benchmark is judged by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::score::Metric;
use crate::data::DataError;
use crate::data::read::{self, Format, Input, Keys, Raw, Reading};
use crate::error::{Error, Result};
use crate::small;

/// Ids from here on ask for a continuation without its context, to judge the others by; they are left out, as in the package.
const UNCONDITIONAL: u64 = 1_000_000;
/// Tokens of a written answer where the request does not say.
const ANSWER_TOKENS: usize = 256;
/// A question with more choices is a damaged file.
const MOST_CHOICES: usize = 1 << 10;

/// One file of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Benchmark {
    /// The folders above the file, as `piqa/rc_5shot`, or the file's own name.
    pub name: String,
    /// What it is judged by.
    pub primary: Metric,
    /// In the order of their first lines.
    pub questions: Vec<Question>,
    /// Questions left out because a choice is missing.
    pub incomplete: usize,
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Its `doc_id`.
    pub id: u64,
    /// Context and continuation of each choice.
    pub choices: Vec<Choice>,
    /// The right choice.
    pub label: usize,
    /// How an answer is written, where requests say.
    pub written: Option<Written>,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What stands before it.
    pub context: String,
    /// What is scored.
    pub continuation: String,
}

/// How an answer is written and what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Right answers.
    pub answers: Vec<String>,
    /// It ends before any of these.
    pub stops: Vec<String>,
    /// Tokens at most.
    pub tokens: usize,
}

#[derive(Deserialize)]
struct Line {
    request_type: String,
    doc_id: u64,
    idx: usize,
    #[serde(default)]
    label: Value,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    context: String,
    continuation: String,
    stop_sequences: Option<Vec<String>>,
    generation_kwargs: Option<Generation>,
}

#[derive(Deserialize)]
struct Generation {
    max_gen_toks: Option<usize>,
}

/// The files of requests that `paths` name; of a folder every `requests.jsonl` and `requests.jsonl.gz` below it.
///
/// # Errors
/// When there are none.
pub fn discover(paths: &[PathBuf]) -> Result<Vec<Input>> {
    let mut inputs = read::discover(paths)?;
    inputs.retain(|input| {
        let named = paths.contains(&input.path);
        let name = input.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        named || (name.starts_with("requests.") && input.format == Format::JsonLines)
    });
    if let Some(other) = inputs.iter().find(|input| input.format != Format::JsonLines) {
        return Err(DataError::input(&other.path, "JSON lines (*.jsonl, also .gz)", "another file").into());
    }
    if inputs.is_empty() {
        return Err(Error::Usage("no requests.jsonl below the paths given".into()));
    }
    Ok(inputs)
}

impl Benchmark {
    /// Reads one file: its first `limit` questions.
    ///
    /// # Errors
    /// What cannot be read, and requests that are none, by file and line.
    pub fn read(input: &Input, limit: Option<usize>) -> Result<Self> {
        let path = &input.path;
        let keys = Keys { text: String::new(), domain: None };
        let reading = Reading { keys, token_width: None, eos: 0, vocabulary: 0 };
        let mut questions = Gathered::default();
        for (index, record) in input.records(&reading, Arc::default())?.enumerate() {
            let Raw::Json(line) = record? else { continue };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let wrong =
                |found: String| DataError::input_at(path, format!("line {}", index + 1), "a request", found);
            let line = serde_json::from_slice(&line).map_err(|error| wrong(error.to_string()))?;
            questions.add(line, limit).map_err(wrong)?;
        }
        let (questions, incomplete) = questions.finish();
        if questions.is_empty() {
            return Err(DataError::input(path, "questions", "none that is complete").into());
        }
        let single = questions.iter().all(|question| question.choices.len() == 1);
        let default = if single { Metric::BitsPerByte } else { Metric::Accuracy };
        let primary = primary(path)?.unwrap_or(default);
        Ok(Self { name: name(path), primary, questions, incomplete })
    }
}

/// Questions in the order of their first lines, with the choices seen so far.
#[derive(Default)]
struct Gathered {
    places: BTreeMap<u64, usize>,
    questions: Vec<(Question, BTreeMap<usize, Choice>)>,
}

impl Gathered {
    fn add(&mut self, line: Line, limit: Option<usize>) -> std::result::Result<(), String> {
        let Line { request_type, doc_id, idx, label, request } = line;
        if !matches!(
            &request_type[..],
            "loglikelihood" | "generate_until_and_loglikelihood" | "generate_until"
        ) {
            return Err(format!("the request_type `{request_type}`"));
        }
        if doc_id >= UNCONDITIONAL {
            return Ok(());
        }
        if idx >= MOST_CHOICES {
            return Err(format!("the choice {idx}"));
        }
        let next = self.questions.len();
        let place = *self.places.entry(doc_id).or_insert(next);
        if limit.is_some_and(|limit| place >= limit) {
            return Ok(());
        }
        if place == next {
            let answers = answers(&label)?;
            let right = match (&label, label.as_u64()) {
                (_, Some(right)) => right as usize,
                (Value::Number(_), None) => return Err(format!("the label {label}")),
                // One right continuation.
                _ => 0,
            };
            let written = (!answers.is_empty()).then(|| Written {
                answers,
                stops: request.stop_sequences.clone().unwrap_or_default(),
                tokens: request
                    .generation_kwargs
                    .as_ref()
                    .and_then(|generation| generation.max_gen_toks)
                    .unwrap_or(ANSWER_TOKENS),
            });
            let question = Question { id: doc_id, choices: Vec::new(), label: right, written };
            self.questions.push((question, BTreeMap::new()));
        }
        let choice = Choice { context: request.context, continuation: request.continuation };
        // The first of equal lines counts, as in the package.
        self.questions[place].1.entry(idx).or_insert(choice);
        Ok(())
    }

    /// The complete questions, and how many are not.
    fn finish(self) -> (Vec<Question>, usize) {
        let all = self.questions.len();
        let complete = |(question, choices): (Question, BTreeMap<usize, Choice>)| {
            let whole = choices.keys().copied().eq(0..choices.len()) && question.label < choices.len();
            whole.then(|| Question { choices: choices.into_values().collect(), ..question })
        };
        let questions: Vec<Question> = self.questions.into_iter().filter_map(complete).collect();
        let left_out = all - questions.len();
        (questions, left_out)
    }
}

/// The texts of a label, however deeply listed.
fn answers(label: &Value) -> std::result::Result<Vec<String>, String> {
    match label {
        Value::Null | Value::Number(_) => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) => {
            Ok(items.iter().map(answers).collect::<std::result::Result<Vec<_>, _>>()?.concat())
        }
        other => Err(format!("the label {other}")),
    }
}

fn name(path: &Path) -> String {
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    let own = own.split('.').next().unwrap_or_default().to_owned();
    let part = |path: Option<&Path>| Some(path?.file_name()?.to_string_lossy().into_owned());
    match (part(path.parent().and_then(Path::parent)), part(path.parent())) {
        (Some(task), Some(variant)) if own == "requests" => format!("{task}/{variant}"),
        (None, Some(task)) if own == "requests" => task,
        _ => own,
    }
}

fn primary(requests: &Path) -> Result<Option<Metric>> {
    let path = requests.with_file_name("config.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = small::bytes(&path).map_err(Error::io("read", &path))?;
    let config: Value = serde_json::from_slice(&text)
        .map_err(|error| DataError::input(&path, "the JSON of a task's configuration", error.to_string()))?;
    Ok(config["task_config"]["primary_metric"].as_str().and_then(Metric::named))
}

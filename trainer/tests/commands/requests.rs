//! `trainer eval --requests`: likelihoods against the model itself, results against hand-made requests, and files that are none.

use std::path::Path;
use std::sync::Arc;

use emo::cpu::Cpu;
use emo::oracle::Oracle;
use serde_json::{Value, json};
use trainer::checkpoint::hf;
use trainer::config::Config;
use trainer::data::Tokenizer;
use trainer::evaluate::requests::encode::{Encoder, Item};
use trainer::evaluate::requests::likelihood::likelihoods;
use trainer::evaluate::requests::read::{Choice, discover};
use trainer::evaluate::requests::{Benchmark, Metric};
use trainer::model::{Capacity, Inputs, Model, ModelConfig};

use crate::support::{Place, fail, stdout, succeed, summary};

fn config() -> ModelConfig {
    let set = ["model.layers=2".to_owned(), "data.sequence=64".to_owned()];
    Config::load("tiny", &set).unwrap().model_config()
}

fn capacity(tokens: usize) -> Capacity {
    Capacity { tokens, longest: 64.min(tokens), domains: 0, redundancy: false, backward: false }
}

fn request(doc: u64, idx: usize, label: Value, context: &str, continuation: &str) -> Value {
    json!({"request_type": "loglikelihood", "doc": {}, "doc_id": doc, "native_id": doc, "task_name": "made_up", "idx": idx,
        "label": label, "request": {"context": context, "continuation": continuation}})
}

fn write(path: &Path, lines: &[Value]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap();
}

fn read(path: &Path) -> trainer::Result<Benchmark> {
    Benchmark::read(&discover(&[path.to_path_buf()])?[0], None)
}

/// `ln softmax(logits)` of each continuation token, one forward pass an item.
fn by_hand(model: &mut Model<Oracle>, item: &Item) -> f64 {
    let tokens = item.ids.len();
    model.forward(&Inputs::rows(item.ids.clone(), 1, tokens)).unwrap();
    let rows = model.logits(tokens - item.continuation.len()..tokens).unwrap();
    let vocabulary = rows.len() / item.continuation.len();
    let logs = rows.chunks(vocabulary).zip(&item.continuation).map(|(row, &id)| {
        let all: f64 = row.iter().map(|logit| logit.exp()).sum();
        row[id as usize] - all.ln()
    });
    logs.sum()
}

#[test]
fn likelihoods_are_those_of_each_continuation_alone() {
    let build = |tokens| {
        let mut model = Model::new(Arc::new(Oracle), config(), capacity(tokens)).unwrap();
        model.initialise(5).unwrap();
        model
    };
    let encoder = Encoder { tokenizer: Tokenizer::bytes(), bos: Some(256), longest: 24 };
    let texts = [
        ("The sky is", " blue"),
        ("", "x"),
        ("a much longer context than the model reads", " yes"),
        ("2 + 2 =", " 4"),
    ];
    let items: Vec<Item> = texts
        .iter()
        .map(|&(context, continuation)| Choice { context: context.into(), continuation: continuation.into() })
        .map(|choice| encoder.item(&choice).unwrap().unwrap())
        .collect();
    let mut alone = build(64);
    let expected: Vec<f64> = items.iter().map(|item| by_hand(&mut alone, item)).collect();
    for room in [24, 40, 64] {
        let mut done = Vec::new();
        let found = likelihoods(&mut build(room), &items, |count| done.push(count)).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-9, "{found} {expected} in {room} tokens");
        }
        assert_eq!(done.last(), Some(&4));
    }
}

#[test]
fn requests_become_questions() {
    let place = Place::new();
    let path = place.path("task/variant/requests.jsonl");
    let mut answer = request(9, 0, json!([["Paris"], ["Paris, France"]]), "Capital of France?", " Paris");
    answer["request"]["stop_sequences"] = json!(["\n"]);
    answer["request"]["generation_kwargs"] = json!({"max_gen_toks": 12});
    write(
        &path,
        &[
            request(4, 1, json!(1), "Q", " b"),
            request(4, 0, json!(1), "Q", " a"),
            request(4, 0, json!(1), "Q", " again"),
            request(1_000_004, 0, json!(1), "", " a"),
            request(6, 1, json!(0), "a choice is missing", " b"),
            answer,
        ],
    );
    let benchmark = read(&path).unwrap();
    assert_eq!((&benchmark.name[..], benchmark.incomplete), ("task/variant", 1));
    assert_eq!(benchmark.primary, Metric::Accuracy, "nothing says otherwise");
    let [first, second] = &benchmark.questions[..] else { panic!("{benchmark:?}") };
    let continuations: Vec<&str> = first.choices.iter().map(|choice| &choice.continuation[..]).collect();
    assert_eq!((first.id, first.label, &continuations[..]), (4, 1, &[" a", " b"][..]));
    assert_eq!(first.written, None);
    let written = second.written.as_ref().unwrap();
    assert_eq!(written.answers, ["Paris", "Paris, France"]);
    assert_eq!((&written.stops[..], written.tokens, second.label), (&["\n".to_owned()][..], 12, 0));

    std::fs::write(
        path.with_file_name("config.json"),
        r#"{"task_config": {"primary_metric": "acc_per_char"}}"#,
    )
    .unwrap();
    assert_eq!(read(&path).unwrap().primary, Metric::AccuracyPerChar);
    assert_eq!(
        Benchmark::read(&discover(&[place.path("task")]).unwrap()[0], Some(1)).unwrap().questions.len(),
        1
    );
}

#[test]
fn files_that_are_no_requests_are_refused_by_line() {
    let place = Place::new();
    let path = place.path("bad.jsonl");
    let good = request(0, 0, json!(0), "Q", " a").to_string();
    for (line, words) in [
        ("{}", "missing field"),
        ("not JSON", "expected"),
        (
            r#"{"request_type": "rolling", "doc_id": 0, "idx": 0, "request": {"context": "", "continuation": ""}}"#,
            "rolling",
        ),
        (
            r#"{"request_type": "loglikelihood", "doc_id": 1, "idx": 0, "label": -1, "request": {"context": "", "continuation": "a"}}"#,
            "label",
        ),
        (
            r#"{"request_type": "loglikelihood", "doc_id": 1, "idx": 99999999999, "request": {"context": "", "continuation": "a"}}"#,
            "choice",
        ),
    ] {
        std::fs::write(&path, format!("{good}\n{line}\n")).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains(words) && error.contains("bad.jsonl"), "{error}");
    }
    std::fs::write(&path, "\n\n").unwrap();
    assert!(read(&path).is_err());
    assert!(discover(&[place.path("text")]).is_err(), "a folder without requests");
}

#[test]
fn the_command_scores_a_benchmark_as_the_model_does() {
    let place = Place::new();
    let model = {
        let mut model = Model::new(Arc::new(Cpu::new(1).unwrap()), config(), capacity(64)).unwrap();
        model.initialise(8).unwrap();
        std::fs::create_dir_all(place.path("model")).unwrap();
        hf::save(&place.path("model"), &model).unwrap();
        model
    };
    drop(model);
    let choices = [" a", " bcd", " efghij"];
    let mut lines = Vec::new();
    for doc in 0..5u64 {
        for (idx, continuation) in choices.iter().enumerate() {
            lines.push(request(doc, idx, json!(doc % 3), &format!("question {doc}?"), continuation));
        }
    }
    write(&place.path("evals/choices/mc/requests.jsonl"), &lines);
    let mut answer = request(0, 0, json!("pool"), "expert", " pool");
    answer["request"]["generation_kwargs"] = json!({"max_gen_toks": 6});
    write(&place.path("evals/answers/bpb/requests.jsonl"), &[answer]);
    let args =
        ["eval", "--checkpoint", "model", "--requests", "evals", "--sequence", "32", "--generate", "--json"];
    let output = succeed(place.trainer().args(args));
    let found = summary(&output);
    let lines = stdout(&output);
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let done: Vec<Value> = events.filter(|line| line["event"] == "benchmark").collect();
    assert_eq!(done.len(), 2, "each benchmark is told when it is done");
    assert_eq!(done[1]["metrics"], found["benchmarks"][1]["metrics"]);
    let [answers, choices_found] = &found["benchmarks"].as_array().unwrap()[..] else { panic!("{found}") };

    // The same by this test's own sums.
    let mut exact = Model::new(Arc::new(Oracle), config(), capacity(64)).unwrap();
    exact.initialise(8).unwrap();
    let encoder = Encoder { tokenizer: Tokenizer::bytes(), bos: None, longest: 32 };
    let (mut right, mut bits) = (0.0, 0.0);
    for doc in 0..5usize {
        let logs: Vec<f64> = choices
            .iter()
            .map(|continuation| Choice {
                context: format!("question {doc}?"),
                continuation: (*continuation).into(),
            })
            .map(|choice| {
                by_hand(&mut exact, &encoder.item(&choice).unwrap().unwrap())
                    / choice.continuation.len() as f64
            })
            .collect();
        let best = (0..3).reduce(|a, b| if logs[b] > logs[a] { b } else { a }).unwrap();
        right += f64::from(u8::from(best == doc % 3)) / 5.0;
        bits -= logs[doc % 3] / 5.0 / std::f64::consts::LN_2;
    }
    let metric = |found: &Value, name: &str| found["metrics"][name].as_f64();
    assert_eq!(choices_found["benchmark"], "choices/mc");
    assert_eq!((choices_found["questions"].as_u64(), choices_found["written"].as_u64()), (Some(5), Some(0)));
    assert_eq!(metric(choices_found, "acc_per_byte"), Some(right));
    let error = (metric(choices_found, "bits_per_byte").unwrap() - bits).abs();
    assert!(error < 1e-5, "{error}");
    assert_eq!((&answers["primary"], answers["written"].as_u64()), (&json!("bits_per_byte"), Some(1)));
    assert_eq!(answers["score"], answers["metrics"]["bits_per_byte"]);
    assert!(metric(answers, "exact_match").is_some() && metric(answers, "acc_raw").is_none());

    let table = stdout(&succeed(place.trainer().args(&args[..args.len() - 2]).args(["--limit", "2"])));
    assert!(table.contains("choices/mc") && table.contains("acc_raw"), "{table}");
    let one = place.trainer().args(["eval", "--checkpoint", "model", "--requests", "text"]).output().unwrap();
    assert_eq!(one.status.code(), Some(2));
    fail(place.trainer().args(["eval", "--checkpoint", "model", "--limit", "2"]), 2);
}

//! Metrics survive crashes and resumes; progress says what happened to people and to programs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trainer::metrics::{
    DomainValid, LoadSummary, MetricsError, MetricsWriter, Record, StepRecord, ValidRecord, read_records,
};
use trainer::progress::{Pace, Progress, Update, duration, si};

fn step(step: u64) -> Record {
    let aux = BTreeMap::from([("load_balance".to_owned(), 0.1 / 3.0)]);
    Record::Step(StepRecord {
        step,
        tokens: 10 * step,
        loss: 1.0 / step as f64,
        aux,
        ..StepRecord::default()
    })
}

fn valid(step: u64) -> Record {
    let domains = BTreeMap::from([
        ("c".to_owned(), DomainValid::of_sum(100.0, 50, 100)),
        ("rust".to_owned(), DomainValid::of_sum(100.0, 50, 300)),
    ]);
    Record::Valid(ValidRecord { step, tokens: 10 * step, domains })
}

#[test]
fn resuming_cuts_what_comes_after_and_appends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut writer = MetricsWriter::create(&path).unwrap();
    for record in [step(1), step(2), valid(2), step(3), step(4), valid(4)] {
        writer.append(&record).unwrap();
    }
    writer.sync().unwrap();
    drop(writer);
    assert!(matches!(MetricsWriter::create(&path), Err(MetricsError::Exists { .. })));

    // A crash in the middle of a line.
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"kind\":\"st").unwrap();
    assert_eq!(read_records(&path).unwrap().len(), 6);
    let mut writer = MetricsWriter::resume(&path, 2).unwrap();
    writer.append(&step(3)).unwrap();
    assert_eq!(read_records(&path).unwrap(), [step(1), step(2), valid(2), step(3)]);
    // Nothing is lost when the run resumes from its very end.
    MetricsWriter::resume(&path, 3).unwrap();
    assert_eq!(read_records(&path).unwrap().len(), 4);
}

#[test]
fn a_foreign_line_is_an_error_and_nothing_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let text = "hello\n{}\n";
    fs::write(&path, text).unwrap();
    let error = MetricsWriter::resume(&path, 5).unwrap_err();
    assert!(matches!(error, MetricsError::Corrupt { line: 1, .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn numbers_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let exact = StepRecord { step: 1, loss: f64::from(2.1f32) / 3.0, ce: f64::NAN, ..StepRecord::default() };
    MetricsWriter::create(&path).unwrap().append(&Record::Step(exact.clone())).unwrap();
    let Record::Step(read) = read_records(&path).unwrap().remove(0) else { panic!("a step was written") };
    assert_eq!(read.loss.to_bits(), exact.loss.to_bits());
    assert!(read.ce.is_nan());
}

#[test]
fn load_summary_of_known_counts() {
    let even = LoadSummary::of_counts(&[5, 5, 5, 5]);
    assert_eq!((even.max, even.min), (1.0, 1.0));
    assert!((even.entropy - 1.0).abs() < 1e-12);
    let one = LoadSummary::of_counts(&[8, 0, 0, 0]);
    assert_eq!((one.max, one.min, one.entropy), (4.0, 0.0, 0.0));
    assert_eq!(LoadSummary::of_counts(&[]), LoadSummary::default());
}

#[test]
fn bits_per_byte_of_all_domains_is_weighted_by_bytes() {
    let Record::Valid(record) = valid(1) else { panic!("a validation") };
    assert!((record.bits_per_byte() - 200.0 / (2f64.ln() * 400.0)).abs() < 1e-12);
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn update(step: u64) -> Update {
    Update {
        step,
        steps: 20,
        loss: 2.5,
        tokens_per_s: 3438.0,
        flops_per_s: 82e9,
        peak_share: Some(0.347),
        eta_s: Some(192.0),
        load: None,
    }
}

#[test]
fn plain_lines_come_at_their_pace() {
    let out = Shared::default();
    let pace = Pace { steps: 8, time: Duration::from_secs(1 << 30) };
    let mut progress = Progress::plain(Box::new(out.clone()), pace);
    (1..=20).for_each(|step| progress.step(&update(step)));
    progress.finish(&(), "done");
    let text = out.text();
    let steps: Vec<&str> = text.lines().map(|line| line.split_whitespace().nth(1).unwrap_or("")).collect();
    assert_eq!(steps, ["1/20", "8/20", "16/20", "20/20", ""]);
    let first = text.lines().next().unwrap();
    assert_eq!(first, "step 1/20  loss 2.5000  3.44k tok/s  82.0 GFLOP/s (35% of peak)  ETA 3m12s");
}

#[test]
fn json_is_one_object_a_line_and_ends_with_the_summary() {
    let out = Shared::default();
    let mut progress = Progress::json(Box::new(out.clone()));
    progress.step(&update(1));
    let Record::Valid(record) = valid(1) else { panic!("a validation") };
    progress.valid(&record);
    progress.note("a \"quoted\"\nnote");
    progress.finish(&serde_json::json!({"steps": 1}), "done");
    let text = out.text();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str()).collect();
    assert_eq!(events, [Some("step"), Some("valid"), Some("note"), None]);
    assert_eq!(lines[3]["steps"], 1);
    assert_eq!(lines[1]["domains"]["c"]["bytes"], 100);
}

#[test]
fn a_closed_pipe_does_not_stop_a_run() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let mut progress = Progress::json(Box::new(Closed));
    progress.step(&update(1));
    progress.finish(&(), "done");
}

#[test]
fn numbers_for_people() {
    for (value, text) in [
        (0.0, "0.00 "),
        (3438.0, "3.44 k"),
        (999.6, "1.00 k"),
        (48.7e9, "48.7 G"),
        (236e9, "236 G"),
        (9.996, "10.0 "),
        (2.5e18, "2.50 E"),
        (8.14e21, "8.14 Z"),
    ] {
        assert_eq!(si(value), text);
    }
    for (seconds, text) in
        [(0.4, "0s"), (59.6, "1m00s"), (3600.0, "1h00m"), (90000.0, "1d01h"), (f64::NAN, "unknown")]
    {
        assert_eq!(duration(seconds), text);
    }
}

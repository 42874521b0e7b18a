//! A disk that is full at every write: each command ends with an error that names a file and says what to do, leaves nothing
//! half-written under its own name, and what it read as it was.
//!
//! A limit on the size of files stands in for the disk: writes fail half-way, with another error number. Where one file alone
//! must fail, its temporary name is a link to `/dev/full`.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::{Place, stderr, succeed};
use trainer::checkpoint::{folder, hf};

/// A command of the table: its name, its arguments, where its output goes, and whether that is a model.
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
    out: Out,
}

#[derive(PartialEq)]
enum Out {
    File,
    Folder,
    Model,
    Run,
}

const fn case(name: &'static str, arguments: &'static [&'static str], out: Out) -> Case {
    Case { name, arguments, out }
}

/// Every command that writes; `OUT` stands for where to.
const CASES: [Case; 15] = [
    case("shards", &["data", "build", "text", "--shard-tokens", "3000", "--out", "OUT"], Out::Folder),
    case(
        "shards with a tokenizer",
        &["data", "build", "text", "--tokenizer", "spelled.json", "--out", "OUT"],
        Out::Folder,
    ),
    case(
        "a tokenizer",
        &["data", "train-tokenizer", "text", "--vocabulary", "300", "--out", "OUT"],
        Out::File,
    ),
    case(
        "a subset",
        &["select", "--checkpoint", "run", "--keep", "50%", "--documents", "2", "--out", "OUT"],
        Out::File,
    ),
    case("a composed subset", &["subset", "union", "half.json", "half.json", "--out", "OUT"], Out::File),
    case(
        "a pruned model",
        &["prune", "--checkpoint", "run", "--experts", "half.json", "--out", "OUT"],
        Out::Model,
    ),
    case("an exported model", &["export", "--checkpoint", "run", "--out", "OUT"], Out::Model),
    case("an imported model", &["import", "exported", "--dtype", "bf16", "--out", "OUT"], Out::Model),
    case(
        "a model in several files",
        &["export", "--checkpoint", "large", "--shard-mb", "1", "--out", "OUT"],
        Out::Model,
    ),
    case("a merged model", &["merge", "--full", "run", "--tuned", "run", "--out", "OUT"], Out::Model),
    case("a grown model", &["grow", "--checkpoint", "run", "--experts", "10", "--out", "OUT"], Out::Model),
    case(
        "an analysis",
        &["analyse", "--checkpoint", "run", "--documents", "2", "--clusters", "2", "--out", "OUT"],
        Out::Folder,
    ),
    case(
        "a retention table",
        &[
            "retention",
            "--checkpoint",
            "run",
            "--rows",
            "1",
            "--keep",
            "50%",
            "--documents",
            "1",
            "--out",
            "OUT",
        ],
        Out::File,
    ),
    case("a report of runs", &["report", "run", "run", "--ngram", "0", "--out", "OUT"], Out::File),
    case(
        "a tuned run",
        &["finetune", "--checkpoint", "run", "--steps", "2", "--threads", "1", "--out", "OUT"],
        Out::Run,
    ),
];

/// A place with a trained model, a part of its experts, an exported copy and a tokenizer.
fn prepared() -> Place {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    succeed(&mut place.pretrain("large", &["--steps", "1", "--set", "model.expert_width=512"]));
    let args = ["select", "--checkpoint", "run", "--keep", "50%", "--documents", "2", "--out", "half.json"];
    succeed(place.trainer().args(args));
    succeed(place.trainer().args(["export", "--checkpoint", "run", "--out", "exported"]));
    let args = ["data", "train-tokenizer", "text", "--vocabulary", "300", "--out", "spelled.json"];
    succeed(place.trainer().args(args));
    place
}

/// `command` with files of at most `blocks` times 512 bytes.
fn limited(command: &Command, blocks: u64) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.current_dir(command.get_current_dir().expect("a folder"));
    limited
}

/// Every file below `path` with its bytes, by its place; locks are no content.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![path.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        if folder.is_file() {
            found.insert(folder.clone(), std::fs::read(&folder).unwrap());
            continue;
        }
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.ends_with(".lock") => {}
                false => drop(found.insert(path.clone(), std::fs::read(&path).unwrap())),
            }
        }
    }
    found
}

/// The output says that `out` could not be written, and what to do; nothing has panicked.
fn assert_refused(output: &Output, out: &str, what: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{what}: {said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
    assert!(said.contains("error: ") && said.contains(out), "{what} names no file of {out}: {said}");
    assert!(said.contains("allows no file of this size") || said.contains("disk is full"), "{what}: {said}");
}

#[test]
fn no_write_that_fails_leaves_half_a_file_or_touches_what_was_read() {
    let place = prepared();
    let before = contents(&place.path(""));
    for (number, Case { name, arguments, out }) in CASES.iter().enumerate() {
        let command = |to: &str| {
            let mut command = place.trainer();
            command.args(arguments.iter().map(|&argument| if argument == "OUT" { to } else { argument }));
            command
        };
        let whole = format!("whole-{number}");
        succeed(&mut command(&whole));
        let reference = contents(&place.path(&whole));
        assert!(*name != "a model in several files" || reference.len() > 5, "{:?}", reference.keys());
        // A limit below each size: nothing can be written, only the smaller files, all but the largest.
        let mut limits: Vec<u64> =
            reference.values().map(|bytes| (bytes.len() as u64).saturating_sub(1) / 512).collect();
        limits.sort_unstable();
        limits.dedup();
        let (first, last) = (limits[0], limits[limits.len() - 1]);
        let middle = limits[limits.len() / 2];
        let mut limits = vec![0, first, middle, last];
        limits.dedup();
        for blocks in limits {
            let to = format!("full-{number}-{blocks}");
            let what = format!("{name}, {blocks} blocks");
            let output = limited(&command(&to), blocks).output().unwrap();
            assert_refused(&output, &to, &what);
            let left = contents(&place.path(&to));
            for (path, bytes) in &left {
                let local = path.strip_prefix(place.path(&to)).unwrap();
                let partial = local.to_string_lossy();
                assert!(
                    !partial.contains(".partial") && !partial.contains(".tmp"),
                    "{what} leaves {partial} behind"
                );
                // Lines and events are appended as they come, and readers take whole ones.
                let appended = partial.contains("metrics.jsonl") || partial.contains("tfevents");
                let of_run = *out == Out::Run && (partial.ends_with("json") || partial.ends_with("html"));
                if !appended && !of_run && !partial.ends_with("manifest.json") {
                    let as_whole = reference.get(&place.path(&whole).join(local));
                    assert!(as_whole == Some(bytes), "{what}: {partial} is not what it should be");
                }
            }
            if *out == Out::Model {
                assert!(left.is_empty(), "{what} leaves {:?}", left.keys());
            }
            if *out == Out::Run && blocks > 0 {
                let kept = folder::list(&place.path(&to).join("checkpoints")).unwrap();
                assert!(kept.iter().all(|(_, path)| folder::verify(path).is_ok()), "{what}");
            }
            remove(&place.path(&to));
        }
        remove(&place.path(&whole));
    }
    assert!(before == contents(&place.path("")), "what was read is as it was");
}

fn remove(path: &Path) {
    if path.is_dir() {
        std::fs::remove_dir_all(path).unwrap();
    } else if path.exists() {
        std::fs::remove_file(path).unwrap();
    }
}

/// The build goes on after the disk has room again, and gives the same shards.
#[test]
fn shards_that_did_not_fit_are_gone_on_with() {
    let place = Place::new();
    let build = |out: &str| {
        let mut command = place.trainer();
        command.args(["data", "build", "text", "--shard-tokens", "3000", "--out", out]);
        command
    };
    succeed(&mut build("whole"));
    let largest = contents(&place.path("whole")).into_values().map(|bytes| bytes.len()).max().unwrap();
    let output = limited(&build("out"), (largest as u64 - 1) / 512).output().unwrap();
    assert_refused(&output, "out", "a build");
    succeed(&mut build("out"));
    let names = |out: &str| -> BTreeMap<PathBuf, Vec<u8>> {
        let root = place.path(out);
        contents(&root)
            .into_iter()
            .map(|(path, bytes)| (path.strip_prefix(&root).unwrap().into(), bytes))
            .collect()
    };
    assert!(names("whole") == names("out"));
}

/// Each file of a run in turn, on a disk that is full at that moment; the run then goes on to the same end.
#[test]
fn every_file_of_a_run_may_fail_and_the_run_goes_on_from_its_last_checkpoint() {
    let place = Place::new();
    let settings = ["--set", "run.checkpoint_every=4", "--set", "validation.every=5", "--steps", "10"];
    succeed(&mut place.pretrain("whole", &settings));
    for file in ["run.json", "routing.json", "report.html"] {
        let out = format!("run-{}", &file[..3]);
        succeed(&mut place.pretrain(&out, &[&settings[..], &["--stop-after", "4"]].concat()));
        let partial = place.path(&out).join(format!("{file}.partial"));
        std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
        let output = place.pretrain(&out, &[&settings[..], &["--resume"]].concat()).output().unwrap();
        assert_refused(&output, file, file);
        assert!(!partial.exists(), "{file}");
        succeed(&mut place.pretrain(&out, &[&settings[..], &["--resume"]].concat()));
        place.assert_same("whole", &out, 10);
    }
    // Metrics and events are appended: a limit between what they have and what they need.
    for (out, folder) in [("lines", "metrics.jsonl"), ("events", "tensorboard")] {
        succeed(&mut place.pretrain(out, &[&settings[..], &["--stop-after", "4"]].concat()));
        let path = place.path(out).join(folder);
        if folder == "tensorboard" {
            std::fs::remove_dir_all(&path).unwrap();
            std::fs::write(&path, "in the way").unwrap();
        } else {
            let resumed = place.pretrain(out, &[&settings[..], &["--resume"]].concat());
            // `run.json` is the only other file that is written before the next record.
            let records = std::fs::metadata(&path).unwrap().len();
            let info = std::fs::metadata(place.path(out).join("run.json")).unwrap().len();
            let blocks = records.max(info).div_ceil(512);
            let output = limited(&resumed, blocks).output().unwrap();
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("the checkpoint of step 4 is whole"), "{said}");
        }
        if folder == "tensorboard" {
            let output = place.pretrain(out, &[&settings[..], &["--resume"]].concat()).output().unwrap();
            assert!(stderr(&output).contains("tensorboard"), "{}", stderr(&output));
            assert_eq!(output.status.code(), Some(1));
            std::fs::remove_file(&path).unwrap();
        }
        succeed(&mut place.pretrain(out, &[&settings[..], &["--resume"]].concat()));
        place.assert_same("whole", out, 10);
    }
}

#[test]
fn the_report_of_a_run_stays_when_a_new_one_does_not_fit() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    let page = std::fs::read(place.path("run/report.html")).unwrap();
    std::os::unix::fs::symlink("/dev/full", place.path("run/report.html.partial")).unwrap();
    let output = place.trainer().args(["report", "run"]).output().unwrap();
    assert_refused(&output, "report.html", "a report");
    assert!(std::fs::read(place.path("run/report.html")).unwrap() == page);
}

/// Output that is redirected to a full disk is an error, and a reader that goes away is none.
#[test]
fn a_standard_output_that_cannot_be_written_is_an_error_and_no_panic() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    hf::read_config(&place.step("run", 2)).unwrap();
    succeed(place.trainer().args(["data", "build", "text", "--out", "shards"]));
    for arguments in [
        &["config", "tiny"][..],
        &["config", "--list"],
        &["plan", "tiny"],
        &["completions", "bash"],
        &["inspect", "run"],
        &["inspect", "run", "--json"],
        &["data", "check", "shards"],
        &["generate", "--checkpoint", "run", "--tokens", "3"],
        &["generate", "--checkpoint", "run", "--tokens", "3", "--json"],
        &["eval", "--checkpoint", "run", "--rows", "1"],
        &["eval", "--checkpoint", "run", "--rows", "1", "--json"],
        &["report", "run"],
    ] {
        let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let output = place.trainer().args(arguments).stdout(full()).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("the standard output") && said.contains("The disk is full"), "{said}");
        // Nobody can be told of a standard error that is full; the exit code says it.
        let status = place.trainer().args(arguments).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}");
    }
    let mut child =
        place.trainer().args(["config", "tiny", "--full"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

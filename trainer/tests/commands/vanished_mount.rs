//! Folders that go away between a start and the next read or write, as a disk or network share does that is no longer mounted:
//! a clear error, nothing begun anew in their place, and everything that was saved still there when they come back.
#![cfg(unix)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::shards;
use crate::support::{Place, names, stderr, succeed};
use trainer::data::read::discover;
use trainer::data::shard::{Shard, ShardStore, build};
use trainer::data::{BatchStream, Documents, Packing, Tokenizer, ValidationSet};

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `there`, or a minute.
fn wait_for(what: &str, there: impl Fn() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn failed(child: Child, code: i32) -> String {
    let output: Output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_run_whose_folder_goes_away_stops_and_goes_on_when_it_is_back() {
    let place = Place::new();
    let settings = ["--set", "run.checkpoint_every=3", "--steps", "120", "--set", "validation.every=50"];
    succeed(&mut place.pretrain("whole", &settings));
    for removed in [false, true] {
        let out = if removed { "removed" } else { "moved" };
        let child = start(&mut place.pretrain(out, &settings));
        let (run, aside) = (place.path(out), place.path("aside"));
        wait_for("a checkpoint", || {
            run.join("checkpoints").exists()
                && names(&run.join("checkpoints")).iter().any(|name| !name.ends_with(".partial"))
        });
        fs::rename(&run, &aside).unwrap();
        if removed {
            // An empty folder is what a mount leaves behind.
            fs::create_dir(&run).unwrap();
        }
        let said = failed(child, 1);
        assert!(said.contains("cannot") && said.contains(out), "{said}");
        assert!(said.contains("Its folder is gone") || said.contains("No such file"), "{said}");
        assert!(said.contains("Bring it back, then continue with --resume"), "{said}");
        assert!(!run.exists() || names(&run).is_empty(), "nothing is begun in its place: {:?}", names(&run));
        if run.exists() {
            fs::remove_dir(&run).unwrap();
        }
        fs::rename(&aside, &run).unwrap();
        succeed(&mut place.pretrain(out, &[&settings[..], &["--resume"]].concat()));
        place.assert_same("whole", out, 120);
    }
}

#[test]
fn a_run_does_not_miss_the_text_that_it_has_begun_with() {
    let place = Place::new();
    let build = ["data", "build", "text", "--out", "shards"];
    succeed(place.trainer().args(build));
    let train = |out: &str| {
        let mut command = place.trainer();
        let path = format!("data.path='{}'", place.path("shards").display());
        let set =
            ["data.source=shards", "run.threads=1", "validation.rows=0", "run.checkpoint_every=3", &path];
        command.args(["pretrain", "tiny", "--steps", "60", "--out", out]);
        for key in set {
            command.args(["--set", key]);
        }
        command
    };
    succeed(&mut train("whole"));
    // The files are open: their names may go, the text stays as long as the run.
    let child = start(&mut train("out"));
    wait_for("a checkpoint", || place.path("out/checkpoints").exists());
    fs::rename(place.path("shards"), place.path("aside")).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    place.assert_same("whole", "out", 60);
    let said = failed(start(train("out").arg("--resume")), 1);
    assert!(said.contains("shards") && said.contains("manifest.json"), "{said}");
}

/// What is cut off a mapped file must not be read any more.
#[test]
fn shards_that_are_cut_short_under_a_reader_are_noticed_before_the_next_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    let lines: String = (0..60).map(|index| shards::json_line(&shards::text(index), "a")).collect();
    fs::write(&path, lines).unwrap();
    let out = folder.path().join("out");
    let inputs = discover(&[path]).unwrap();
    build::build(&out, &inputs, &Tokenizer::bytes(), &shards::settings(), |_| {}).unwrap();
    let store = ShardStore::open(&out, &Tokenizer::bytes(), true).unwrap();
    let packing = Packing::new(2, 32, 1);
    let documents: std::sync::Arc<dyn Documents> = std::sync::Arc::new(store);
    let stream = BatchStream::new(documents.clone(), packing).unwrap();
    let valid = ValidationSet::new(documents, 1, &packing, 2).unwrap();
    let shard = out.join("shard-00000.tokens");
    let open = Shard::open(&shard).unwrap();
    stream.check().unwrap();
    let length = fs::metadata(&shard).unwrap().len();
    OpenOptions::new().write(true).open(&shard).unwrap().set_len(length - 1).unwrap();
    let mut batch = trainer::data::Batch::default();
    for error in [
        stream.check().unwrap_err(),
        open.check_length().unwrap_err(),
        valid.fill(0, 0, &mut batch).unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(said.contains("shard-00000.tokens") && said.contains("cut short"), "{said}");
        assert!(said.contains(&length.to_string()) && said.contains(&(length - 1).to_string()), "{said}");
    }
    // A file of the same length in its place is another file: the one that is open stays as it is.
    fs::remove_file(&shard).unwrap();
    assert!(open.check_length().is_err());
}

/// A pipe in the place of an input holds the build where the test wants it.
fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_build_whose_input_or_output_goes_away_says_so_and_goes_on_later() {
    let place = Place::new();
    let line = |index: usize| shards::json_line(&shards::text(index), "a");
    let lines = |range: std::ops::Range<usize>| range.map(line).collect::<String>();
    fs::create_dir(place.path("in")).unwrap();
    let (first, second) = (place.path("in/a.jsonl"), place.path("in/b.jsonl"));
    let build = |inputs: [&Path; 2], out: &str| {
        let mut command = place.trainer();
        command
            .args(["data", "build", "--shard-tokens", "500"])
            .args(inputs)
            .arg("--out")
            .arg(place.path(out));
        command
    };
    fs::write(&second, lines(0..40)).unwrap();
    let manifest = |out: &str| place.path(out).join("manifest.json");
    for lost in ["in", "out"] {
        pipe(&first);
        let child = start(&mut build([&first, &second], "out"));
        wait_for("the build", || manifest("out").exists());
        // Opens when the build does: from here on it waits for lines.
        let mut held = OpenOptions::new().write(true).open(&first).unwrap();
        fs::rename(place.path(lost), place.path("aside")).unwrap();
        held.write_all(lines(40..60).as_bytes()).unwrap();
        drop(held);
        let said = failed(child, 1);
        assert!(said.contains("cannot") && said.contains("No such file"), "{said}");
        assert!(said.contains(if lost == "in" { "b.jsonl" } else { "Its folder is gone" }), "{lost}: {said}");
        assert!(!place.path(lost).exists(), "nothing is begun in its place");
        fs::rename(place.path("aside"), place.path(lost)).unwrap();
        // What was there before is still whole, and a build of files instead of a pipe begins anew beside it.
        assert!(fs::read_to_string(&second).unwrap() == lines(0..40));
        fs::remove_file(&first).unwrap();
        let left = names(&place.path("out"));
        assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
        for name in left.iter().filter(|name| name.ends_with(".tokens")) {
            Shard::open(&place.path("out").join(name)).and_then(|shard| shard.verify()).unwrap();
        }
        fs::remove_dir_all(place.path("out")).unwrap();
    }
}

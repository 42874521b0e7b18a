//! What the tests of the binary share: a text to train on, and ways to run it and to look at what it left.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use trainer::checkpoint::safetensors::Reader;

/// A folder of its own with a small corpus of two domains in `text/`.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let words = ["expert", "token", "router", "pool", "document", "layer", "weight", "shared"];
        for (domain, join) in [("prose", " "), ("code", "_")] {
            let path = folder.path().join("text").join(domain);
            std::fs::create_dir_all(&path).unwrap();
            for file in 0..12usize {
                let pick = |i: usize| words[(i * i + file * 3 + i / 5) % words.len()];
                let text: Vec<&str> = (0..60).map(pick).collect();
                std::fs::write(path.join(format!("{file}.txt")), text.join(join)).unwrap();
            }
        }
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `trainer pretrain tiny` on the corpus, into the folder `out`.
    pub fn pretrain(&self, out: &str, more: &[&str]) -> Command {
        let mut command = self.trainer();
        command.args(["pretrain", "tiny", "--set", "run.threads=2", "--set", "data.source=folder"]);
        command.arg("--set").arg(format!("data.path='{}'", self.path("text").display()));
        command.args(["--set", "data.min_valid_bytes=512"]).arg("--out").arg(self.path(out)).args(more);
        command
    }

    pub fn trainer(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
        command.current_dir(self.folder.path());
        command
    }

    /// The run's metrics without what depends on the clock.
    pub fn metrics(&self, out: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(out).join("metrics.jsonl")).unwrap();
        let timeless = |line: &str| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            for key in ["tokens_per_s", "flops_per_s", "peak_share", "elapsed_s"] {
                record.as_object_mut().unwrap().remove(key);
            }
            record
        };
        text.lines().map(timeless).collect()
    }

    /// Bytes of one file of a checkpoint.
    pub fn checkpoint(&self, out: &str, step: u64, file: &str) -> Vec<u8> {
        let path = self.step(out, step).join(file);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn step(&self, out: &str, step: u64) -> PathBuf {
        self.path(out).join("checkpoints").join(format!("step-{step:08}"))
    }

    /// Two runs ended in the same state, bit for bit, and told the same on the way.
    pub fn assert_same(&self, a: &str, b: &str, step: u64) {
        assert_eq!(self.metrics(a), self.metrics(b), "metrics of {a} and {b}");
        for file in ["model.safetensors", "optimizer.safetensors", "state.json", "config.json"] {
            assert!(
                self.checkpoint(a, step, file) == self.checkpoint(b, step, file),
                "{file} of {a} and {b}"
            );
        }
    }
}

/// Runs to the end and demands success.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

/// Runs to the end, demands the exit code, and returns what was said.
pub fn fail(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    stderr(&output)
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The last line of `--json`.
pub fn summary(output: &Output) -> Value {
    serde_json::from_str(stdout(output).lines().last().expect("a summary")).expect("the summary is JSON")
}

/// File names of a folder, sorted.
pub fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The weights of a checkpoint, by name.
pub fn weights(checkpoint: &Path) -> BTreeMap<String, Vec<f64>> {
    tensors(&checkpoint.join("model.safetensors"))
}

/// Every tensor of a file, by name.
pub fn tensors(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let mut file = Reader::open(path).unwrap();
    let tensors: Vec<(String, Vec<usize>)> =
        file.tensors().iter().map(|(name, info)| (name.clone(), info.shape.clone())).collect();
    tensors.into_iter().map(|(name, shape)| (name.clone(), file.floats(&name, &shape).unwrap())).collect()
}

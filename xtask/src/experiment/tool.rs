//! The trainer as the experiment uses it: a program with JSON output.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::step;

/// The built trainer.
pub struct Tool {
    binary: PathBuf,
}

impl Tool {
    /// Builds it.
    pub fn build() -> Result<Self, String> {
        step::run(
            "build",
            &mut step::cargo(&["build", "--release", "--locked", "--quiet", "--package", "trainer"]),
        )?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| step::root().join("target"), PathBuf::from);
        Ok(Self { binary: target.join("release/trainer") })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(step::root());
        command
    }

    /// Runs a command whose progress people see.
    pub fn run(&self, arguments: &[&str]) -> Result<(), String> {
        step::run(arguments[0], &mut self.command(arguments))
    }

    /// Whether a command runs; its words where it does not.
    pub fn check(&self, arguments: &[&str]) -> Result<(), String> {
        let output = self
            .command(arguments)
            .output()
            .map_err(|error| format!("{}: {error}", self.binary.display()))?;
        let words = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(words()) }
    }

    /// Runs a command with `--json` and returns its last line, kept in `file` so that it is run once.
    pub fn measure(&self, file: &Path, arguments: &[&str]) -> Result<Value, String> {
        if let Ok(text) = std::fs::read_to_string(file) {
            return serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()));
        }
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let start = Instant::now();
        let mut command = self.command(&arguments);
        let line = format!("{command:?}").replace('"', "");
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cannot start `{line}`: {error}"))?;
        if !output.status.success() {
            return Err(format!("`{line}` ended with {}", output.status));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        let json: Value = serde_json::from_str(last).map_err(|error| format!("`{line}`: {error}: {last}"))?;
        println!("   {line}  ({:.0} s)", start.elapsed().as_secs_f64());
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        }
        // Beside and renamed, so that what was interrupted is measured again.
        let draft = file.with_extension("draft");
        let written = std::fs::write(&draft, last).and_then(|()| std::fs::rename(&draft, file));
        written.map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(json)
    }
}

//! The trainer as the experiment uses it: a program with JSON output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::step;

/// What stands for the experiment's folder in commands that are kept: it may be moved.
const OUT: &str = "OUT";
/// Ends the name of the file that holds a measurement's command.
const COMMAND: &str = "command.json";

/// The built trainer.
pub struct Tool {
    binary: PathBuf,
    out: PathBuf,
}

impl Tool {
    /// Builds it, for an experiment in the folder `out`.
    pub fn build(out: &Path) -> Result<Self, String> {
        step::run(
            "build",
            &mut step::cargo(&["build", "--release", "--locked", "--quiet", "--package", "trainer"]),
        )?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| step::root().join("target"), PathBuf::from);
        Ok(Self { binary: target.join("release/trainer"), out: out.to_path_buf() })
    }

    /// Another program in its place.
    #[cfg(test)]
    pub fn stand_in(binary: &str, out: &Path) -> Self {
        Self { binary: binary.into(), out: out.to_path_buf() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(step::root());
        command
    }

    /// The arguments as they are kept.
    pub fn kept(&self, arguments: &[&str]) -> Value {
        let out = self.out.display().to_string();
        arguments.iter().map(|argument| argument.replace(&out, OUT)).collect()
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

    /// Runs a command with `--json` and returns its last line, kept in `file` so that it is run once. The command and its
    /// seconds are kept beside it; a result of another command is refused.
    pub fn measure(&self, file: &Path, arguments: &[&str]) -> Result<Value, String> {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let (record, asked) = (file.with_extension(COMMAND), self.kept(&arguments));
        if file.exists() {
            // Earlier versions kept no commands.
            if let Some(found) = read(&record)?.filter(|found| found["arguments"] != asked) {
                let folder = file.parent().unwrap_or(file);
                return Err(stale(file, folder, &found["arguments"], &asked));
            }
            return read(file)?.ok_or_else(|| format!("{} is empty; remove it", file.display()));
        }
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
        let seconds = start.elapsed().as_secs_f64();
        println!("   {line}  ({seconds:.0} s)");
        keep(&record, &json!({ "arguments": asked, "seconds": seconds }).to_string())?;
        keep(file, last)?;
        Ok(json)
    }
}

/// Writes a file beside and renames it, so that what is interrupted is done again.
pub fn keep(file: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let draft = file.with_extension("draft");
    fs::write(&draft, text).and_then(|()| fs::rename(&draft, file)).map_err(failed)
}

/// The JSON in a file; none where there is no file, or nothing in it.
pub fn read(file: &Path) -> Result<Option<Value>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    match fs::read_to_string(file) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| failed(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// Says that `what` is the result of another command than is asked for now, and which folder holds all that follows from it.
pub fn stale(what: &Path, folder: &Path, found: &Value, asked: &Value) -> String {
    let line = |arguments: &Value| {
        let words = arguments.as_array().map(Vec::as_slice).unwrap_or_default();
        words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    };
    format!(
        "{} is of `trainer {}`, asked for is `trainer {}`; remove the folder {} to have it anew, or name another with --out",
        what.display(),
        line(found),
        line(asked),
        folder.display()
    )
}

/// What measuring took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    /// Seconds of all measurements whose time is known.
    pub seconds: f64,
    pub measurements: usize,
    /// Measurements of versions that kept no times.
    pub untimed: usize,
}

impl Times {
    /// Of the measurements in a folder.
    pub fn of(folder: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        let mut times = Self::default();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // A subset is what a measurement wrote, not what it said.
            let other = [COMMAND, "subset.json"].iter().any(|end| name.ends_with(end));
            if !name.ends_with(".json") || other {
                continue;
            }
            times.measurements += 1;
            match read(&path.with_extension(COMMAND))?.and_then(|record| record["seconds"].as_f64()) {
                Some(seconds) => times.seconds += seconds,
                None => times.untimed += 1,
            }
        }
        Ok(times)
    }
}

impl std::iter::Sum for Times {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, times| Self {
            seconds: sum.seconds + times.seconds,
            measurements: sum.measurements + times.measurements,
            untimed: sum.untimed + times.untimed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::scratch;

    /// Arguments with which a shell says what the trainer might; what is added, it ignores.
    const SAYS: [&str; 2] = ["-c", r#"echo '{"loss": 2}'"#];

    #[test]
    fn a_measurement_is_not_run_again() {
        let out = scratch("measured-once");
        let file = out.join("measured/full.json");
        assert_eq!(Tool::stand_in("sh", &out).measure(&file, &SAYS), Ok(json!({"loss": 2})));
        // A second time it would fail.
        assert_eq!(Tool::stand_in("false", &out).measure(&file, &SAYS), Ok(json!({"loss": 2})));
        assert!(Tool::stand_in("false", &out).measure(&out.join("other.json"), &SAYS).is_err());
        let times = Times::of(&out.join("measured")).unwrap();
        assert_eq!((times.measurements, times.untimed), (1, 0));
        fs::remove_dir_all(out).unwrap();
    }

    #[test]
    fn a_measurement_by_another_command_is_refused_wherever_the_experiment_lies() {
        let (here, there) = (scratch("stale-here"), scratch("stale-there"));
        let path = |folder: &Path| folder.join("run").display().to_string();
        Tool::stand_in("sh", &here)
            .measure(&here.join("full.json"), &[SAYS[0], SAYS[1], &path(&here)])
            .unwrap();
        for name in ["full.json", "full.command.json"] {
            fs::copy(here.join(name), there.join(name)).unwrap();
        }
        let (tool, file) = (Tool::stand_in("false", &there), there.join("full.json"));
        assert!(tool.measure(&file, &[SAYS[0], SAYS[1], &path(&there)]).is_ok());
        let refused = tool.measure(&file, &["eval", "--batch", "8"]).unwrap_err();
        assert!(refused.contains(&format!("remove the folder {}", there.display())), "{refused}");
        assert!(refused.contains("OUT/run --json") && refused.contains("--batch 8"), "{refused}");
        [here, there].iter().for_each(|folder| fs::remove_dir_all(folder).unwrap());
    }

    #[test]
    fn a_measurement_without_its_command_is_taken_as_it_is() {
        let out = scratch("without-command");
        let file = out.join("full.json");
        fs::write(&file, r#"{"loss": 2}"#).unwrap();
        fs::write(out.join("maths.subset.json"), "{}").unwrap();
        assert_eq!(Tool::stand_in("false", &out).measure(&file, &["eval"]), Ok(json!({"loss": 2})));
        assert_eq!(Times::of(&out).unwrap(), Times { seconds: 0.0, measurements: 1, untimed: 1 });
        fs::remove_dir_all(out).unwrap();
    }
}

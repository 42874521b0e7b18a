//! The CUDA steps of `cargo xtask test`: everything is compiled by the real compiler and run on the emulated device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::step;

/// Test targets that touch a device: package, target, and which of its tests (all of them where empty).
const TARGETS: [(&str, &str, &str); 5] = [
    ("emo", "cuda_ops", ""),
    ("emo", "cuda_graph", ""),
    ("emo", "vectors", "cuda"),
    ("emo", "hostile_arguments", "gpu"),
    ("trainer", "cuda", ""),
];

/// Examples that need the feature.
const EXAMPLES: [&str; 1] = ["04_cuda_slices"];

/// Orders of warps and times at which asynchronous copies land: two ends of what the rules allow.
const SCHEDULES: [(&str, &str); 2] = [("round-robin", "early"), ("random:7", "late")];

/// Lints and documentation with the feature on.
pub fn lint() -> Result<(), String> {
    const FEATURES: [&str; 4] = ["-p=emo", "-p=trainer", "--features=emo/cuda,trainer/cuda", "--locked"];
    let clippy = [&["clippy", "--all-targets"], &FEATURES[..], &["--", "-D", "warnings"]].concat();
    step::run("cuda lints", &mut step::cargo(&clippy))?;
    let doc = [&["doc", "--no-deps"], &FEATURES[..]].concat();
    step::run("cuda lints", step::cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Builds the emulated device, and tests it.
pub fn emulator() -> Result<(), String> {
    step::run("emulator", &mut step::cargo(&["test", "--release", "--locked", "-p", "emo-emulator"]))?;
    step::run("emulator", &mut step::cargo(&["build", "--release", "--locked", "-p", "emo-emulator"]))
}

/// Every test that needs a device, on the emulated one, under each schedule.
pub fn on_emulator() -> Result<(), String> {
    let library = library()?;
    let tests = TARGETS.iter().map(|(package, target, filter)| Ok((build(package, target)?, *filter)));
    let tests = tests.collect::<Result<Vec<_>, String>>()?;
    let examples = examples()?;
    for example in &examples {
        step::run("cuda examples", Command::new(example).env("LD_LIBRARY_PATH", &library))?;
    }
    for (order, copies) in SCHEDULES {
        for (test, filter) in &tests {
            let mut command = test.command(filter);
            command.env("LD_LIBRARY_PATH", &library);
            command.env("EMO_EMULATOR_SCHEDULE", order).env("EMO_EMULATOR_COPIES", copies);
            step::run(&format!("cuda, {order} warps, {copies} copies"), &mut command)?;
        }
    }
    Ok(())
}

/// Every test that needs a device, on this machine's own, and the library's again under each tool of compute-sanitizer where
/// that is installed.
pub fn on_device() -> Result<(), String> {
    for (package, target, filter) in TARGETS {
        step::run("tests on the GPU", &mut build(package, target)?.command(filter))?;
    }
    if Command::new("compute-sanitizer").arg("--version").output().is_err() {
        println!("\n== no compute-sanitizer on PATH: its checks are left out");
        return Ok(());
    }
    let ops = build("emo", "cuda_ops")?;
    for tool in ["memcheck", "racecheck", "synccheck", "initcheck"] {
        let mut command = Command::new("compute-sanitizer");
        command.args(["--tool", tool, "--error-exitcode", "9"]).arg(&ops.path);
        command.current_dir(&ops.package).env("EMO_REQUIRE_CUDA", "1");
        step::run("compute-sanitizer", &mut command)?;
    }
    Ok(())
}

/// Builds the examples that need the feature.
fn examples() -> Result<Vec<PathBuf>, String> {
    EXAMPLES.iter().map(|name| Ok(compile("emo", name, &["build", "--example", name])?.path)).collect()
}

/// The folder that holds the emulated libcuda and nothing else.
fn library() -> Result<PathBuf, String> {
    let folder = step::root().join("target/emulator");
    let built = step::root().join("target/release/libcuda.so");
    let copied = fs::create_dir_all(&folder).and_then(|()| fs::copy(&built, folder.join("libcuda.so")));
    copied.map_err(|error| {
        format!("{}: {error}; `cargo xtask test --only emulator` builds it", built.display())
    })?;
    Ok(folder)
}

/// A test's program. It is started without cargo, which would put its own folders before the caller's libraries, and an
/// emulated device may lie there.
struct Program {
    path: PathBuf,
    package: PathBuf,
}

impl Program {
    fn command(&self, filter: &str) -> Command {
        let mut command = Command::new(&self.path);
        // As cargo starts it.
        command.current_dir(&self.package).env("CARGO_MANIFEST_DIR", &self.package);
        command.env("EMO_REQUIRE_CUDA", "1");
        if !filter.is_empty() {
            command.arg(filter);
        }
        command
    }
}

/// Builds a test target with the feature on.
fn build(package: &str, target: &str) -> Result<Program, String> {
    compile(package, target, &["test", "--no-run", "--test", target])
}

fn compile(package: &str, target: &str, what: &[&str]) -> Result<Program, String> {
    let mut command = step::cargo(what);
    command.args([
        "--locked",
        "--message-format=json-render-diagnostics",
        "-p",
        package,
        "--features",
        "cuda",
    ]);
    println!("\n== cuda: {}", format!("{command:?}").replace('"', ""));
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot start cargo: {error}"))?;
    let path = executable(&String::from_utf8_lossy(&output.stdout), target);
    let path =
        path.filter(|_| output.status.success()).ok_or(format!("FAILED cuda: {target} does not build"))?;
    let package = if package == "emo" { step::root() } else { step::root().join(package) };
    Ok(Program { path, package })
}

/// The program of `target` in cargo's messages.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = messages.filter(|message| message["target"]["name"] == target);
    ours.find_map(|message| message["executable"].as_str().map(|path| Path::new(path).to_path_buf()))
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn a_program_is_found_by_its_target() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"emo"},"executable":null}"#,
            "\nnoise\n",
            r#"{"reason":"compiler-artifact","target":{"name":"cuda_ops"},"executable":"/t/cuda_ops-1"}"#,
        );
        assert_eq!(executable(messages, "cuda_ops").unwrap().to_str(), Some("/t/cuda_ops-1"));
        assert_eq!(executable(messages, "vectors"), None);
    }
}

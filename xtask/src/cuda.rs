//! The CUDA steps of `cargo xtask test`: everything is compiled by the real compiler and run on the emulated device.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::programs::{PACKAGES, Program, Programs};
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

/// Both crates with the feature on.
pub const FEATURES: &str = "--features=emo/cuda,trainer/cuda";

/// Lints and documentation with the feature on.
pub fn lint() -> Result<(), String> {
    let mut clippy = step::cargo(&["clippy", "--all-targets", FEATURES]);
    step::run("cuda lints", clippy.args(PACKAGES).args(["--", "-D", "warnings"]))?;
    let mut doc = step::cargo(&["doc", "--no-deps", FEATURES]);
    step::run("cuda lints", doc.args(PACKAGES).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Builds the emulated device, and tests it.
pub fn emulator() -> Result<(), String> {
    step::run("emulator", &mut step::cargo(&["test", "--release", "--locked", "-p", "emo-emulator"]))?;
    step::run("emulator", &mut step::cargo(&["build", "--release", "--locked", "-p", "emo-emulator"]))
}

/// Every test that needs a device, on the emulated one, under each schedule.
pub fn on_emulator() -> Result<(), String> {
    let library = library()?;
    let programs = programs()?;
    let tests = TARGETS.iter().map(|&(package, target, filter)| Ok((programs.get(package, target)?, filter)));
    let tests = tests.collect::<Result<Vec<_>, String>>()?;
    for name in EXAMPLES {
        let example = Programs::examples("cuda", &[FEATURES, "--example", name])?.get("emo", name)?;
        step::run("cuda examples", Command::new(example.path).env("LD_LIBRARY_PATH", &library))?;
    }
    for (order, copies) in SCHEDULES {
        for (test, filter) in &tests {
            let mut command = required(test, filter);
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
    let programs = programs()?;
    for (package, target, filter) in TARGETS {
        step::run("tests on the GPU", &mut required(&programs.get(package, target)?, filter))?;
    }
    if Command::new("compute-sanitizer").arg("--version").output().is_err() {
        println!("\n== no compute-sanitizer on PATH: its checks are left out");
        return Ok(());
    }
    let ops = programs.get("emo", "cuda_ops")?;
    for tool in ["memcheck", "racecheck", "synccheck", "initcheck"] {
        let mut command = Command::new("compute-sanitizer");
        command.args(["--tool", tool, "--error-exitcode", "9"]).arg(&ops.path);
        command.current_dir(&ops.folder).env("EMO_REQUIRE_CUDA", "1");
        step::run("compute-sanitizer", &mut command)?;
    }
    Ok(())
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

/// Every test target that needs a device, with the feature on.
fn programs() -> Result<Programs, String> {
    let mut arguments = vec![FEATURES];
    TARGETS.iter().for_each(|(_, target, _)| arguments.extend(["--test", target]));
    Programs::tests("cuda", &arguments)
}

/// The tests that match the filter (all of them where it is empty), which fail where there is no device.
fn required(test: &Program, filter: &str) -> Command {
    let mut command = test.command();
    command.env("EMO_REQUIRE_CUDA", "1");
    if !filter.is_empty() {
        command.arg(filter);
    }
    command
}

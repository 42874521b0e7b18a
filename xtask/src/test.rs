//! `cargo xtask test`: everything that must be true before a commit lands.

use std::fs;
use std::time::Instant;

use crate::programs::{PACKAGES, Programs};
use crate::{cuda, gates, readme, step, toolchain};

/// The member of the workspace that [`PACKAGES`] leaves out: it asks for other features of packages that they share.
const EMULATOR: [&str; 3] = ["-p", "emo-emulator", "--locked"];

type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: &[Step] = &[
    ("fmt", || step::run("fmt", &mut step::cargo(&["fmt", "--all", "--check"]))),
    ("clippy", || {
        let all = ["clippy", "--all-targets"];
        step::run("clippy", step::cargo(&all).args(PACKAGES).args(["--", "-D", "warnings"]))?;
        step::run("clippy", step::cargo(&all).args(EMULATOR).args(["--", "-D", "warnings"]))
    }),
    // The trainer as built without Parquet: a feature that nobody leaves out stops being one.
    ("no default features", || {
        let mut command = step::cargo(&["clippy", "--no-default-features", "--all-targets"]);
        step::run("no default features", command.args(PACKAGES).args(["--", "-D", "warnings"]))
    }),
    ("docs", || {
        [&PACKAGES[..], &EMULATOR].iter().try_for_each(|packages| {
            let mut command = step::cargo(&["doc", "--no-deps"]);
            step::run("docs", command.args(*packages).env("RUSTDOCFLAGS", "-D warnings"))
        })
    }),
    ("house", house),
    // The emulator's own tests come with its step, in release.
    ("tests", || step::run("tests", step::cargo(&["test"]).args(PACKAGES))),
    ("fuzz targets", fuzz),
    ("vectors", || {
        let both = ["test", "--release", "--locked", "-p", "emo", "-p", "trainer", "--test", "vectors"];
        step::run("vectors", &mut step::cargo(&both))
    }),
    ("examples", examples),
    ("toolchain", toolchain::run),
    ("cuda lints", cuda::lint),
    ("emulator", cuda::emulator),
    ("cuda tests", cuda::on_emulator),
    ("gates", || gates::run(false)),
    ("readme", readme::run),
];

/// Runs the steps in order and stops at the first that fails.
pub fn run(only: Option<&str>) -> Result<(), String> {
    let chosen: Vec<&Step> =
        STEPS.iter().filter(|(name, _)| only.is_none_or(|text| name.contains(text))).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "no step matches `{}`; there are: {}",
            only.unwrap_or_default(),
            names.join(", ")
        ));
    }
    let mut times = Vec::new();
    let outcome = chosen.iter().try_for_each(|(name, step)| {
        let start = Instant::now();
        let outcome = step();
        times.push((*name, start.elapsed().as_secs_f64()));
        outcome
    });
    println!("\n{}", table(&times));
    outcome.map(|()| println!("\nall {} steps passed", chosen.len()))
}

/// Seconds of each step that ran, and of all.
fn table(times: &[(&str, f64)]) -> String {
    let total = ("total", times.iter().map(|(_, seconds)| seconds).sum());
    let width = times.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(total.0.len());
    let line = |&(name, seconds): &(&str, f64)| format!("{name:<width$} {seconds:>6.0} s");
    times.iter().chain([&total]).map(line).collect::<Vec<_>>().join("\n")
}

/// A package of its own, with the workspace's versions and target folder: what its tests compiled is not compiled again.
fn fuzz() -> Result<(), String> {
    let (folder, target) = (step::root().join("fuzz"), step::root().join("target").display().to_string());
    step::run("fuzz targets", step::cargo(&["fmt", "--check"]).current_dir(&folder))?;
    let check = ["check", "--locked", "--target-dir", &target];
    step::run("fuzz targets", step::cargo(&check).current_dir(&folder))
}

/// Runs every numbered example of the library that needs no device.
fn examples() -> Result<(), String> {
    let folder = step::root().join("examples");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| !name.contains("cuda"))
        .collect();
    names.sort();
    let programs = Programs::examples("examples", &["--examples"])?;
    for name in &names {
        step::run("examples", &mut programs.get("emo", name)?.command())?;
    }
    // A package of its own, with candle's packages: its processor half runs, its CUDA half needs an installed toolkit.
    let target = step::root().join("target/candle").display().to_string();
    let candle = ["run", "--quiet", "--release", "--locked", "--target-dir", &target];
    step::run("examples", step::cargo(&candle).current_dir(folder.join("candle")))
}

/// The longest a file may be, by its ending and the start of its place: one sitting's reading.
const LONGEST: [(&str, &str, usize); 3] = [("cu", "kernels", 450), ("cuh", "kernels", 150), ("rs", "", 520)];

/// House rules that no lint knows.
fn house() -> Result<(), String> {
    let root = step::root();
    let mut folders: Vec<_> =
        ["src", "build", "trainer", "emulator", "kernels", "xtask", "tests", "benches", "examples", "fuzz"]
            .map(|f| root.join(f))
            .into();
    let mut long = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?.flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let place = path.strip_prefix(&root).unwrap_or(&path);
            let limit = LONGEST.iter().find(|(ending, start, _)| {
                path.extension().is_some_and(|extension| extension == *ending) && place.starts_with(start)
            });
            let Some((_, _, most)) = limit else { continue };
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let lines = text.lines().count();
            if lines > *most {
                long.push(format!("{} ({lines} lines, {most} are the most)", place.display()));
            }
        }
    }
    if long.is_empty() { Ok(()) } else { Err(format!("files too long for one sitting: {}", long.join(", "))) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_adds_the_steps_up() {
        let text = super::table(&[("fmt", 1.4), ("cuda lints", 120.4)]);
        assert_eq!(text, "fmt             1 s\ncuda lints    120 s\ntotal         122 s");
    }
}

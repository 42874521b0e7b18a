//! `cargo xtask test`: everything that must be true before a commit lands.

use std::fs;

use crate::{cuda, gates, readme, step, toolchain};

type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: &[Step] = &[
    ("fmt", || step::run("fmt", &mut step::cargo(&["fmt", "--all", "--check"]))),
    ("clippy", || {
        step::run(
            "clippy",
            &mut step::cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
        )
    }),
    // The trainer as built without Parquet: a feature that nobody leaves out stops being one.
    ("no default features", || {
        let scope = ["clippy", "-p", "trainer", "--no-default-features", "--all-targets", "--locked"];
        step::run("no default features", step::cargo(&scope).args(["--", "-D", "warnings"]))
    }),
    ("docs", || {
        let mut command = step::cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
        step::run("docs", command.env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("house", house),
    // The emulator's own tests come with its step, in release.
    ("tests", || {
        let exclude = ["--exclude", "emo-emulator"];
        step::run("tests", step::cargo(&["test", "--workspace", "--locked"]).args(exclude))
    }),
    ("fuzz targets", fuzz),
    ("vectors", || {
        step::run(
            "vectors",
            &mut step::cargo(&["test", "--release", "--locked", "-p", "emo", "--test", "vectors"]),
        )?;
        step::run(
            "vectors",
            &mut step::cargo(&["test", "--release", "--locked", "-p", "trainer", "--test", "vectors"]),
        )
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
    for (_, step) in &chosen {
        step()?;
    }
    println!("\nall {} steps passed", chosen.len());
    Ok(())
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
    names.iter().try_for_each(|name| {
        step::run(
            "examples",
            &mut step::cargo(&["run", "--quiet", "--locked", "-p", "emo", "--example", name]),
        )
    })?;
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

//! `cargo xtask test`: everything that must be true before a commit lands.

use std::fs;

use crate::{readme, step};

type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: &[Step] = &[
    ("fmt", || step::run("fmt", &mut step::cargo(&["fmt", "--all", "--check"]))),
    ("clippy", || {
        step::run(
            "clippy",
            &mut step::cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
        )
    }),
    ("docs", || {
        let mut command = step::cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
        step::run("docs", command.env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("house", house),
    ("tests", || step::run("tests", &mut step::cargo(&["test", "--workspace", "--locked"]))),
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

/// Runs every numbered example of the library.
fn examples() -> Result<(), String> {
    let folder = step::root().join("examples");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    names.iter().try_for_each(|name| {
        step::run(
            "examples",
            &mut step::cargo(&["run", "--quiet", "--locked", "-p", "emo", "--example", name]),
        )
    })
}

/// House rules that no lint knows: files stay short enough to read in one sitting.
fn house() -> Result<(), String> {
    const LONGEST: usize = 520;
    let mut folders: Vec<_> =
        ["src", "trainer", "xtask", "tests", "benches", "examples"].map(|f| step::root().join(f)).into();
    let mut long = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?.flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let lines = fs::read_to_string(&path)
                    .map_err(|error| format!("{}: {error}", path.display()))?
                    .lines()
                    .count();
                if lines > LONGEST {
                    long.push(format!("{} ({lines} lines)", path.display()));
                }
            }
        }
    }
    if long.is_empty() {
        Ok(())
    } else {
        Err(format!("files longer than {LONGEST} lines: {}", long.join(", ")))
    }
}

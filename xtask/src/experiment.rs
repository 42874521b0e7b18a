//! `cargo xtask experiment modularity`: trains EMO and its baselines on the eight-domain corpus, measures what subsets of
//! their experts keep, and writes the results down as they came out.
//!
//! Every step leaves its result in a file and is not done again: stopped at any moment, the same command goes on.

mod arms;
mod document;
mod modules;
mod pair;
mod plot;
mod runs;
mod statistics;
mod subsets;
mod sweep;
mod text;
mod tool;
mod verdicts;

use std::fs;
use std::path::{Path, PathBuf};

use arms::{ARMS, Arm, SWEEP};
use document::{Results, Setting};
pub use runs::Purpose;
use runs::{Measured, Run};

/// What to run.
pub struct Options {
    /// The experiment, quickly or wholly, or the sweep before it.
    pub purpose: Purpose,
    /// Folder of the corpus.
    pub corpus: PathBuf,
    /// Where runs, measurements and the page go.
    pub out: PathBuf,
    /// Only arms whose name is among these; all where empty.
    pub arms: Vec<String>,
    /// Optimiser steps instead of the preset's.
    pub steps: Option<u64>,
    /// Also copy page and plot to docs/.
    pub write: bool,
}

/// Where everything goes unless `--out` says otherwise.
pub const OUT: &str = "target/experiment";
/// Steps of a run with `--quick`.
const QUICK_STEPS: u64 = 1000;
/// Steps of a run of the sweep, unless its recipe names others: half of the experiment's.
const SWEEP_STEPS: u64 = 1500;

/// Runs the command.
pub fn run(options: &Options) -> Result<(), String> {
    let purpose = options.purpose;
    let all: &'static [Arm] = if purpose == Purpose::Sweep { &SWEEP } else { &ARMS };
    if let Some(unknown) = options.arms.iter().find(|name| all.iter().all(|arm| arm.name != **name)) {
        let known: Vec<&str> = all.iter().map(|arm| arm.name).collect();
        return Err(format!("there is no arm `{unknown}`; there are {}", known.join(", ")));
    }
    let tool = tool::Tool::build(&options.out)?;
    let text = text::Text::prepare(&tool, &options.corpus, &options.out.join("text"))?;
    // Runs of other lengths are other experiments.
    let steps = options.steps.or(match purpose {
        Purpose::Whole => None,
        Purpose::Quick => Some(QUICK_STEPS),
        Purpose::Sweep => Some(SWEEP_STEPS),
    });
    let name = if purpose == Purpose::Sweep { "sweep" } else { "steps" };
    let out =
        steps.map_or_else(|| options.out.join("whole"), |steps| options.out.join(format!("{name}-{steps}")));
    let wanted = |arm: &&Arm| {
        (arm.quick || purpose != Purpose::Quick)
            && (options.arms.is_empty() || options.arms.iter().any(|name| name == arm.name))
    };
    let seeds = |arm: &Arm| if purpose == Purpose::Whole { arm.seeds } else { 1 };
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    // First seeds of all arms come first: an experiment that is stopped has something of each.
    let chosen: Vec<&'static Arm> = all.iter().filter(wanted).collect();
    chosen.iter().try_for_each(|arm| Run::new(arm, 0, &out, purpose).check(&tool))?;
    let most = chosen.iter().map(|arm| seeds(arm)).max().unwrap_or(0);
    let mut results: Vec<(&'static Arm, Vec<Measured>)> =
        chosen.iter().map(|&arm| (arm, Vec::new())).collect();
    let written = Pages { tool: &tool, out, command: command(options), text: &text, options };
    for seed in 0..most {
        for at in 0..results.len() {
            let arm = results[at].0;
            if seed < seeds(arm) {
                let run = Run::new(arm, seed, &written.out, purpose);
                println!("\n== {}", run.name());
                run.train(&tool, &text, steps)?;
                let measured = run.measure(&tool, &text)?;
                results[at].1.push(measured);
                // What there is so far: a machine may be needed for something else.
                written.write(&results)?;
            }
        }
    }
    Ok(())
}

/// The pages that the results become.
struct Pages<'a> {
    tool: &'a tool::Tool,
    out: PathBuf,
    command: String,
    text: &'a text::Text,
    options: &'a Options,
}

impl Pages<'_> {
    /// Writes what was measured until now.
    fn write(&self, results: &Results) -> Result<(), String> {
        let measured: Vec<_> = results.iter().filter(|(_, runs)| !runs.is_empty()).cloned().collect();
        let name = self.out.file_name().unwrap_or_default().to_string_lossy();
        let setting = Setting {
            command: &self.command,
            machine: &machine(),
            folder: &format!("{OUT}/{name}"),
            domains: &self.text.domains,
        };
        let pages = if self.options.purpose == Purpose::Sweep {
            vec![("sweep.md", sweep::page(&measured, &setting))]
        } else {
            let pair = pair(self.tool, &self.out, &measured, self.options.purpose)?;
            let page = document::page(&measured, &setting, pair.as_ref());
            vec![("experiment.md", page), ("experiment.svg", plot::retention(&measured)?)]
        };
        let mut folders = vec![self.out.clone()];
        if self.options.write {
            folders.push(crate::step::root().join("docs"));
        }
        for folder in folders {
            for (name, contents) in &pages {
                let path = folder.join(name);
                fs::write(&path, contents).map_err(|error| format!("{}: {error}", path.display()))?;
                println!("wrote {}", path.display());
            }
        }
        Ok(())
    }
}

/// Leaves EMO and the standard mixture behind, where both were trained.
fn pair(
    tool: &tool::Tool,
    out: &Path,
    results: &Results,
    purpose: Purpose,
) -> Result<Option<pair::Pair>, String> {
    let kept = results.iter().filter(|(arm, _)| ["standard", "emo"].contains(&arm.name));
    let runs: Vec<Run<'_>> = kept.map(|(arm, _)| Run::new(arm, 0, out, purpose)).collect();
    if runs.len() < 2 { Ok(None) } else { pair::export(tool, &runs, &out.join("pair")).map(Some) }
}

/// The command line that gives the same page.
fn command(options: &Options) -> String {
    let mut line = format!(
        "cargo xtask experiment {}",
        match options.purpose {
            Purpose::Whole => "modularity",
            Purpose::Quick => "modularity --quick",
            Purpose::Sweep => "sweep",
        }
    );
    if let Some(steps) = options.steps {
        line += &format!(" --steps {steps}");
    }
    for arm in &options.arms {
        line += &format!(" --arm {arm}");
    }
    if options.write {
        line += " --write";
    }
    line
}

/// Cores and kind of the processor, as far as the system tells.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    format!("{cores} cores ({})", model.unwrap_or("processor unknown"))
}

/// An empty folder of a test.
#[cfg(test)]
fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("emo-experiment-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder for temporary files");
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_on_the_page_writes_the_page() {
        let options = |write| Options {
            purpose: Purpose::Quick,
            corpus: PathBuf::new(),
            out: PathBuf::new(),
            arms: vec!["emo".into()],
            steps: Some(20),
            write,
        };
        let line = "cargo xtask experiment modularity --quick --steps 20 --arm emo";
        assert_eq!(command(&options(false)), line);
        assert_eq!(command(&options(true)), format!("{line} --write"));
    }
}

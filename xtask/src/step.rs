//! Running one command of a list, with its name, its time and a clear end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies inside the workspace").to_path_buf()
}

/// A `cargo` command in the workspace's root.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs `command`; the error names the step and the command line.
pub fn run(name: &str, command: &mut Command) -> Result<(), String> {
    let line = format!("{command:?}").replace('"', "");
    println!("\n== {name}: {line}");
    let start = Instant::now();
    let status = command.status().map_err(|error| format!("{name}: cannot start `{line}`: {error}"))?;
    if status.success() {
        println!("== {name}: done in {:.0} s", start.elapsed().as_secs_f64());
        Ok(())
    } else {
        Err(format!("FAILED {name}: `{line}` ended with {status}"))
    }
}

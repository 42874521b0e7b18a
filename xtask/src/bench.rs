//! `cargo xtask bench`: criterion's results as one table, each row as a share of what this machine can do.

mod bars;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use emo::cpu::isa::Isa;
use emo::cpu::peak;
use emo::cpu::threads::Threads;
use serde_json::Value;

use crate::step;

/// One benchmarked case: its floor (FLOPs and bytes, from tests/common/floors.rs) and criterion's median.
pub struct Row {
    pub name: String,
    pub seconds: f64,
    pub flops: f64,
    pub bytes: f64,
}

/// What the machine reaches with nothing but multiply-adds, of f32 and of pairs of bf16, and with nothing but copying.
struct Peaks {
    threads: usize,
    gflops: f64,
    bf16_gflops: f64,
    gigabytes: f64,
}

/// What activations and matrices are held in while the benches run.
#[derive(Clone, Copy, PartialEq)]
enum Storage {
    F32,
    Bf16,
}

/// Runs the benches and prints the table; without a filter it also becomes docs/benchmarks.md's machine-written part.
pub fn run(filter: Option<&str>, threads: Option<usize>) -> Result<(), String> {
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let folder = step::root().join("target/criterion");
    let (mut text, mut bars) = (String::new(), String::new());
    for storage in [Storage::F32, Storage::Bf16] {
        // Before and after: another process may be busy during one of them.
        let before = peaks(threads)?;
        let started = SystemTime::now();
        let mut arguments = vec!["bench", "--locked", "-p", "emo"];
        match (storage, filter) {
            (Storage::Bf16, None) => {
                arguments.extend(BF16_BENCHES.iter().flat_map(|bench| ["--bench", bench]))
            }
            _ => arguments.push("--benches"),
        }
        arguments.push("--");
        arguments.extend(filter);
        let mut command = step::cargo(&arguments);
        let device = if storage == Storage::F32 { "cpu" } else { "cpu-bf16" };
        command.env("EMO_BENCH_THREADS", threads.to_string()).env("EMO_BENCH_DEVICE", device);
        // Where criterion writes is said, so that it is where the rows are read, whatever the build folder.
        command.env("CRITERION_HOME", &folder);
        step::run("bench", &mut command)?;
        let peaks = before.max(&peaks(threads)?);
        let rows = rows(&folder, started)?;
        text.push_str(&table(&rows, &peaks, storage));
        text.push('\n');
        bars.push_str(&bars::table(&rows, &peaks, storage));
    }
    if !bars.is_empty() {
        text = format!("{BARS_HEAD}{bars}\n{text}");
    }
    println!("\n{text}");
    if filter.is_none() { write(text.trim_end()) } else { Ok(()) }
}

/// Above the rows of [`bars::table`].
const BARS_HEAD: &str = "What the project set out to reach; rates as shares of the peak measured in the same run.\n\n\
    | work | measured | bar | |\n|---|---:|---:|---|\n";

/// The benches of what bf16 makes different: the ops with products.
const BF16_BENCHES: [&str; 4] = ["attention", "experts", "grouped_gemm", "linear"];

impl Storage {
    /// Its name and its multiply-add peak.
    fn peak(self, peaks: &Peaks) -> (&'static str, f64) {
        match self {
            Self::F32 => ("f32", peaks.gflops),
            Self::Bf16 => ("bf16", peaks.bf16_gflops),
        }
    }
}

impl Peaks {
    fn max(&self, other: &Self) -> Self {
        Self {
            threads: self.threads,
            gflops: self.gflops.max(other.gflops),
            bf16_gflops: self.bf16_gflops.max(other.bf16_gflops),
            gigabytes: self.gigabytes.max(other.gigabytes),
        }
    }
}

/// The best of a few short measurements.
fn peaks(threads: usize) -> Result<Peaks, String> {
    let pool = Threads::new(threads).map_err(|error| error.to_string())?;
    let measure = || {
        let peak = peak::measure(&pool, Isa::detect(), Duration::from_millis(60));
        Peaks { threads, gflops: peak.gflops, bf16_gflops: peak.bf16_gflops, gigabytes: peak.copy_gb_s }
    };
    Ok((0..8).fold(measure(), |best, _| best.max(&measure())))
}

fn json(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Every case that criterion measured since `started`.
pub fn rows(folder: &Path, started: SystemTime) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for directory in measured(folder) {
        let estimates = directory.join("estimates.json");
        let fresh =
            fs::metadata(&estimates).and_then(|file| file.modified()).is_ok_and(|time| time >= started);
        if !fresh {
            continue;
        }
        let benchmark = json(&directory.join("benchmark.json"))?;
        let floor = &benchmark["throughput"]["ElementsAndBytes"];
        rows.push(Row {
            name: benchmark["full_id"].as_str().unwrap_or("?").to_owned(),
            seconds: json(&estimates)?["median"]["point_estimate"].as_f64().unwrap_or(f64::NAN) * 1e-9,
            flops: floor["elements"].as_f64().unwrap_or(0.0),
            bytes: floor["bytes"].as_f64().unwrap_or(0.0),
        });
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    if rows.is_empty() { Err("no bench ran; is the filter right?".into()) } else { Ok(rows) }
}

/// The `new` folders below criterion's folder.
fn measured(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        if path.file_name().is_some_and(|name| name == "new") {
            found.push(path);
        } else {
            found.extend(measured(&path));
        }
    }
    found
}

fn table(rows: &[Row], peaks: &Peaks, storage: Storage) -> String {
    let (name, peak) = storage.peak(peaks);
    let mut out = format!(
        "Activations and matrices in {name}. Measured peaks in the same run, {} threads: {peak:.0} GFLOP/s {name} \
         multiply-add, {:.1} GB/s copy.\n\n\
         | case | time | GFLOP/s | of peak | GB/s | of copy |\n|---|---:|---:|---:|---:|---:|\n",
        peaks.threads, peaks.gigabytes
    );
    for row in rows {
        let (gflops, gigabytes) = (row.flops / row.seconds * 1e-9, row.bytes / row.seconds * 1e-9);
        let _ = writeln!(
            out,
            "| {} | {} | {gflops:.1} | {:.0} % | {gigabytes:.1} | {:.0} % |",
            row.name,
            duration(row.seconds),
            100.0 * gflops / peak,
            100.0 * gigabytes / peaks.gigabytes,
        );
    }
    out
}

pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

fn write(table: &str) -> Result<(), String> {
    let header = format!("Command: `cargo xtask bench`; machine: {}; commit: {}.", machine(), commit());
    write_part("cargo xtask bench", &format!("{header}\n\n{table}\n"))
}

/// Replaces the part of docs/benchmarks.md between the markers of this command.
pub fn write_part(command: &str, part: &str) -> Result<(), String> {
    let (begin_mark, end_mark) = (format!("<!-- begin: {command} -->"), format!("<!-- end: {command} -->"));
    let path = step::root().join("docs/benchmarks.md");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (Some(begin), Some(end)) = (text.find(&begin_mark), text.find(&end_mark)) else {
        return Err(format!("{}: the markers `{begin_mark}` and `{end_mark}` are missing", path.display()));
    };
    let new = format!("{}{begin_mark}\n{part}{}", &text[..begin], &text[end..]);
    fs::write(&path, new).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn machine() -> String {
    let model = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            text.lines().find(|line| line.starts_with("model name"))?.split(": ").nth(1).map(str::to_owned)
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("{model}, {} cores", std::thread::available_parallelism().map_or(1, usize::from))
}

pub fn commit() -> String {
    let output =
        Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(step::root()).output();
    output
        .ok()
        .filter(|o| o.status.success())
        .map_or("unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().into())
}

//! `cargo xtask gpu`: what only a machine with a GPU can say. Tests on the device, compute-sanitizer, and measurements.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::time::SystemTime;

use serde_json::Value;

use crate::bench::{self, Row};
use crate::gates::roofline::{RATES, Rates};
use crate::{cuda, step, toolchain};

/// The storages that are measured, and whether their products are bf16.
const STORAGES: [(&str, bool); 2] = [("cuda-bf16", true), ("cuda-f32", false)];

/// The card as its driver describes it.
#[derive(Debug, PartialEq)]
struct Card {
    name: String,
    /// Driver, clocks now and at most, power limit: what a measurement depends on.
    state: String,
}

/// Everything, in order.
pub fn run() -> Result<(), String> {
    let card = card()?;
    println!("{}: {}", card.name, card.state);
    if Command::new("nvcc").arg("--version").output().is_err() {
        toolchain::run()?;
    }
    cuda::on_device()?;
    let torch = torch()?;
    let mut part = format!(
        "Command: `cargo xtask gpu`; GPU: {}, {}; commit: {}. A sample ends with a wait for the device.\n",
        card.name,
        card.state,
        bench::commit()
    );
    for (device, bf16) in STORAGES {
        let rows = measured(device)?;
        let theirs = torch.get(if bf16 { "bf16" } else { "f32" });
        let _ = write!(part, "\n{}", table(device, &rows, rates(&card.name, bf16), theirs));
    }
    println!("\n{part}");
    bench::write_part("cargo xtask gpu", &part)
}

fn card() -> Result<Card, String> {
    const ASK: &str = "--query-gpu=name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit";
    let output = Command::new("nvidia-smi").args([ASK, "--format=csv,noheader", "--id=0"]).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
    text.as_deref().and_then(described).ok_or_else(|| {
        "no GPU: `nvidia-smi` names none. `cargo xtask test` runs the same tests on the emulated device"
            .into()
    })
}

/// `NVIDIA H100 80GB HBM3, 580.65.06, 1980 MHz, 1980 MHz, 2619 MHz, 700.00 W`
fn described(line: &str) -> Option<Card> {
    let mut fields = line.lines().next()?.split(", ");
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let fields: Vec<&str> = fields.collect();
    let [driver, clock, most, memory, power] = fields[..] else { return None };
    let state = format!("driver {driver}, {clock} of {most}, memory {memory}, {power}");
    Some(Card { name, state })
}

/// Memory and product rates by the data sheet, in 10^12 a second, of a card that is known.
fn rates(name: &str, bf16: bool) -> Option<(f64, f64)> {
    let known: Option<&Rates> = RATES.iter().find(|rates| name.contains(rates.name));
    known.map(|rates| (rates.memory, if bf16 { rates.bf16 } else { rates.tf32 / 3.0 }))
}

fn measured(device: &str) -> Result<Vec<Row>, String> {
    let started = SystemTime::now();
    let folder = step::root().join("target/criterion").join(device);
    let mut command = step::cargo(&["bench", "--locked", "-p", "emo", "--features", "cuda", "--benches"]);
    step::run("bench", command.env("EMO_BENCH_DEVICE", device).env("CRITERION_HOME", &folder))?;
    bench::rows(&folder, started)
}

/// Seconds by storage and case, where PyTorch with CUDA is installed. Its dense products are cuBLAS.
fn torch() -> Result<BTreeMap<String, BTreeMap<String, f64>>, String> {
    let python = std::env::var("EMO_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import torch; assert torch.cuda.is_available()"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!(
            "\n== no PyTorch with CUDA in {python} (EMO_PYTHON chooses another): nothing to compare with"
        );
        return Ok(BTreeMap::new());
    }
    let output = Command::new(&python).arg("scripts/compare_gpu.py").current_dir(step::root()).output();
    let output = output.map_err(|error| format!("{python}: {error}"))?;
    match output.status.success() {
        true => Ok(compared(&String::from_utf8_lossy(&output.stdout))),
        false => Err(format!("FAILED scripts/compare_gpu.py: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// Lines such as `{"storage": "bf16", "case": "linear_forward/512x512x512", "seconds": 1e-5}`.
fn compared(text: &str) -> BTreeMap<String, BTreeMap<String, f64>> {
    let mut found: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if let (Some(storage), Some(case), Some(seconds)) =
            (line["storage"].as_str(), line["case"].as_str(), line["seconds"].as_f64())
        {
            found.entry(storage.into()).or_default().insert(case.into(), seconds);
        }
    }
    found
}

/// Times, rates, their share of the data sheet's, and PyTorch's time over ours. Bytes of the floors are those of f32
/// storage, so that rates of memory are given for it only.
fn table(
    device: &str,
    rows: &[Row],
    rates: Option<(f64, f64)>,
    torch: Option<&BTreeMap<String, f64>>,
) -> String {
    let share = |value: f64, most: Option<f64>| {
        most.map_or("-".into(), |most| format!("{:.0} %", 100.0 * value / most))
    };
    let mut out = format!(
        "| {device} | time | TFLOP/s | of the data sheet | GB/s | of the data sheet | PyTorch's time / ours |\n\
         |---|---:|---:|---:|---:|---:|---:|\n"
    );
    for row in rows {
        let tflops = row.flops / row.seconds * 1e-12;
        let memory = match device {
            "cuda-f32" => {
                let rate = row.bytes / row.seconds * 1e-12;
                format!("{:.0} | {}", 1e3 * rate, share(rate, rates.map(|rates| rates.0)))
            }
            _ => "- | -".into(),
        };
        let theirs = torch.and_then(|torch| torch.get(&row.name));
        let theirs = theirs.map_or("-".into(), |seconds| format!("{:.2}", seconds / row.seconds));
        let of = share(tflops, rates.map(|rates| rates.1));
        let time = bench::duration(row.seconds);
        let _ = writeln!(out, "| {} | {time} | {tflops:.2} | {of} | {memory} | {theirs} |", row.name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_read_from_its_drivers_line() {
        let line = "NVIDIA H100 80GB HBM3, 580.65.06, 1755 MHz, 1980 MHz, 2619 MHz, 700.00 W\n";
        let card = described(line).unwrap();
        assert_eq!(card.name, "NVIDIA H100 80GB HBM3");
        assert_eq!(card.state, "driver 580.65.06, 1755 MHz of 1980 MHz, memory 2619 MHz, 700.00 W");
        assert_eq!(described(""), None);
        assert_eq!(described("No devices were found"), None);
        assert_eq!(rates(&card.name, true), Some((3.35, 989.4)));
        assert_eq!(rates("Radeon", true), None);
    }

    #[test]
    fn rows_carry_rates_shares_and_the_comparison() {
        let row = Row { name: "linear_forward/1x1x1".into(), seconds: 1e-3, flops: 1e11, bytes: 2e9 };
        let theirs = compared(
            "noise\n{\"storage\": \"f32\", \"case\": \"linear_forward/1x1x1\", \"seconds\": 5e-4}\n",
        );
        let table = table("cuda-f32", &[row], Some((4.0, 200.0)), theirs.get("f32"));
        let last = table.lines().last().unwrap();
        assert_eq!(last, "| linear_forward/1x1x1 | 1.00 ms | 100.00 | 50 % | 2000 | 50 % | 0.50 |");
    }
}

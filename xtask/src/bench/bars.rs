//! What the project promised for the CPU, against what was measured.
//!
//! Rates were promised on a machine of 236 GFLOP/s in f32 and 469 in bf16: here they are shares of the peak, so that another
//! machine can be judged. Times are as promised.

use std::fmt::Write as _;

use super::{Peaks, Row, Storage, duration};

const DENSE: &str = "linear_forward/512x512x512";
const ROUTER: &str = "router_forward/16384x128 top-8";
const COMBINE: &str = "combine_forward/131072 rows of 512, 128 experts";
/// The layer of the promises.
const WIDE: &str = "4096 tokens, d 512, h 256, 64 experts top-8";

/// One promise about cases of one storage.
enum Promise {
    /// At least this share of the multiply-add peak.
    Share(String, f64),
    /// At most so many seconds.
    Seconds(&'static str, f64),
    /// The first takes at most so many times what the second does.
    Times(String, String, f64),
}

fn promises(storage: Storage) -> Vec<Promise> {
    let loads = ["balanced", "skewed", "random"];
    let case = |op: &str, load: &str| format!("{op}/{WIDE}, {load}");
    let (dense, grouped, layer) = match storage {
        Storage::F32 => (205.0 / 236.0, 200.0 / 236.0, 190.0 / 236.0),
        Storage::Bf16 => (420.0 / 469.0, 375.0 / 469.0, 320.0 / 469.0),
    };
    let mut all = vec![Promise::Share(DENSE.into(), dense)];
    all.extend(loads.map(|load| Promise::Share(case("grouped_gemm_forward", load), grouped)));
    all.push(Promise::Share(case("moe_layer", "balanced"), layer));
    all.push(Promise::Times(case("moe_layer", "skewed"), case("moe_layer", "balanced"), 1.15));
    if storage == Storage::F32 {
        all.extend([Promise::Seconds(ROUTER, 1.2e-3), Promise::Seconds(COMBINE, 12e-3)]);
    }
    all
}

/// Rows `| case | measured | bar | |` of the promises whose cases were measured.
pub(super) fn table(rows: &[Row], peaks: &Peaks, storage: Storage) -> String {
    let (name, peak) = storage.peak(peaks);
    let find = |case: &str| rows.iter().find(|row| row.name == case);
    let mut out = String::new();
    let mut line = |work: &str, measured: String, bar: String, reached: bool| {
        let verdict = if reached { "reached" } else { "**missed**" };
        let _ = writeln!(out, "| {work}, {name} | {measured} | {bar} | {verdict} |");
    };
    for promise in promises(storage) {
        match promise {
            Promise::Share(case, least) => {
                let Some(row) = find(&case) else { continue };
                let rate = row.flops / row.seconds * 1e-9;
                let measured = format!("{rate:.0} GFLOP/s, {:.1} % of peak", 100.0 * rate / peak);
                line(&case, measured, format!("{:.1} %", 100.0 * least), rate / peak >= least);
            }
            Promise::Seconds(case, most) => {
                let Some(row) = find(case) else { continue };
                line(case, duration(row.seconds), duration(most), row.seconds <= most);
            }
            Promise::Times(case, other, most) => {
                let (Some(row), Some(other_row)) = (find(&case), find(&other)) else { continue };
                let times = row.seconds / other_row.seconds;
                let work = format!("{case} : {}", other.rsplit(", ").next().unwrap_or(&other));
                line(&work, format!("{times:.2}"), format!("{most}"), times <= most);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_judged_by_share_time_and_ratio() {
        let row = |name: &str, seconds, flops| Row { name: name.into(), seconds, flops, bytes: 0.0 };
        let peaks = Peaks { threads: 2, gflops: 500.0, bf16_gflops: 1000.0, gigabytes: 50.0 };
        let rows = [
            row(DENSE, 1.0, 450e9),
            row(ROUTER, 1.3e-3, 0.0),
            row(&format!("moe_layer/{WIDE}, balanced"), 1.0, 400e9),
            row(&format!("moe_layer/{WIDE}, skewed"), 1.2, 400e9),
        ];
        let table = table(&rows, &peaks, Storage::F32);
        assert_eq!(
            table.lines().map(|line| line.rsplit(" | ").next().unwrap()).collect::<Vec<_>>(),
            ["reached |", "**missed** |", "**missed** |", "**missed** |"],
            "{table}"
        );
        assert!(table.contains("450 GFLOP/s, 90.0 % of peak | 86.9 %"), "{table}");
        assert!(table.contains("skewed : balanced, f32 | 1.20 | 1.15"), "{table}");
    }
}

//! `smooth_*`: 1-D convolution over the tokens of documents.

use super::abs;
use crate::common::backend::KernelBackend;
use crate::common::case::{Case, Outcome};
use emo::reference::smoothing::{self, Filter};

/// Document offsets over all rows, from each row's exclusive ends; without any, a row is one document.
pub fn packed_offsets(ends: Option<Vec<Vec<u32>>>, rows: usize, length: usize) -> Outcome<Vec<u32>> {
    let ends = ends.unwrap_or_else(|| vec![vec![length as u32]; rows]);
    if ends.len() != rows || ends.iter().any(|row| row.last() != Some(&(length as u32))) {
        return Err(format!("exclusive_ends {ends:?} do not cover {rows} rows of {length} tokens"));
    }
    let shift =
        |(row, ends): (usize, &Vec<u32>)| ends.iter().map(|e| (row * length) as u32 + e).collect::<Vec<_>>();
    Ok(std::iter::once(0).chain(ends.iter().enumerate().flat_map(shift)).collect())
}

/// Copies the `[rows, columns]` matrix transposed.
fn transposed(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| x[r * columns + c])).collect()
}

pub fn run(backend: &dyn KernelBackend, case: &Case) -> Outcome {
    let [rows, length, channels] = case.shape("in_x")?;
    case.sizes(&[("B", rows), ("S", length), ("C", channels)])?;
    let offsets = packed_offsets(case.counts_by_row("exclusive_ends")?, rows, length)?;

    // One row of taps for all channels, or depthwise: [C, W] or conv1d's [C, 1, W], else [W, C].
    let kernel = case.array("in_kernel")?;
    let (width, tap_major) = match kernel.shape[..] {
        [width] => (width, false),
        [c, width] | [c, 1, width] if c == channels => (width, false),
        [width, c] if c == channels => (width, true),
        _ => return Err(format!("in_kernel has shape {:?} for {channels} channels", kernel.shape)),
    };
    let mut taps = kernel.values.clone();
    if let Some(box_taps) = case.param("box_taps") {
        if taps.iter().any(|tap| (tap - 1.0 / width as f64).abs() > 1e-7) {
            return Err(format!("box_taps = {box_taps}, but in_kernel holds {taps:?}"));
        }
        taps.fill(1.0 / width as f64);
    }
    if tap_major {
        taps = transposed(&taps, width, channels);
    }
    let centred = width.saturating_sub(1) / 2;
    let ahead = case.optional_count(&["ahead", "offset"])?.unwrap_or(centred);
    let filter = Filter { taps: &taps, width, ahead, renormalise: false };
    let renormalised = Filter { renormalise: true, ..filter };

    let (x, dy) = (case.values("in_x")?, case.values("in_dy")?);
    let tolerance = backend.tolerance();
    let taps_abs = abs(&taps);
    let filter_abs = Filter { taps: &taps_abs, ..filter };
    let terms = smoothing::forward(&filter_abs, &abs(x), channels, &offsets);
    case.check_terms(
        &tolerance,
        "out_y",
        &backend.smoothing_forward(&filter, x, channels, &offsets),
        &terms,
    )?;
    if case.has("out_y_renorm") {
        let y = backend.smoothing_forward(&renormalised, x, channels, &offsets);
        case.check_terms(&tolerance, "out_y_renorm", &y, &terms)?;
    }

    let (dx, dtaps) = backend.smoothing_backward(&filter, x, dy, channels, &offsets);
    let terms = smoothing::backward(&filter_abs, &abs(x), &abs(dy), channels, &offsets);
    case.check_terms(&tolerance, "out_grad_x", &dx, &terms.0)?;
    let layout = |taps: Vec<f64>| if tap_major { transposed(&taps, channels, width) } else { taps };
    case.check_terms(&tolerance, "out_grad_kernel", &layout(dtaps), &layout(terms.1))
}

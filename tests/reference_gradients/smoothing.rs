//! Smoothing inside documents: shared and depthwise taps, causal and centred, plain and renormalised.

use crate::{check, dot, noise};
use emo::reference::smoothing::{Filter, backward, forward};

const OFFSETS: [u32; 6] = [0, 1, 6, 6, 8, 11];

#[test]
fn every_filter() {
    let channels = 3;
    let (x, dy) = (noise(11 * channels, 1), noise(11 * channels, 2));
    for width in [1, 2, 3, 5, 8] {
        for ahead in [0, (width - 1) / 2, width - 1] {
            for rows in [1, channels] {
                for renormalise in [false, true] {
                    // Positive taps keep the renormalising divisor away from 0.
                    let taps: Vec<f64> = noise(rows * width, 3).iter().map(|tap| tap + 1.5).collect();
                    let filter = Filter { taps: &taps, width, ahead, renormalise };
                    let (dx, dtaps) = backward(&filter, &x, &dy, channels, &OFFSETS);
                    let what = format!("width {width} ahead {ahead} rows {rows} renormalise {renormalise}");
                    check(&format!("{what}: dx"), &x, &dx, |x| {
                        dot(&dy, &forward(&filter, x, channels, &OFFSETS))
                    });
                    check(&format!("{what}: dtaps"), &taps, &dtaps, |taps| {
                        dot(&dy, &forward(&Filter { taps, ..filter }, &x, channels, &OFFSETS))
                    });
                }
            }
        }
    }
}

#[test]
fn causal_taps_see_no_future_and_no_other_document() {
    let x = noise(11, 1);
    let filter = Filter { taps: &[0.25, 0.25, 0.5], width: 3, ahead: 0, renormalise: true };
    let y = forward(&filter, &x, 1, &OFFSETS);
    for t in 0..11 {
        let mut changed = x.clone();
        changed[t] += 1.0;
        let start = OFFSETS.iter().rev().find(|o| **o as usize <= t).copied().unwrap_or(0);
        let end = OFFSETS.iter().find(|o| **o as usize > t).copied().unwrap_or(11) as usize;
        for (u, (a, b)) in forward(&filter, &changed, 1, &OFFSETS).iter().zip(&y).enumerate() {
            let reached = (t..(t + 3).min(end)).contains(&u);
            assert_eq!(a != b, reached, "token {t} of the document at {start} and output {u}");
        }
    }
}

#[test]
fn taps_that_cancel_give_zero() {
    let filter = Filter { taps: &[1.0, -1.0], width: 2, ahead: 0, renormalise: true };
    assert_eq!(forward(&filter, &[3.0, 5.0], 1, &[0, 2]), [3.0, 0.0]);
    assert_eq!(backward(&filter, &[3.0, 5.0], &[1.0, 1.0], 1, &[0, 2]).0, [1.0, 0.0]);
}

//! Sequence smoothing: a 1-D convolution (cross-correlation) over the tokens of each document.
//!
//! With `x[T, C]`, taps `k[W]` (or depthwise, `k[C, W]`: row `c` for channel `c`) and document `[s, e)`:
//! ```text
//! y[t, c] = Σ_j k[j] x[t + j - (W - 1) + a, c]     over the j whose token lies in [s, e)
//! ```
//! The last tap looks `a` = [`Filter::ahead`] tokens ahead: 0 is causal, `(W - 1) / 2` is centred and equals
//! `conv1d(padding = (W - 1) / 2)` run on each document alone, zero padded. With [`Filter::renormalise`] the sum is divided
//! by the sum of the taps that fell inside the document (0 there gives 0). Documents never see each other.
//!
//! Source: our own extension of the router; the arithmetic is PyTorch's `conv1d`.

/// A filter over tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filter<'a> {
    /// Taps `[W]`, the same for every channel, or `[C, W]`, one row a channel.
    pub taps: &'a [f64],
    /// `W`, the number of taps.
    pub width: usize,
    /// How many tokens ahead the last tap looks. Anything above 0 lets a token see its future.
    pub ahead: usize,
    /// Divide by the sum of the taps that fell inside the document.
    pub renormalise: bool,
}

impl Filter<'_> {
    /// Where the taps of channel `c` start in [`Filter::taps`].
    fn row(&self, c: usize) -> usize {
        if self.taps.len() == self.width { 0 } else { c * self.width }
    }

    /// The `(tap, token)` pairs that reach token `t` of the document `[start, end)`.
    fn reach(&self, t: usize, start: usize, end: usize) -> Vec<(usize, usize)> {
        let token = |j: usize| (t + j + self.ahead + 1).checked_sub(self.width);
        (0..self.width)
            .filter_map(|j| token(j).filter(|s| (start..end).contains(s)).map(|s| (j, s)))
            .collect()
    }

    /// What divides channel `c` of a token reached by these pairs; `None` where that is 0.
    fn divisor(&self, c: usize, reach: &[(usize, usize)]) -> Option<f64> {
        match self.renormalise {
            false => Some(1.0),
            true => {
                Some(reach.iter().map(|(j, _)| self.taps[self.row(c) + j]).sum()).filter(|sum| *sum != 0.0)
            }
        }
    }
}

/// `y[T, C]` from `x[T, C]` and the documents' `offsets[n + 1]`.
pub fn forward(filter: &Filter, x: &[f64], channels: usize, offsets: &[u32]) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for document in offsets.windows(2) {
        let (start, end) = (document[0] as usize, document[1] as usize);
        for t in start..end {
            let reach = filter.reach(t, start, end);
            for c in 0..channels {
                let Some(divisor) = filter.divisor(c, &reach) else { continue };
                let sum: f64 =
                    reach.iter().map(|(j, s)| filter.taps[filter.row(c) + j] * x[s * channels + c]).sum();
                y[t * channels + c] = sum / divisor;
            }
        }
    }
    y
}

/// `(dx[T, C], dtaps)`, `dtaps` shaped as the taps. With `D` the divisor (1 without renormalisation):
/// `dx[s] += dy[t] k[j] / D` and `dk[j] += dy[t] x[s] / D`, less `dy[t] y[t] / D` where `D` is made of the taps.
pub fn backward(
    filter: &Filter,
    x: &[f64],
    dy: &[f64],
    channels: usize,
    offsets: &[u32],
) -> (Vec<f64>, Vec<f64>) {
    let y = forward(filter, x, channels, offsets);
    let (mut dx, mut dtaps) = (vec![0.0; x.len()], vec![0.0; filter.taps.len()]);
    for document in offsets.windows(2) {
        let (start, end) = (document[0] as usize, document[1] as usize);
        for t in start..end {
            let reach = filter.reach(t, start, end);
            for c in 0..channels {
                let Some(divisor) = filter.divisor(c, &reach) else { continue };
                let at = t * channels + c;
                for (j, s) in &reach {
                    let tap = filter.row(c) + j;
                    dx[s * channels + c] += dy[at] * filter.taps[tap] / divisor;
                    let through_divisor = if filter.renormalise { y[at] } else { 0.0 };
                    dtaps[tap] += dy[at] * (x[s * channels + c] - through_divisor) / divisor;
                }
            }
        }
    }
    (dx, dtaps)
}

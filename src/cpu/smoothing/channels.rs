//! A block of channels at a time, in arrays whose loops the compiler turns into vectors: what taps that differ from channel
//! to channel need, and the taps' gradient. The loops are plain ones: closures are not always compiled for the instruction
//! set.

use std::ops::Range;

use super::{Filter, TAPS};
use crate::cpu::simd::{Kernel, Simd};

/// Channels of a block.
pub(super) const CHANNELS: usize = 16;

/// Values of a block of channels; zeros where it ends early.
type Block<T> = [T; CHANNELS];

/// Up to [`CHANNELS`] elements of a row.
#[inline(always)]
fn load(x: &[f32]) -> Block<f32> {
    match x.first_chunk() {
        Some(full) => *full,
        None => {
            let mut padded = [0.0; CHANNELS];
            padded[..x.len()].copy_from_slice(x);
            padded
        }
    }
}

/// The taps of a block of channels.
struct Taps<'a> {
    filter: Filter<'a>,
    channels: Range<usize>,
    taps: [Block<f32>; TAPS],
    /// 1 over the sum of all taps, see [`Filter::inverse_divisor`].
    inverse_of_all: Block<f32>,
}

impl<'a> Taps<'a> {
    #[inline(always)]
    fn new(filter: Filter<'a>, channels: Range<usize>) -> Self {
        let mut taps = [[0.0; CHANNELS]; TAPS];
        for (j, taps) in taps.iter_mut().enumerate().take(filter.shape.width) {
            for (channel, tap) in channels.clone().zip(taps) {
                *tap = filter.tap(channel, j);
            }
        }
        let mut block = Self { filter, channels, taps, inverse_of_all: [0.0; CHANNELS] };
        block.inverse_of_all = block.inverse_of(|_| true);
        block
    }

    /// 1 over the sum of the taps that are in reach, 0 where that is 0; 1 without renormalisation.
    #[inline(always)]
    fn inverse_of(&self, reaches: impl Fn(usize) -> bool) -> Block<f32> {
        if !self.filter.shape.renormalise {
            return [1.0; CHANNELS];
        }
        let mut sums = [0.0f64; CHANNELS];
        for j in 0..self.filter.shape.width {
            if !reaches(j) {
                continue;
            }
            for i in 0..CHANNELS {
                sums[i] += f64::from(self.taps[j][i]);
            }
        }
        let mut inverse = [0.0; CHANNELS];
        for i in 0..CHANNELS {
            inverse[i] = if sums[i] == 0.0 { 0.0 } else { (1.0 / sums[i]) as f32 };
        }
        inverse
    }

    /// What `token`'s outputs are multiplied with.
    #[inline(always)]
    fn inverse(&self, token: usize, document: &Range<usize>) -> Block<f32> {
        let source = |j| self.filter.source(token, j, document);
        // What the first and the last tap reach lies around all the others.
        if source(0).is_some() && source(self.filter.shape.width - 1).is_some() {
            return self.inverse_of_all;
        }
        self.inverse_of(|j| source(j).is_some())
    }

    /// The block's part of a row.
    #[inline(always)]
    fn row(&self, x: &[f32], token: usize) -> Block<f32> {
        let at = token * self.filter.shape.channels;
        load(&x[at + self.channels.start..at + self.channels.end])
    }
}

/// Blocks of `channels`.
fn blocks(channels: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = channels.end;
    channels.step_by(CHANNELS).map(move |start| start..end.min(start + CHANNELS))
}

/// Rows of the convolution or of its transpose with taps of each channel's own.
pub(super) struct Rows<'a> {
    pub filter: Filter<'a>,
    pub rows: &'a [f32],
    /// The first token of `out`.
    pub first: usize,
    /// Whether the divisor belongs to the row that is read (the transposed convolution) or to the row that is written.
    pub transposed: bool,
    pub out: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { filter, rows, first, transposed, out } = self;
        let width = filter.shape.channels;
        for channels in blocks(0..width) {
            let block = Taps::new(filter, channels.clone());
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let token = first + i;
                let document = filter.document(token);
                let own = block.inverse(token, &document);
                let mut sum = [0.0; CHANNELS];
                for j in 0..filter.shape.width {
                    let other = if transposed {
                        filter.reader(token, j, &document)
                    } else {
                        filter.source(token, j, &document)
                    };
                    let Some(other) = other else { continue };
                    let inverse = if transposed { block.inverse(other, &document) } else { own };
                    let x = block.row(rows, other);
                    for i in 0..CHANNELS {
                        sum[i] += block.taps[j][i] * inverse[i] * x[i];
                    }
                }
                let out = &mut out[channels.clone()];
                out.copy_from_slice(&sum[..out.len()]);
            }
        }
    }
}

/// Gradient of the taps over some tokens and channels, in f64: `sum dy_t (x_s - y_t) / D_t`, where `D_t` is the divisor and
/// `y_t`, the path through the divisor, counts only where that is made of the taps. Lane `i` sums the channels `i`,
/// `i + CHANNELS`, ...
pub(super) struct TapSums<'a> {
    pub filter: Filter<'a>,
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub tokens: Range<usize>,
    pub channels: Range<usize>,
}

impl Kernel for TapSums<'_> {
    type Output = [Block<f64>; TAPS];
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Self::Output {
        let Self { filter, x, dy, tokens, channels } = self;
        let mut sums = [[0.0; CHANNELS]; TAPS];
        for channels in blocks(channels) {
            let block = Taps::new(filter, channels);
            for token in tokens.clone() {
                let document = filter.document(token);
                let source = |j| filter.source(token, j, &document);
                let (mut gradient, mut y) = (block.row(dy, token), [0.0; CHANNELS]);
                if filter.shape.renormalise {
                    let inverse = block.inverse(token, &document);
                    for j in 0..filter.shape.width {
                        let Some(source) = source(j) else { continue };
                        let x = block.row(x, source);
                        for i in 0..CHANNELS {
                            y[i] += block.taps[j][i] * x[i];
                        }
                    }
                    for i in 0..CHANNELS {
                        y[i] *= inverse[i];
                        gradient[i] *= inverse[i];
                    }
                }
                for j in 0..filter.shape.width {
                    let Some(source) = source(j) else { continue };
                    let x = block.row(x, source);
                    for i in 0..CHANNELS {
                        sums[j][i] += f64::from(gradient[i]) * f64::from(x[i] - y[i]);
                    }
                }
            }
        }
        sums
    }
}

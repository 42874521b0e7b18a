//! Sequence smoothing of router logits.

mod channels;

use std::ops::Range;

use crate::ops::pool::Keep;
use crate::ops::segments::Segments;
use crate::ops::smoothing::{Backward, Forward, InFront, Pool, Router, Shape};
use crate::{Result, host, ops};

use super::simd::{Kernel, Simd, Storage};
use super::{Cpu, pool, router};
use channels::{CHANNELS, Rows, TapSums};

/// Tokens of a task of the forward pass and of the input's gradient.
const TOKENS: usize = 64;
/// The gradient of shared taps is summed in at most this many blocks of tokens, whatever the number of threads.
const BLOCKS: usize = 64;
/// Most taps.
const TAPS: usize = 9;

/// The filter with the documents it runs in.
#[derive(Clone, Copy)]
struct Filter<'a> {
    shape: Shape,
    taps: &'a [f32],
    offsets: &'a [u32],
    of_token: &'a [u32],
}

impl Filter<'_> {
    /// The tokens of the document that `token` lies in.
    #[inline(always)]
    fn document(&self, token: usize) -> Range<usize> {
        let segment = self.of_token[token] as usize;
        self.offsets[segment] as usize..self.offsets[segment + 1] as usize
    }

    /// Tap `j` of `channel`.
    #[inline(always)]
    fn tap(&self, channel: usize, j: usize) -> f32 {
        if self.shape.depthwise { self.taps[channel * self.shape.width + j] } else { self.taps[j] }
    }

    /// The token that tap `j` of `token` reads, if it lies in the document.
    #[inline(always)]
    fn source(&self, token: usize, j: usize, document: &Range<usize>) -> Option<usize> {
        let source = (token + j + self.shape.ahead + 1).checked_sub(self.shape.width)?;
        document.contains(&source).then_some(source)
    }

    /// The token whose tap `j` reads `source`, if it lies in the document.
    #[inline(always)]
    fn reader(&self, source: usize, j: usize, document: &Range<usize>) -> Option<usize> {
        let token = (source + self.shape.width).checked_sub(j + self.shape.ahead + 1)?;
        document.contains(&token).then_some(token)
    }

    /// 1 over what divides `token` where all channels share the taps: 1 without renormalisation, 0 where the taps in reach sum
    /// to 0.
    #[inline(always)]
    fn inverse_divisor(&self, token: usize, document: &Range<usize>) -> f32 {
        if !self.shape.renormalise {
            return 1.0;
        }
        let mut sum = 0.0;
        for j in 0..self.shape.width {
            if self.source(token, j, document).is_some() {
                sum += f64::from(self.tap(0, j));
            }
        }
        if sum == 0.0 { 0.0 } else { (1.0 / sum) as f32 }
    }
}

/// One row of the convolution or of its transpose with taps that all channels share: a weighted sum of the rows that they
/// reach.
struct WeightedRows<'a> {
    filter: Filter<'a>,
    rows: &'a [f32],
    token: usize,
    /// Whether the divisor belongs to the row that is read (the transposed convolution) or to the row that is written.
    transposed: bool,
    out: &'a mut [f32],
}

impl Kernel for WeightedRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { filter, rows, token, transposed, out } = self;
        let (channels, width) = (filter.shape.channels, filter.shape.width);
        let document = filter.document(token);
        out.fill(0.0);
        for j in 0..width {
            let other = if transposed {
                filter.reader(token, j, &document)
            } else {
                filter.source(token, j, &document)
            };
            let Some(other) = other else { continue };
            let row = &rows[other * channels..][..channels];
            let owner = if transposed { other } else { token };
            let factor = filter.tap(0, j) * filter.inverse_divisor(owner, &document);
            super::vector::add_scaled(s, out, factor, row);
        }
    }
}

fn convolve<T: Storage>(cpu: &Cpu<T>, filter: Filter<'_>, rows: &[f32], transposed: bool, out: &mut [f32]) {
    let channels = filter.shape.channels;
    cpu.threads.for_each_chunk(out, TOKENS * channels, |block, out, _| {
        if filter.shape.depthwise {
            return cpu.isa.dispatch(Rows { filter, rows, first: block * TOKENS, transposed, out });
        }
        for (i, out) in out.chunks_exact_mut(channels).enumerate() {
            cpu.isa.dispatch(WeightedRows { filter, rows, token: block * TOKENS + i, transposed, out });
        }
    });
}

/// The two ops one after the other: the logits lie in a cache here.
pub(super) fn before_router<T: Storage>(cpu: &Cpu<T>, args: Router<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let logits = in_front(cpu, args.smoothing, args.router.logits)?;
    router::forward(cpu, ops::router::Forward { logits, ..args.router })
}

/// As [`before_router`].
pub(super) fn before_pool<T: Storage>(cpu: &Cpu<T>, args: Pool<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let logits = in_front(cpu, args.smoothing, args.pool.logits)?;
    pool::keep(cpu, Keep { logits, ..args.pool })
}

fn in_front<'a, T: Storage>(
    cpu: &Cpu<T>,
    smoothing: InFront<'a, Cpu<T>>,
    logits: &'a [f32],
) -> Result<&'a [f32]> {
    let InFront { shape, segments: Segments { offsets, of_token }, taps, smoothed } = smoothing;
    // Made anew: `segments` lives as long as `smoothed`, which is lent out for the call only.
    let segments = Segments { offsets, of_token };
    forward(cpu, Forward { shape, segments, x: logits, taps, y: &mut *smoothed })?;
    Ok(smoothed)
}

pub(super) fn forward<T: Storage>(cpu: &Cpu<T>, args: Forward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let shape = args.shape;
    host::segments("smoothing_forward", &args.segments, shape.tokens)?;
    if shape.tokens * shape.channels == 0 {
        return Ok(());
    }
    let (offsets, of_token) = (args.segments.offsets, args.segments.of_token);
    convolve(cpu, Filter { shape, taps: args.taps, offsets, of_token }, args.x, false, args.y);
    Ok(())
}

pub(super) fn backward<T: Storage>(cpu: &Cpu<T>, args: Backward<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let shape = args.shape;
    host::segments("smoothing_backward", &args.segments, shape.tokens)?;
    if shape.tokens * shape.channels == 0 {
        return Ok(());
    }
    let (offsets, of_token) = (args.segments.offsets, args.segments.of_token);
    let filter = Filter { shape, taps: args.taps, offsets, of_token };
    convolve(cpu, filter, args.dy, true, args.dx);
    let Some(dtaps) = args.dtaps else { return Ok(()) };
    let (x, dy) = (args.x, args.dy);
    if shape.depthwise {
        // A task owns the taps of some channels and sums over all tokens in order.
        cpu.threads.for_each_chunk(dtaps, CHANNELS * shape.width, |block, dtaps, _| {
            let channels = block * CHANNELS..shape.channels.min((block + 1) * CHANNELS);
            let sums = cpu.isa.dispatch(TapSums { filter, x, dy, tokens: 0..shape.tokens, channels });
            for (i, dtaps) in dtaps.chunks_exact_mut(shape.width).enumerate() {
                add_sums(dtaps, &sums.map(|lanes| lanes[i]));
            }
        });
    } else {
        let mut partial = [[0.0f64; TAPS]; BLOCKS];
        let rows = shape.tokens.div_ceil(BLOCKS);
        cpu.threads.for_each_chunk(&mut partial[..shape.tokens.div_ceil(rows)], 1, |block, partial, _| {
            let tokens = block * rows..shape.tokens.min((block + 1) * rows);
            let sums = cpu.isa.dispatch(TapSums { filter, x, dy, tokens, channels: 0..shape.channels });
            partial[0] = sums.map(|lanes| lanes.iter().sum());
        });
        let mut sums = [0.0; TAPS];
        for partial in partial {
            (0..TAPS).for_each(|j| sums[j] += partial[j]);
        }
        add_sums(dtaps, &sums);
    }
    Ok(())
}

fn add_sums(dtaps: &mut [f32], sums: &[f64; TAPS]) {
    for (dtap, sum) in dtaps.iter_mut().zip(sums) {
        *dtap = (f64::from(*dtap) + sum) as f32;
    }
}

//! What a model remembers of sequences that grow: keys and values of each layer, and the last router logits where they are
//! smoothed.

use std::ops::Range;

use emo::Result;
use emo::backend::{Backend, Indices};
use emo::ops::smoothing;

use super::activations::{Capacity, Planner, Purpose, read, write};
use super::config::{FeedForward, ModelConfig};
use super::inputs::DeviceSegments;
use super::layers::{Context, moe};
use super::{Inputs, Segments};

/// New tokens of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Place of the sequence among those that the model remembers.
    pub place: usize,
    /// Tokens of it that the model has seen.
    pub past: usize,
    /// The tokens that follow.
    pub ids: &'a [u32],
}

/// A micro-batch of such tokens, each sequence one document.
pub(crate) fn inputs(pieces: &[Piece<'_>]) -> Inputs {
    let mut inputs = Inputs { loss_tokens: 1.0, micro_batches: 1, ..Inputs::default() };
    let mut offsets = vec![0];
    for piece in pieces {
        inputs.ids.extend_from_slice(piece.ids);
        inputs.positions.extend((piece.past..piece.past + piece.ids.len()).map(|position| position as u32));
        offsets.push(inputs.ids.len() as u32);
    }
    inputs.attention = Segments { offsets: offsets.clone() };
    inputs.routing = Segments { offsets };
    inputs
}

/// The past of a number of sequences.
pub(crate) struct Past<B: Backend> {
    pub growth: Growth<B>,
    pub layers: Vec<LayerPast<B>>,
}

/// What one layer remembers.
pub(crate) struct LayerPast<B: Backend> {
    /// `[places, longest, k | v]`.
    pub keys: B::Buffer<B::Storage>,
    /// Router logits of the last tokens before smoothing, `[places, reach, experts]`, the oldest first.
    logits: Option<B::Buffer<B::Real>>,
}

/// How the sequences of the current micro-batch grow.
pub(crate) struct Growth<B: Backend> {
    pub places: usize,
    /// Tokens remembered of each sequence.
    pub seen: Vec<usize>,
    slots: B::Buffer<u32>,
    past: B::Buffer<u32>,
    /// Of each sequence in the batch: place, past, rows of the new tokens.
    pieces: Vec<(usize, usize, Range<usize>)>,
    smoothing: Option<Window<B>>,
}

/// Logits of new tokens behind those that smoothing still reads.
struct Window<B: Backend> {
    /// Tokens that the widest filter looks back.
    reach: usize,
    segments: DeviceSegments<B>,
    of_token: Vec<u32>,
    before: B::Buffer<B::Real>,
    after: B::Buffer<B::Real>,
}

impl<B: Backend> Past<B> {
    pub fn plan(
        plan: &mut Planner<'_, B>,
        config: &ModelConfig,
        capacity: &Capacity,
        places: usize,
    ) -> Result<Self> {
        use Purpose::Activations as Keep;
        let moe = || config.moe_layers().map(|(_, moe)| moe);
        let reach = moe().filter_map(|moe| moe.smoothing).map(|smoothing| smoothing.width - 1).max();
        let keys = places * capacity.longest * 2 * config.key_width();
        let layers = config.feed_forward.iter().enumerate().map(|(index, kind)| {
            let remembers = match kind {
                FeedForward::Moe(moe) if moe.smoothing.is_some() => reach.map(|reach| reach * moe.experts),
                _ => None,
            };
            let logits = |row| plan.real(Keep, format!("layers.{index}.past_logits"), places * row);
            let logits = remembers.map(logits).transpose()?;
            Ok(LayerPast {
                keys: plan.stored(Keep, format!("layers.{index}.keys_and_values"), keys)?,
                logits,
            })
        });
        let layers = layers.collect::<Result<_>>()?;
        let window = |reach| {
            let rows = capacity.tokens + places * reach;
            let elements = rows * moe().map(|moe| moe.experts).max().unwrap_or(0);
            Ok(Window {
                reach,
                segments: DeviceSegments::plan(plan, "smoothing segments", rows)?,
                of_token: Vec::with_capacity(rows),
                before: plan.real(Purpose::Scratch, "smoothing.before", elements)?,
                after: plan.real(Purpose::Scratch, "smoothing.after", elements)?,
            })
        };
        let smoothing = reach.map(window).transpose()?;
        let slots = plan.buffer(Purpose::Inputs, "places", places)?;
        let past = plan.buffer(Purpose::Inputs, "past", places)?;
        Ok(Self {
            growth: Growth { places, seen: vec![0; places], slots, past, pieces: Vec::new(), smoothing },
            layers,
        })
    }
}

impl<B: Backend> Growth<B> {
    /// The sequences of the next micro-batch.
    pub fn begin(&mut self, backend: &B, pieces: &[Piece<'_>]) -> Result<()> {
        self.pieces.clear();
        let mut row = 0;
        for piece in pieces {
            self.pieces.push((piece.place, piece.past, row..row + piece.ids.len()));
            row += piece.ids.len();
        }
        let words =
            |of: fn(&Piece<'_>) -> usize| pieces.iter().map(|piece| of(piece) as u32).collect::<Vec<_>>();
        backend.upload(&words(|piece| piece.place), backend.view_mut(&mut self.slots, 0..pieces.len())?)?;
        backend.upload(&words(|piece| piece.past), backend.view_mut(&mut self.past, 0..pieces.len())?)?;
        let Some(window) = &mut self.smoothing else { return Ok(()) };
        let mut offsets = vec![0];
        for (_, past, new) in &self.pieces {
            let rows = past.min(&window.reach) + new.len();
            offsets.push(offsets.last().copied().unwrap_or(0) + rows as u32);
        }
        window.segments.upload(backend, &Segments { offsets }, &mut window.of_token)
    }

    /// Whether router logits are remembered too.
    pub fn smooths(&self) -> bool {
        self.smoothing.is_some()
    }

    pub fn slots(&self, backend: &B) -> Result<Indices<'_, B>> {
        read(backend, &self.slots, self.pieces.len())
    }

    pub fn past(&self, backend: &B) -> Result<Indices<'_, B>> {
        read(backend, &self.past, self.pieces.len())
    }

    /// Smooths the logits of new tokens with those before them, and remembers the last.
    pub fn smooth(
        &mut self,
        cx: &Context<'_, B>,
        layer: &moe::Layer<'_, B>,
        shape: smoothing::Shape,
        raw: &B::Buffer<B::Real>,
        past: &mut LayerPast<B>,
        smoothed: &mut B::Buffer<B::Real>,
    ) -> Result<()> {
        let (Some(window), Some(kept)) = (&mut self.smoothing, &mut past.logits) else { return Ok(()) };
        let Some(taps) = layer.taps(cx)? else { return Ok(()) };
        let backend = cx.backend;
        let Window { reach, segments, of_token, before, after } = window;
        let rows = |rows: Range<usize>| rows.start * shape.channels..rows.end * shape.channels;
        // A sequence in the window: remembered rows, then new ones.
        let mut start = 0;
        for (place, past, new) in &self.pieces {
            let (old, place) = (*past.min(reach), place * *reach);
            let copied = backend.view(kept, rows(place..place + old))?;
            backend.copy(copied, backend.view_mut(before, rows(start..start + old))?)?;
            let end = start + old + new.len();
            let copied = backend.view(raw, rows(new.clone()))?;
            backend.copy(copied, backend.view_mut(before, rows(start + old..end))?)?;
            let last = (old + new.len()).min(*reach);
            let copied = backend.view(before, rows(end - last..end))?;
            backend.copy(copied, backend.view_mut(kept, rows(place..place + last))?)?;
            start = end;
        }
        let shape = smoothing::Shape { tokens: of_token.len(), ..shape };
        let elements = shape.tokens * shape.channels;
        backend.smoothing_forward(smoothing::Forward {
            shape,
            segments: segments.view(backend, shape.tokens)?,
            x: read(backend, before, elements)?,
            taps,
            y: write(backend, after, elements)?,
        })?;
        let mut start = 0;
        for (_, past, new) in &self.pieces {
            start += past.min(reach);
            let copied = backend.view(after, rows(start..start + new.len()))?;
            backend.copy(copied, backend.view_mut(smoothed, rows(new.clone()))?)?;
            start += new.len();
        }
        Ok(())
    }
}

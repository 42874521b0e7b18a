//! A layer that may use only some of its experts, for one request: as if the others did not exist.
//!
//! The kept rows of the router are copied together, so that logits, scores and selection are computed exactly as in a
//! model that was cut down to these experts; the experts' own weights stay where they are, and the others get no rows.

use std::ops::Range;

use emo::Result;
use emo::backend::{Backend, View};
use emo::ops::router::RouterConfig;

use super::{Context, moe};
use crate::model::activations::{download, read, upload, write};
use crate::model::config::Moe;
use crate::model::layout::FeedForwardLayout;
use crate::model::parameters::Parameters;

/// The router of the kept experts.
pub(crate) struct KeptRouter<B: Backend> {
    /// Their indices in the layer, ascending; shared experts last.
    pub experts: Vec<u32>,
    /// The layer as it is with these experts alone.
    pub moe: Moe,
    /// Its router.
    pub router: RouterConfig,
    /// Router weight `[K, d]`.
    pub weight: B::Buffer<B::Real>,
    /// Router bias `[K]`.
    pub bias: Option<B::Buffer<B::Real>>,
    /// Smoothing taps.
    pub taps: Option<B::Buffer<B::Real>>,
    /// Score-correction bias of the routed experts.
    pub selection_bias: Option<B::Buffer<B::Real>>,
}

impl<B: Backend> KeptRouter<B> {
    /// Keeps the routed experts `routed` (ascending) and the shared ones.
    pub fn new(
        backend: &B,
        moe: &Moe,
        layout: &FeedForwardLayout,
        params: &Parameters<B>,
        state: &moe::State<B>,
        routed: &[u32],
    ) -> Result<Option<Self>> {
        let FeedForwardLayout::Moe { router, bias, taps, .. } = layout else { return Ok(None) };
        let shared = moe.routed() as u32..moe.experts as u32;
        let experts: Vec<u32> = routed.iter().copied().chain(shared).collect();
        let kept = moe.keep(routed);
        let gather = |values: Vec<f64>, experts: &[u32], rows: usize| -> Result<B::Buffer<B::Real>> {
            let width = values.len() / rows;
            let row = |&expert: &u32| &values[expert as usize * width..][..width];
            let values: Vec<f64> = experts.iter().flat_map(row).copied().collect();
            let mut buffer = backend.alloc(values.len())?;
            upload::<B, _>(backend, &values, &mut buffer, 0)?;
            Ok(buffer)
        };
        let parameter = |range: &Range<usize>| params.get(backend, range.clone());
        let all_taps = match (&state.taps, taps) {
            (Some(taps), _) => Some(download::<B, _>(backend, taps, 0..moe.taps())?),
            (None, Some(range)) => Some(parameter(range)?),
            (None, None) => None,
        };
        // Taps that all experts share are one row.
        let depthwise = moe.smoothing.is_some_and(|smoothing| smoothing.depthwise);
        let taps = all_taps.map(|taps| match depthwise {
            true => gather(taps, &experts, moe.experts),
            false => gather(taps, &[0], 1),
        });
        let corrections = state.selection_bias.as_ref();
        let corrections = corrections.map(|bias| download::<B, _>(backend, bias, 0..moe.routed()));
        let corrections = corrections.transpose()?.map(|bias| gather(bias, routed, moe.routed()));
        Ok(Some(Self {
            weight: gather(parameter(router)?, &experts, moe.experts)?,
            bias: bias.as_ref().map(|range| gather(parameter(range)?, &experts, moe.experts)).transpose()?,
            taps: taps.transpose()?,
            selection_bias: corrections.transpose()?,
            router: kept.router(),
            moe: kept,
            experts,
        }))
    }

    /// Rewrites the row ranges of the kept experts `[K + 1]` as those of all experts `[all + 1]`: kept experts come in
    /// their old order, so their rows stay in place, and the others get none.
    pub fn spread_offsets(&self, backend: &B, all: usize, offsets: &mut B::Buffer<u32>) -> Result<()> {
        let mut kept = vec![0; self.experts.len() + 1];
        backend.download(read(backend, offsets, kept.len())?, &mut kept)?;
        let before = |expert: usize| self.experts.partition_point(|&kept| (kept as usize) < expert);
        let spread: Vec<u32> = (0..=all).map(|expert| kept[before(expert)]).collect();
        backend.upload(&spread, write(backend, offsets, all + 1)?)
    }

    /// Values `[rows, K']` of the first kept experts as `[rows, all]`, `other` for the experts that are not kept.
    pub fn spread<T: Copy>(&self, values: &[T], kept: usize, all: usize, other: T) -> Vec<T> {
        let mut spread = vec![other; values.len() / kept.max(1) * all];
        for (row, values) in spread.chunks_exact_mut(all).zip(values.chunks_exact(kept)) {
            for (&expert, &value) in self.experts.iter().zip(values) {
                row[expert as usize] = value;
            }
        }
        spread
    }
}

impl<'a, B: Backend> moe::Layer<'a, B> {
    /// A layer as a request sees it: with all experts, or those that [`KeptRouter`] keeps.
    pub fn new(
        moe: &'a Moe,
        router: &'a RouterConfig,
        weights: moe::Weights<'a>,
        state: &'a moe::State<B>,
        ordinal: usize,
    ) -> Self {
        let experts = moe.experts;
        let (moe, router) = state.kept.as_ref().map_or((moe, router), |kept| (&kept.moe, &kept.router));
        Self { moe, router, experts, weights, state, ordinal }
    }

    /// Router weight `[E, d]`.
    pub fn gate<'s>(&'s self, cx: &'s Context<'_, B>) -> Result<View<'s, B>> {
        match &self.state.kept {
            Some(kept) => read(cx.backend, &kept.weight, self.moe.experts * cx.config.width),
            None => cx.weight(self.weights.router),
        }
    }

    /// Router bias `[E]`.
    pub fn gate_bias<'s>(&'s self, cx: &'s Context<'_, B>) -> Result<Option<View<'s, B>>> {
        match &self.state.kept {
            Some(kept) => kept.bias.as_ref().map(|bias| read(cx.backend, bias, self.moe.experts)).transpose(),
            None => cx.optional_weight(self.weights.bias),
        }
    }

    /// Score-correction bias `[E_r]`.
    pub fn selection_bias<'s>(&'s self, cx: &'s Context<'_, B>) -> Result<Option<View<'s, B>>> {
        let kept = self.state.kept.as_ref().map(|kept| &kept.selection_bias);
        let bias = kept.unwrap_or(&self.state.selection_bias).as_ref();
        bias.map(|bias| read(cx.backend, bias, self.moe.routed())).transpose()
    }

    /// Taps of the smoothing filter, fixed or learned.
    pub fn taps<'s>(&'s self, cx: &'s Context<'_, B>) -> Result<Option<View<'s, B>>> {
        let kept = self.state.kept.as_ref().map(|kept| &kept.taps);
        match (kept.unwrap_or(&self.state.taps), self.weights.taps) {
            (Some(taps), _) => Ok(Some(read(cx.backend, taps, self.moe.taps())?)),
            (None, Some(range)) => Ok(Some(cx.weight(range)?)),
            (None, None) => Ok(None),
        }
    }
}

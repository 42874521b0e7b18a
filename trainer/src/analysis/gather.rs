//! Runs a model over a sample and keeps of its routing what the statistics need: sums, the chosen experts, and router
//! probabilities and inputs of some tokens.

use emo::Backend;

use super::sample::{Sample, spread};
use crate::error::{Error, Result};
use crate::model::{Capacity, Model, Moe, Routing};

/// Tokens of which more than sums is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watched {
    /// Tokens that are clustered, ascending positions in the sample.
    pub clustered: Vec<usize>,
    /// Tokens that every expert is shown.
    pub probed: Vec<usize>,
}

impl Watched {
    /// Evenly spaced ones: at most `clustered` among the first `prefix` tokens of every passage, and at most `probed` of all.
    #[must_use]
    pub fn of(sample: &Sample, prefix: usize, clustered: usize, probed: usize) -> Self {
        let (mut early, mut start) = (Vec::new(), 0);
        for passage in &sample.passages {
            early.extend(start..start + passage.ids.len().min(prefix));
            start += passage.ids.len();
        }
        Self {
            clustered: spread(early.len(), clustered).into_iter().map(|place| early[place]).collect(),
            probed: spread(start, probed),
        }
    }
}

/// One layer's routing of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerTally {
    /// Index of the layer in the model.
    pub layer: usize,
    /// Routed experts.
    pub experts: usize,
    /// Routed experts of a token.
    pub top_k: usize,
    /// How many of them are always the same: experts that take every token.
    pub always: usize,
    /// Sums of router probabilities, `[domain][expert]`.
    pub probability: Vec<Vec<f64>>,
    /// Slots of each expert, `[passage][expert]`.
    pub slots: Vec<Vec<u32>>,
    /// The routed experts of every token, `top_k` each, in the router's order.
    pub chosen: Vec<u32>,
    /// Router inputs of the probed tokens, `[probed, width]`.
    pub inputs: Vec<f64>,
}

/// All layers' routing of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    /// One entry a layer with experts.
    pub layers: Vec<LayerTally>,
    /// Router probabilities of all layers end to end, `[clustered, width]`.
    pub features: Vec<f32>,
}

impl Gathered {
    /// Router probabilities of a token, all layers together.
    #[must_use]
    pub fn width(&self) -> usize {
        self.layers.iter().map(|layer| layer.experts).sum()
    }
}

/// Memory for batches of `batch` tokens, where `longest` is the longest passage.
#[must_use]
pub fn capacity(sample: &Sample, batch: usize) -> Capacity {
    let longest = sample.passages.iter().map(|passage| passage.ids.len()).max().unwrap_or(1);
    Capacity { tokens: batch.max(longest), longest, domains: 0, redundancy: false, backward: false }
}

/// Routes the sample, `done` hearing after each batch how many tokens are through.
///
/// # Errors
/// When the device fails, and for probabilities that are no numbers.
pub fn gather<B: Backend>(
    model: &mut Model<B>,
    sample: &Sample,
    watched: &Watched,
    mut done: impl FnMut(usize),
) -> Result<Gathered> {
    let width = model.config().width;
    let tally = |(layer, moe): (usize, &Moe)| LayerTally {
        layer,
        experts: moe.routed(),
        top_k: moe.top_k - moe.shared,
        always: moe.always_active.len(),
        probability: vec![vec![0.0; moe.routed()]; sample.domains.len()],
        slots: Vec::with_capacity(sample.passages.len()),
        chosen: Vec::with_capacity(sample.tokens() * (moe.top_k - moe.shared)),
        inputs: Vec::with_capacity(watched.probed.len() * width),
    };
    let layers = model.config().moe_layers().map(tally).collect();
    let mut found = Gathered { layers, features: Vec::new() };
    let all = found.width();
    found.features = vec![0.0; watched.clustered.len() * all];
    let mut start = 0;
    for batch in sample.batches(model.capacity().tokens) {
        let inputs = sample.inputs(batch.clone());
        model.forward(&inputs)?;
        let end = start + inputs.tokens();
        let mut column = 0;
        for (ordinal, layer) in found.layers.iter_mut().enumerate() {
            let Some(routing) = model.routing(ordinal)? else { continue };
            let probabilities = Probabilities::of(&routing, layer.experts)?;
            layer.add(&routing, &probabilities, sample, batch.clone());
            for token in within(&watched.probed, start, end).map(|at| watched.probed[at] - start) {
                layer.inputs.extend_from_slice(&routing.input[token * width..(token + 1) * width]);
            }
            for row in within(&watched.clustered, start, end) {
                let token = watched.clustered[row] - start;
                let target = &mut found.features[row * all + column..][..layer.experts];
                target.iter_mut().zip(probabilities.row(token)).for_each(|(slot, p)| *slot = p as f32);
            }
            column += layer.experts;
        }
        start = end;
        done(start);
    }
    Ok(found)
}

/// The routed experts of every token of the sample, for each layer with experts.
///
/// # Errors
/// When the device fails.
pub fn chosen<B: Backend>(
    model: &mut Model<B>,
    sample: &Sample,
    done: impl FnMut(usize),
) -> Result<Vec<Vec<u32>>> {
    let found = gather(model, sample, &Watched::default(), done)?;
    Ok(found.layers.into_iter().map(|layer| layer.chosen).collect())
}

/// Indices of the entries of an ascending list that lie in `start..end`.
fn within(positions: &[usize], start: usize, end: usize) -> std::ops::Range<usize> {
    positions.partition_point(|&at| at < start)..positions.partition_point(|&at| at < end)
}

/// A layer's scores, each token's adding up to 1.
struct Probabilities<'a> {
    scores: &'a [f64],
    sums: Vec<f64>,
    experts: usize,
}

impl<'a> Probabilities<'a> {
    fn of(routing: &'a Routing, experts: usize) -> Result<Self> {
        if routing.scores.iter().any(|score| !score.is_finite()) {
            return Err(Error::NonFinite(format!(
                "the router of layer {} gives scores that are no numbers: this checkpoint is broken",
                routing.layer
            )));
        }
        let sums = routing.scores.chunks_exact(experts).map(|row| row.iter().sum()).collect();
        Ok(Self { scores: &routing.scores, sums, experts })
    }

    /// Softmax scores as they are (their sum is 1 but for rounding); others, as sigmoids, over their sum.
    fn row(&self, token: usize) -> impl Iterator<Item = f64> + '_ {
        let sum = if self.sums[token] > 0.0 { self.sums[token] } else { 1.0 };
        self.scores[token * self.experts..(token + 1) * self.experts].iter().map(move |score| score / sum)
    }
}

impl LayerTally {
    fn add(
        &mut self,
        routing: &Routing,
        probabilities: &Probabilities<'_>,
        sample: &Sample,
        passages: std::ops::Range<usize>,
    ) {
        let mut token = 0;
        let tokens = probabilities.sums.len();
        let slots = routing.indices.len() / tokens.max(1);
        for passage in &sample.passages[passages] {
            let mut counts = vec![0u32; self.experts];
            let sums = &mut self.probability[passage.domain as usize];
            for token in token..token + passage.ids.len() {
                // Shared experts stand last and are left out.
                let chosen = &routing.indices[token * slots..token * slots + self.top_k];
                chosen.iter().for_each(|&expert| counts[expert as usize] += 1);
                self.chosen.extend_from_slice(chosen);
                sums.iter_mut().zip(probabilities.row(token)).for_each(|(sum, p)| *sum += p);
            }
            token += passage.ids.len();
            self.slots.push(counts);
        }
    }
}

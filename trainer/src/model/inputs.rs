//! A micro-batch: on the host as the caller describes it, and on the device as the layers read it.

use emo::backend::Backend;
use emo::ops::cross_entropy::IGNORE;
use emo::ops::segments;
use emo::{Error, Result};

use super::activations::{Capacity, Planner, Purpose, read};
use super::config::ModelConfig;

/// Consecutive segments (documents, or parts of documents cut by a row's end) that cover all tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segments {
    /// `[segments + 1]`, strictly ascending from 0 to the number of tokens.
    pub offsets: Vec<u32>,
}

impl Segments {
    /// One segment a row.
    pub fn rows(rows: usize, length: usize) -> Self {
        Self { offsets: (0..=rows).map(|row| (row * length) as u32).collect() }
    }

    /// How many segments.
    pub fn count(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn check(&self, arg: &'static str, tokens: usize) -> Result<()> {
        let ascending = self.offsets.windows(2).all(|pair| pair[0] < pair[1]);
        let covers =
            self.offsets.first() == Some(&0) && self.offsets.last().map(|&end| end as usize) == Some(tokens);
        if ascending && covers {
            return Ok(());
        }
        let ends =
            format!("{:?}..{:?} in {} segments", self.offsets.first(), self.offsets.last(), self.count());
        Err(Error::argument("model", arg, format!("strictly ascending offsets from 0 to {tokens}"), ends))
    }
}

/// Which tokens of a document choose its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PoolFrom {
    /// All of them, as in training. Every token's routing then depends on later tokens of its document: right for
    /// training, where it is the method, and no measure of what the model predicts.
    #[default]
    Document,
    /// The first `n` of each routing segment. They themselves use all experts; the later ones use the pool.
    Prefix(usize),
    /// At each token, those up to and with it.
    SoFar,
}

/// A micro-batch as the caller describes it. All token-wise fields have one entry a token, rows one after another.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inputs {
    /// Token ids.
    pub ids: Vec<u32>,
    /// What each token should predict (already shifted), or -100; empty where there is no loss.
    pub labels: Vec<i32>,
    /// Position of each token in its row.
    pub positions: Vec<u32>,
    /// Attention never crosses one of these.
    pub attention: Segments,
    /// Documents of the router: pools, smoothing and the consistency losses.
    pub routing: Segments,
    /// Pool size of each routing segment, for each layer with experts in order; none = every expert may be used.
    pub pools: Option<Vec<Vec<u32>>>,
    /// Which tokens the pools are chosen from.
    pub pool_from: PoolFrom,
    /// Domain of each routing segment; empty where there is no domain consistency loss.
    pub domains: Vec<u32>,
    /// Tokens that the load balance loss looks at (1) or leaves out (0); none = all.
    pub valid: Option<Vec<u8>>,
    /// Divisor of the loss: labelled tokens of the whole optimiser step.
    pub loss_tokens: f64,
    /// Micro-batches of the optimiser step.
    pub micro_batches: usize,
    /// Slots per routed expert over the whole optimiser step, for each layer with experts in order:
    /// sums of [`super::Model::count`]. Needed by [`super::objective::Balance::Step`].
    pub balance_counts: Option<Vec<Vec<f64>>>,
}

impl Inputs {
    /// `rows` rows of `length` tokens, each one document, without pools or labels.
    pub fn rows(ids: Vec<u32>, rows: usize, length: usize) -> Self {
        Self {
            positions: (0..rows * length).map(|token| (token % length.max(1)) as u32).collect(),
            attention: Segments::rows(rows, length),
            routing: Segments::rows(rows, length),
            loss_tokens: 1.0,
            micro_batches: 1,
            ids,
            ..Self::default()
        }
    }

    /// How many tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Labels that count.
    pub fn labelled(&self) -> usize {
        self.labels.iter().filter(|&&label| label != IGNORE).count()
    }

    fn check(&self, config: &ModelConfig, capacity: &Capacity) -> Result<()> {
        let tokens = self.tokens();
        let argument = |ok: bool, arg: &'static str, expected: String, found: String| {
            if ok { Ok(()) } else { Err(Error::argument("model", arg, expected, found)) }
        };
        let length = |arg: &'static str, len: usize, expected: usize| {
            argument(len == expected, arg, format!("{expected} entries"), len.to_string())
        };
        argument(
            tokens > 0 && tokens <= capacity.tokens,
            "ids",
            format!("1 to {} tokens", capacity.tokens),
            tokens.to_string(),
        )?;
        length("positions", self.positions.len(), tokens)?;
        if !self.labels.is_empty() {
            length("labels", self.labels.len(), tokens)?;
        }
        if let Some(position) = self.positions.iter().find(|&&position| position as usize >= capacity.longest)
        {
            argument(false, "positions", format!("below {}", capacity.longest), position.to_string())?;
        }
        if let Some(valid) = &self.valid {
            length("valid", valid.len(), tokens)?;
        }
        self.attention.check("attention", tokens)?;
        self.routing.check("routing", tokens)?;
        let longest = self.attention.offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).max();
        argument(
            longest <= Some(capacity.longest),
            "attention",
            format!("segments of at most {} tokens", capacity.longest),
            format!("{longest:?}"),
        )?;
        let layers = config.moe_layers().count();
        if let Some(pools) = &self.pools {
            length("pools", pools.len(), layers)?;
            pools.iter().try_for_each(|sizes| length("pools", sizes.len(), self.routing.count()))?;
        }
        let prefix = self.pool_from != PoolFrom::Prefix(0);
        argument(prefix, "pool_from", "a prefix of at least one token".into(), "0".into())?;
        if !self.domains.is_empty() {
            length("domains", self.domains.len(), self.routing.count())?;
        }
        if let Some(counts) = &self.balance_counts {
            length("balance_counts", counts.len(), layers)?;
            for (counts, (_, moe)) in counts.iter().zip(config.moe_layers()) {
                length("balance_counts", counts.len(), moe.routed())?;
            }
        }
        argument(
            self.loss_tokens > 0.0 && self.loss_tokens.is_finite(),
            "loss_tokens",
            "positive".into(),
            self.loss_tokens.to_string(),
        )?;
        argument(self.micro_batches > 0, "micro_batches", "positive".into(), "0".into())
    }
}

/// Segments as ops read them.
pub(crate) struct DeviceSegments<B: Backend> {
    offsets: B::Buffer<u32>,
    of_token: B::Buffer<u32>,
    count: usize,
}

impl<B: Backend> DeviceSegments<B> {
    pub fn plan(plan: &mut Planner<'_, B>, name: &str, tokens: usize) -> Result<Self> {
        Ok(Self {
            offsets: plan.buffer(Purpose::Inputs, format!("{name}.offsets"), tokens + 1)?,
            of_token: plan.buffer(Purpose::Inputs, format!("{name}.of_token"), tokens)?,
            count: 0,
        })
    }

    /// `host` is scratch; after it, it holds the segment of each token.
    pub fn upload(&mut self, backend: &B, segments: &Segments, host: &mut Vec<u32>) -> Result<()> {
        self.count = segments.count();
        host.clear();
        for (segment, ends) in segments.offsets.windows(2).enumerate() {
            host.resize(ends[1] as usize, segment as u32);
        }
        backend.upload(&segments.offsets, backend.view_mut(&mut self.offsets, 0..self.count + 1)?)?;
        backend.upload(host, backend.view_mut(&mut self.of_token, 0..host.len())?)
    }

    pub fn view(&self, backend: &B, tokens: usize) -> Result<segments::Segments<'_, B>> {
        Ok(segments::Segments {
            offsets: read(backend, &self.offsets, self.count + 1)?,
            of_token: read(backend, &self.of_token, tokens)?,
        })
    }
}

/// The micro-batch on the device.
pub(crate) struct Batch<B: Backend> {
    pub tokens: usize,
    pub ids: B::Buffer<u32>,
    pub targets: B::Buffer<i32>,
    pub positions: B::Buffer<u32>,
    attention: DeviceSegments<B>,
    routing: DeviceSegments<B>,
    /// Pool sizes, `[layers with experts][capacity]`.
    pool_sizes: B::Buffer<u32>,
    pub pools: bool,
    pub pool_from: PoolFrom,
    /// Offsets of the routing segments and pool sizes, where the pools are not chosen on the device.
    host_pools: (Vec<u32>, Vec<Vec<u32>>),
    domain: B::Buffer<u32>,
    domains: bool,
    valid: B::Buffer<u8>,
    has_valid: bool,
    labelled: B::Buffer<u8>,
    capacity: usize,
    of_token: Vec<u32>,
}

impl<B: Backend> Batch<B> {
    pub fn plan(plan: &mut Planner<'_, B>, config: &ModelConfig, capacity: &Capacity) -> Result<Self> {
        use Purpose::Inputs as In;
        let tokens = capacity.tokens;
        Ok(Self {
            tokens: 0,
            ids: plan.buffer(In, "ids", tokens)?,
            targets: plan.buffer(In, "labels", tokens)?,
            positions: plan.buffer(In, "positions", tokens)?,
            attention: DeviceSegments::plan(plan, "attention segments", tokens)?,
            routing: DeviceSegments::plan(plan, "routing segments", tokens)?,
            pool_sizes: plan.buffer(In, "pool sizes", config.moe_layers().count() * tokens)?,
            pools: false,
            pool_from: PoolFrom::Document,
            host_pools: Default::default(),
            domain: plan.buffer(In, "domains", tokens)?,
            domains: false,
            valid: plan.buffer(In, "valid", tokens)?,
            has_valid: false,
            labelled: plan.buffer(In, "labelled", tokens)?,
            capacity: tokens,
            of_token: Vec::with_capacity(tokens),
        })
    }

    pub fn upload(
        &mut self,
        backend: &B,
        config: &ModelConfig,
        capacity: &Capacity,
        inputs: &Inputs,
    ) -> Result<()> {
        inputs.check(config, capacity)?;
        let tokens = inputs.tokens();
        self.tokens = tokens;
        let ignored;
        let labels = if inputs.labels.is_empty() {
            ignored = vec![IGNORE; tokens];
            &ignored
        } else {
            &inputs.labels
        };
        backend.upload(&inputs.ids, backend.view_mut(&mut self.ids, 0..tokens)?)?;
        backend.upload(labels, backend.view_mut(&mut self.targets, 0..tokens)?)?;
        backend.upload(&inputs.positions, backend.view_mut(&mut self.positions, 0..tokens)?)?;
        let labelled: Vec<u8> = labels.iter().map(|&label| u8::from(label != IGNORE)).collect();
        backend.upload(&labelled, backend.view_mut(&mut self.labelled, 0..tokens)?)?;
        self.attention.upload(backend, &inputs.attention, &mut self.of_token)?;
        self.routing.upload(backend, &inputs.routing, &mut self.of_token)?;
        self.pools = inputs.pools.is_some();
        self.pool_from = inputs.pool_from;
        if inputs.pool_from != PoolFrom::Document {
            self.host_pools.0.clone_from(&inputs.routing.offsets);
            self.host_pools.1 = inputs.pools.clone().unwrap_or_default();
        }
        for (layer, sizes) in inputs.pools.iter().flatten().enumerate() {
            let start = layer * self.capacity;
            backend.upload(sizes, backend.view_mut(&mut self.pool_sizes, start..start + sizes.len())?)?;
        }
        self.domains = !inputs.domains.is_empty();
        if self.domains {
            let range = 0..inputs.domains.len();
            backend.upload(&inputs.domains, backend.view_mut(&mut self.domain, range)?)?;
        }
        self.has_valid = inputs.valid.is_some();
        if let Some(valid) = &inputs.valid {
            backend.upload(valid, backend.view_mut(&mut self.valid, 0..tokens)?)?;
        }
        Ok(())
    }

    pub fn attention(&self, backend: &B) -> Result<segments::Segments<'_, B>> {
        self.attention.view(backend, self.tokens)
    }

    pub fn routing(&self, backend: &B) -> Result<segments::Segments<'_, B>> {
        self.routing.view(backend, self.tokens)
    }

    pub fn routing_count(&self) -> usize {
        self.routing.count
    }

    /// Offsets of the routing segments, where the pools look back only.
    pub fn routing_offsets(&self) -> &[u32] {
        &self.host_pools.0
    }

    /// Pool sizes of the `ordinal`-th layer with experts, where the pools look back only.
    pub fn host_pool_sizes(&self, ordinal: usize) -> &[u32] {
        self.host_pools.1.get(ordinal).map_or(&[], Vec::as_slice)
    }

    /// Pool sizes of the `ordinal`-th layer with experts.
    pub fn pool_sizes(&self, backend: &B, ordinal: usize) -> Result<B::View<'_, u32>> {
        let start = ordinal * self.capacity;
        backend.view(&self.pool_sizes, start..start + self.routing.count)
    }

    pub fn domain(&self, backend: &B) -> Result<Option<B::View<'_, u32>>> {
        self.domains.then(|| read(backend, &self.domain, self.routing.count)).transpose()
    }

    pub fn valid(&self, backend: &B) -> Result<Option<B::View<'_, u8>>> {
        self.has_valid.then(|| read(backend, &self.valid, self.tokens)).transpose()
    }

    pub fn labelled(&self, backend: &B) -> Result<B::View<'_, u8>> {
        read(backend, &self.labelled, self.tokens)
    }
}

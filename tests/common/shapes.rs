//! The one table of shapes. First those that every routing and document op must get right, then those that are measured,
//! which tests take at a 64th of their size.

use super::agree::values;
use emo::ops::activation::{self, Activation};
use emo::ops::router::RouterConfig;
use emo::ops::{
    attention, embedding, experts, grouped_gemm, linear, permutation, rms_norm, rope, router_logits,
    smoothing,
};

/// Documents of a packed batch, as offsets.
pub fn documents() -> Vec<Vec<u32>> {
    vec![
        vec![0],
        vec![0, 0],
        vec![0, 1],
        vec![0, 1, 2, 3],
        vec![0, 5],
        vec![0, 3, 3, 10, 11, 37],
        vec![0, 64, 65, 193],
        vec![0, 200],
    ]
}

/// A router's inputs.
pub struct Routing {
    pub name: &'static str,
    pub offsets: Vec<u32>,
    pub experts: usize,
    pub top_k: usize,
    pub shared: usize,
    pub logits: Vec<f64>,
    /// `[tokens, experts - shared]`, false = forbidden.
    pub keep: Option<Vec<bool>>,
}

impl Routing {
    fn new(name: &'static str, offsets: &[u32], (experts, top_k, shared): (usize, usize, usize)) -> Self {
        let tokens = offsets[offsets.len() - 1] as usize;
        let logits = values(tokens * experts, 77).into_iter().map(|z| 4.0 * z).collect();
        Self { name, offsets: offsets.to_vec(), experts, top_k, shared, logits, keep: None }
    }

    fn logits(mut self, f: impl Fn(usize, usize, f64) -> f64) -> Self {
        let experts = self.experts;
        self.logits.iter_mut().enumerate().for_each(|(i, z)| *z = f(i / experts, i % experts, *z));
        self
    }

    fn keep(mut self, f: impl Fn(usize, usize) -> bool) -> Self {
        let routed = self.experts - self.shared;
        self.keep = Some((0..self.tokens() * routed).map(|i| f(i / routed, i % routed)).collect());
        self
    }

    pub fn tokens(&self) -> usize {
        self.offsets[self.offsets.len() - 1] as usize
    }

    pub fn routed(&self) -> usize {
        self.experts - self.shared
    }
}

/// The table.
pub fn routings() -> Vec<Routing> {
    const FORBIDDEN: f64 = f64::NEG_INFINITY;
    let large = |i: usize| if i.is_multiple_of(3) { 1e4 } else { -1e4 };
    let measured = routed(Size::Small).into_iter().map(|Routed { name, config, offsets, .. }| {
        Routing::new(name, &offsets, (config.experts, config.top_k, config.shared))
    });
    let edges = vec![
        Routing::new("no tokens", &[0], (4, 2, 0)),
        Routing::new("one token", &[0, 1], (5, 3, 1)),
        Routing::new("one expert", &[0, 4], (1, 1, 0)),
        Routing::new("k = E", &[0, 3, 9], (7, 7, 0)),
        Routing::new("k = E, shared", &[0, 9], (7, 7, 3)),
        Routing::new("documents of one token", &[0, 1, 2, 3, 4, 5], (9, 2, 1)),
        Routing::new("odd sizes", &[0, 13, 13, 67], (37, 5, 2)),
        Routing::new("typical", &[0, 100, 130], (128, 8, 1)),
        Routing::new("some hundred experts", &[0, 5], (200, 6, 1)),
        Routing::new("hundreds of experts", &[0, 2, 4], (400, 32, 0)),
        Routing::new("many experts", &[0, 3], (1024, 11, 0)),
        Routing::new("everything on one expert", &[0, 40], (6, 1, 0))
            .logits(|_, e, _| if e == 4 { 9.0 } else { 0.0 }),
        Routing::new("empty experts", &[0, 40], (6, 2, 0)).logits(|_, e, z| if e > 3 { z - 50.0 } else { z }),
        Routing::new("exact ties", &[0, 30], (20, 6, 1)).logits(|_, _, z| z.round()),
        Routing::new("all equal", &[0, 3], (20, 6, 1)).logits(|_, _, _| 0.5),
        Routing::new("large logits", &[0, 30], (20, 4, 0)).logits(|t, e, _| large(t + 5 * e)),
        Routing::new("large offset", &[0, 30], (20, 4, 0)).logits(|_, _, z| 1e4 + (z * 64.0).round() / 64.0),
        Routing::new("infinite logits", &[0, 30], (20, 4, 1))
            .logits(|t, e, z| if (t + e) % 4 != 0 { FORBIDDEN } else { z }),
        Routing::new("masked", &[0, 11, 30], (20, 4, 1)).keep(|t, e| (t * 7 + e * 3) % 5 < 2),
        Routing::new("fewer than k allowed", &[0, 30], (20, 6, 1)).keep(|t, e| e == t % 19),
        Routing::new("all masked", &[0, 2, 5], (9, 4, 1)).keep(|t, _| t % 2 == 0),
    ];
    edges.into_iter().chain(measured).collect()
}

/// How much of a measured shape is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// All of it: the benches.
    Full,
    /// A 64th of the tokens, a quarter of a layer's experts: the tests, and the benches' own trial run.
    Small,
}

impl Size {
    /// `n`, or the small share of it.
    pub fn of(self, n: usize) -> usize {
        match self {
            Self::Full => n,
            Self::Small => n.div_ceil(64),
        }
    }

    /// Equal documents of `length` tokens, as offsets.
    pub fn packed(self, tokens: usize, length: usize) -> Vec<u32> {
        let (tokens, length) = (self.of(tokens), self.of(length));
        (0..=tokens / length).map(|document| (document * length) as u32).collect()
    }
}

/// Dense products: a square one, the projections and the LM head of the preset `bench-olmoe`.
pub fn linears(size: Size) -> Vec<linear::Shape> {
    [(512, 512, 512), (2048, 256, 256), (2048, 256, 4096)]
        .map(|(rows, inputs, outputs)| linear::Shape { rows: size.of(rows), inputs, outputs })
        .into()
}

/// How tokens choose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Every expert serves equally many, where `tokens` is a multiple of `experts`.
    Balanced,
    /// Half of all tokens choose expert 0.
    Skewed,
    /// Draws that favour some experts, as an untrained router's do: no two groups are of one size, some are all but empty.
    Random,
}

/// Experts, and how their tokens choose.
pub struct Layer {
    pub shape: experts::Shape,
    pub load: Load,
}

impl Layer {
    pub fn name(&self) -> String {
        let experts::Shape { tokens, top_k, experts, width, hidden, .. } = self.shape;
        let load = match self.load {
            Load::Balanced => "balanced",
            Load::Skewed => "skewed",
            Load::Random => "random",
        };
        format!("{tokens} tokens, d {width}, h {hidden}, {experts} experts top-{top_k}, {load}")
    }

    /// The layer's input projection as a grouped product.
    pub fn input_projection(&self) -> grouped_gemm::Shape {
        let shape = self.shape;
        grouped_gemm::Shape {
            groups: shape.experts,
            rows: shape.rows(),
            inputs: shape.width,
            outputs: shape.pre(),
        }
    }

    /// What a plan sorts.
    pub fn slots(&self) -> permutation::Shape {
        let experts::Shape { tokens, top_k, experts, .. } = self.shape;
        permutation::Shape { tokens, top_k, experts }
    }

    /// The expert of each slot.
    pub fn choices(&self) -> Vec<u32> {
        choices(self.slots(), self.load)
    }
}

/// Expert layers: a wide one with even and with uneven loads, and that of the preset `bench-olmoe`.
pub fn layers(size: Size) -> Vec<Layer> {
    let layer = |tokens, top_k, experts, width, hidden, load| Layer {
        shape: experts::Shape {
            tokens: size.of(tokens),
            top_k,
            experts: if size == Size::Full { experts } else { experts / 4 },
            width,
            hidden,
            gated: true,
            activation: Activation::Silu,
        },
        load,
    };
    vec![
        layer(4096, 8, 64, 512, 256, Load::Balanced),
        layer(4096, 8, 64, 512, 256, Load::Skewed),
        layer(4096, 8, 64, 512, 256, Load::Random),
        layer(2048, 4, 32, 256, 128, Load::Balanced),
    ]
}

/// Distinct experts for each token.
pub fn choices(shape: permutation::Shape, load: Load) -> Vec<u32> {
    let permutation::Shape { tokens, top_k, experts } = shape;
    if load == Load::Random {
        return drawn(shape);
    }
    let skewed = load == Load::Skewed;
    let first = usize::from(skewed);
    let others = experts - first;
    let choice = |token: usize, slot: usize| match (skewed, token % 2, slot) {
        (true, 0, 0) => 0,
        // 37 is odd, so that it visits every expert of a power of two.
        _ => (first + (37 * token + slot * (others / top_k)) % others) as u32,
    };
    (0..tokens * top_k).map(|slot| choice(slot / top_k, slot % top_k)).collect()
}

/// Experts in proportion to the density of a squared uniform number: the first eighth gets a third of all tokens.
fn drawn(permutation::Shape { tokens, top_k, experts }: permutation::Shape) -> Vec<u32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (state >> 33) as f64 / (1u64 << 31) as f64;
        (share * share * experts as f64) as u32
    };
    let mut choices = Vec::with_capacity(tokens * top_k);
    for token in 0..tokens {
        while choices.len() < (token + 1) * top_k {
            let expert = draw();
            if !choices[token * top_k..].contains(&expert) {
                choices.push(expert);
            }
        }
    }
    choices
}

/// Slots to move, and the width of their rows.
pub fn moves(size: Size) -> Vec<(permutation::Shape, usize)> {
    vec![(permutation::Shape { tokens: size.of(16384), top_k: 8, experts: 128 }, 512)]
}

/// A router over packed documents.
pub struct Routed {
    pub name: &'static str,
    pub config: RouterConfig,
    pub offsets: Vec<u32>,
    /// Whether every document has a pool.
    pub pool: bool,
}

impl Routed {
    pub fn tokens(&self) -> usize {
        self.offsets[self.offsets.len() - 1] as usize
    }
}

/// 16384 tokens.
pub fn documents_of_512(size: Size) -> Vec<u32> {
    size.packed(16384, 512)
}

/// Routers over these documents.
pub fn routed(size: Size) -> Vec<Routed> {
    let offsets = documents_of_512(size);
    vec![
        Routed {
            name: "16384x128 top-8",
            config: RouterConfig::softmax(128, 8),
            offsets: offsets.clone(),
            pool: false,
        },
        Routed {
            name: "16384x(127+1) top-8, document pools",
            config: RouterConfig { shared: 1, ..RouterConfig::softmax(128, 8) },
            offsets,
            pool: true,
        },
    ]
}

/// The router's linear layer: a wide model, and the preset `bench-olmoe`.
pub fn router_logits(size: Size) -> Vec<router_logits::Shape> {
    [(16384, 512, 128), (2048, 256, 32)]
        .map(|(tokens, width, experts)| router_logits::Shape { tokens: size.of(tokens), width, experts })
        .into()
}

/// Smoothing over documents of 512 tokens.
pub fn smoothings(size: Size) -> Vec<smoothing::Shape> {
    let shape = smoothing::Shape {
        tokens: size.of(16384),
        channels: 128,
        width: 5,
        ahead: 0,
        depthwise: false,
        renormalise: true,
    };
    vec![shape, smoothing::Shape { depthwise: true, ..shape }]
}

/// Attention of the preset `bench-olmoe`: 8 sequences of 256 tokens.
pub fn attentions(size: Size) -> Vec<(attention::Shape, Vec<u32>)> {
    let offsets = size.packed(2048, 256);
    let tokens = size.of(2048);
    let shape = attention::Shape { tokens, heads: 4, kv_heads: 4, head_dim: 64, longest: size.of(256) };
    vec![(shape, offsets)]
}

/// Rows to normalise, rotate and activate: the residual stream, a packed `[q | k | v]`, a feed-forward layer.
pub fn norms(size: Size) -> Vec<rms_norm::Shape> {
    vec![rms_norm::Shape::rows(size.of(2048), 256), rms_norm::Shape::rows(size.of(8192), 2048)]
}

/// Query and key heads of the preset `bench-olmoe`.
pub fn ropes(size: Size) -> Vec<rope::Shape> {
    vec![rope::Shape { rows: size.of(2048), heads: 8, head_dim: 64, stride: 768, positions: 256 }]
}

/// Gated dense feed-forward rows.
pub fn activations(size: Size) -> Vec<activation::Shape> {
    vec![activation::Shape { rows: size.of(2048), width: 1024, gated: true }]
}

/// Embeddings of the preset `bench-olmoe` and of the released tokenizer's vocabulary.
pub fn embeddings(size: Size) -> Vec<embedding::Shape> {
    [4096, 100_352]
        .map(|vocabulary| embedding::Shape {
            rows: size.of(2048),
            vocabulary: size.of(vocabulary),
            width: 256,
        })
        .into()
}

/// Chunks of logits, `(rows, vocabulary)`.
pub fn cross_entropies(size: Size) -> Vec<(usize, usize)> {
    vec![(size.of(2048), 4096), (size.of(256), 100_352)]
}

/// Parameters of an optimiser step, the second as many as the preset `bench-olmoe` has.
pub fn arenas(size: Size) -> Vec<usize> {
    vec![size.of(65_536), size.of(15_800_000)]
}

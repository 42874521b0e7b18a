//! The least that an op has to do for a shape: FLOPs, and bytes that must move once.
//!
//! An addition, multiplication, comparison, division, root, exponential or logarithm counts as one FLOP, a multiply-add as
//! two. Every input is read once and every output written once; what an op adds to is read and written. Reals and indices
//! are of four bytes, activations and matrices of what the backend stores. Scratch, and whatever an op reads twice, is its
//! own affair.

use emo::ops::router::RouterConfig;
use emo::ops::{
    activation, attention, embedding, experts, grouped_gemm, linear, permutation, rms_norm, rope,
    router_logits, smoothing,
};

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// Arithmetic, by the rule above.
    pub flops: usize,
    /// Where everything is of four bytes.
    pub bytes: usize,
    /// Elements among them that are activations or matrices.
    pub stored: usize,
}

impl Floor {
    /// Bytes where an activation or an element of a matrix takes `size` of them.
    pub fn bytes_of(&self, size: usize) -> usize {
        self.bytes - self.stored * (4 - size)
    }
}

impl std::ops::Add for Floor {
    type Output = Self;

    /// One after the other.
    fn add(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            bytes: self.bytes + other.bytes,
            stored: self.stored + other.stored,
        }
    }
}

/// `flops`, and elements of four bytes: `stored` ones and others.
fn floor(flops: usize, stored: usize, others: usize) -> Floor {
    Floor { flops, bytes: 4 * (stored + others), stored }
}

/// A product of `[rows, inputs]` and a weight of `outputs` rows; the weight gradient is read and written.
pub fn linear(shape: linear::Shape) -> [Floor; 3] {
    let linear::Shape { rows, inputs, outputs } = shape;
    let (x, w, y) = (rows * inputs, inputs * outputs, rows * outputs);
    let flops = 2 * rows * inputs * outputs;
    [floor(flops, x + w + y, 0), floor(flops, x + w + y, 0), floor(flops, x + y, 2 * w)]
}

/// Forward, dgrad and wgrad where `x` holds `tokens` rows, gathered, and `dy` all rows.
pub fn grouped_gemm(shape: grouped_gemm::Shape, tokens: usize) -> [Floor; 3] {
    let grouped_gemm::Shape { groups, rows, inputs, outputs } = shape;
    let (x, w, y) = (tokens * inputs, groups * inputs * outputs, rows * outputs);
    let flops = 2 * rows * inputs * outputs;
    [floor(flops, x + w + y, rows), floor(flops, rows * inputs + w + y, 0), floor(flops, x + y, 2 * w + rows)]
}

/// Forward and backward.
pub fn experts(shape: experts::Shape) -> [Floor; 2] {
    let (rows, d) = (shape.rows(), shape.width);
    let weights = shape.experts * d * (shape.pre() + shape.hidden);
    let flops = 2 * rows * d * (shape.pre() + shape.hidden);
    let (x, pre, out) = (shape.tokens * d, rows * shape.pre(), rows * d);
    // Backward: the token, slot, weight and weight gradient of each row.
    [
        floor(flops, x + weights + pre + out, rows),
        floor(2 * flops, 2 * x + weights + pre + out, 4 * rows + 2 * weights),
    ]
}

/// Forward, and backward with both gradients added to what is there.
pub fn router_logits(shape: router_logits::Shape) -> [Floor; 2] {
    let router_logits::Shape { tokens, width, experts } = shape;
    let (x, w, logits) = (tokens * width, experts * width, tokens * experts);
    let flops = 2 * tokens * width * experts;
    [floor(flops, x, w + logits), floor(2 * flops, 3 * x, 3 * w + logits)]
}

/// Forward: the softmax's maximum, difference, exponential, sum and quotient, and one comparison in the choice.
/// Backward with a gradient on the scores and the z-loss: a dot product, the Jacobian and a multiply-add.
pub fn router(config: &RouterConfig, tokens: usize, pools: usize) -> [Floor; 2] {
    let (scores, slots) = (tokens * config.routed(), tokens * config.top_k);
    let logits = tokens * config.experts;
    let mask = pools * config.routed();
    let forward = floor(6 * scores, 0, logits + scores + 2 * slots + tokens + config.experts);
    let backward = floor(6 * scores, 0, 2 * scores + 2 * slots + tokens + logits);
    [forward, backward].map(|floor| Floor { bytes: floor.bytes + mask, ..floor })
}

/// Forward, and backward with learned taps.
pub fn smoothing(shape: smoothing::Shape) -> [Floor; 2] {
    let elements = shape.tokens * shape.channels;
    let flops = 2 * elements * shape.width;
    [floor(flops, 0, 2 * elements), floor(2 * flops, 0, 3 * elements)]
}

/// A softmax and its sum over each document; the choice is one comparison an expert and document.
pub fn pool(tokens: usize, routed: usize, documents: usize) -> Floor {
    let chosen = documents * routed;
    let floor = floor(6 * tokens * routed + chosen, 0, tokens * routed + documents + chosen);
    Floor { bytes: floor.bytes + chosen, ..floor }
}

/// A loss on scores that does `flops` on each: reads them and adds to their gradient.
pub fn score_loss(tokens: usize, routed: usize, flops: usize) -> Floor {
    floor(flops * tokens * routed, 0, 3 * tokens * routed)
}

/// Norms (2), each pair's dot product (2) and its share in two gradients (4), and each gradient's part along its row (2).
pub fn redundancy(tokens: usize, top_k: usize, width: usize) -> Floor {
    let (rows, pairs) = (tokens * top_k, tokens * top_k * (top_k - 1) / 2);
    floor((4 * rows + 6 * pairs) * width, 2 * rows * width, rows)
}

/// Plan, dispatch, its backward, combine, its backward.
pub fn moves(shape: permutation::Shape, width: usize) -> [Floor; 5] {
    let slots = shape.tokens * shape.top_k;
    let (rows, x) = (slots * width, shape.tokens * width);
    [
        floor(0, 0, 4 * slots + shape.experts + 1),
        floor(0, rows + x, slots),
        floor(rows.saturating_sub(x), rows + x, slots),
        floor(2 * rows, rows + x, 2 * slots),
        floor(3 * rows, 2 * rows + x, 3 * slots),
    ]
}

/// Forward: the scores and the sum of values, half of each by causality. Backward: those scores again and four products.
pub fn attention(shape: attention::Shape, offsets: &[u32]) -> [Floor; 2] {
    let lengths = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
    attention_of_pairs(shape, lengths.map(|length| length * (length + 1) / 2).sum())
}

/// The same for so many pairs of tokens that see each other.
pub fn attention_of_pairs(shape: attention::Shape, pairs: usize) -> [Floor; 2] {
    let product = 2 * pairs * shape.heads * shape.head_dim;
    let (qkv, out, lse) =
        (shape.tokens * shape.row(), shape.tokens * shape.out(), shape.tokens * shape.heads);
    [floor(2 * product, qkv + out, lse), floor(5 * product, 2 * qkv + 2 * out, lse)]
}

/// Forward: a square and sum, two products. Backward: `dy w`, a dot product, `dx` (3) and `dw` (3).
pub fn rms_norm(shape: rms_norm::Shape) -> [Floor; 2] {
    let vectors = shape.rows * shape.groups;
    let elements = vectors * shape.width;
    [
        floor(4 * elements, 2 * elements, vectors + shape.width),
        floor(9 * elements, 3 * elements, vectors + 3 * shape.width),
    ]
}

/// Two products and a sum for an element that is read and written; both tables.
pub fn rope(shape: rope::Shape) -> Floor {
    let elements = shape.rows * shape.heads * shape.head_dim;
    floor(3 * elements, 2 * elements, shape.positions * shape.head_dim + shape.rows)
}

/// SwiGLU. Forward: exponential, sum, quotient, two products. Backward: five more products and sums for the derivatives.
pub fn activation(shape: activation::Shape) -> [Floor; 2] {
    let (out, pre) = (shape.rows * shape.width, shape.rows * shape.pre());
    [floor(5 * out, pre + out, 0), floor(10 * out, 2 * pre + out, 0)]
}

/// Forward and backward where all ids differ.
pub fn embedding(shape: embedding::Shape) -> [Floor; 2] {
    let elements = shape.rows * shape.width;
    [floor(0, 2 * elements, shape.rows), floor(elements, elements, 2 * elements + shape.rows)]
}

/// Maximum, difference, exponential, sum and scaling, in place.
pub fn cross_entropy(rows: usize, vocabulary: usize) -> Floor {
    floor(5 * rows * vocabulary, 2 * rows * vocabulary, 3 * rows)
}

/// AdamW: scaling (1), both moments (3 + 4), decay (1), step (6). Reads four arrays, writes three.
pub fn adamw(parameters: usize) -> Floor {
    floor(15 * parameters, 0, 7 * parameters)
}

/// A multiply-add an element.
pub fn sum_of_squares(elements: usize) -> Floor {
    floor(2 * elements, 0, elements)
}

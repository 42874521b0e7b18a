//! The least time an op can take on a card: its FLOPs at the rate of the units that do them, or its bytes at the rate of
//! memory, whichever is more. Computed from data sheets; nothing here was measured.

use std::fmt::Write as _;

/// A card's rates as its data sheet states them, dense: 10^12 bytes a second of memory, 10^12 FLOP a second.
pub struct Rates {
    /// The card, as its driver names it in part.
    pub name: &'static str,
    pub memory: f64,
    pub bf16: f64,
    pub tf32: f64,
    /// Outside tensor cores.
    f32: f64,
}

/// A100 SXM 80 GB, H100 SXM, B200 (a card of an HGX B200).
pub const RATES: [Rates; 3] = [
    Rates { name: "A100", memory: 2.039, bf16: 312.0, tf32: 156.0, f32: 19.5 },
    Rates { name: "H100", memory: 3.35, bf16: 989.4, tf32: 494.7, f32: 66.9 },
    Rates { name: "B200", memory: 8.0, bf16: 2250.0, tf32: 1125.0, f32: 75.0 },
];

// One layer of the released EMO model (preset `emo-1b14b`) on 8 rows of 2,048 tokens, each row one document.
const TOKENS: f64 = 16384.0;
const LENGTH: f64 = 2048.0;
const WIDTH: f64 = 2048.0;
const HEADS: f64 = 16.0;
const HIDDEN: f64 = 1024.0;
const EXPERTS: f64 = 128.0;
const SLOTS: f64 = 8.0;
const VOCABULARY: f64 = 100_352.0;

/// What an op must do once.
struct Op {
    name: &'static str,
    /// By tensor cores, else by the ordinary units.
    products: bool,
    flops: f64,
    /// Elements in the storage type that are read or written.
    stored: f64,
    /// Bytes that are the same in either storage: weights of norms, indices, f32 and integer arrays.
    rest: f64,
}

fn op(name: &'static str, products: bool, flops: f64, stored: f64, rest: f64) -> Op {
    Op { name, products, flops, stored, rest }
}

/// Every input read once, every output written once, what an op adds to read and written.
fn ops() -> Vec<Op> {
    let (x, rows) = (TOKENS * WIDTH, TOKENS * SLOTS);
    let (qkv, square) = (3.0 * x, 3.0 * WIDTH * WIDTH);
    let projection = 2.0 * TOKENS * square;
    let weights = EXPERTS * WIDTH * 3.0 * HIDDEN;
    let experts = 2.0 * rows * WIDTH * 3.0 * HIDDEN;
    let (pre, out) = (rows * 2.0 * HIDDEN, rows * WIDTH);
    let pairs = TOKENS * (LENGTH + 1.0) / 2.0;
    let attention = 2.0 * pairs * WIDTH;
    let lse = 4.0 * TOKENS * HEADS;
    let (logits, table) = (TOKENS * EXPERTS, VOCABULARY * WIDTH);
    vec![
        op("linear forward, queries, keys and values", true, projection, x + square + qkv, 0.0),
        op("linear dgrad", true, projection, x + square + qkv, 0.0),
        op("linear wgrad", true, projection, x + qkv, 8.0 * square),
        op(
            "experts forward (two grouped products, SwiGLU)",
            true,
            experts,
            x + weights + pre + out,
            4.0 * rows,
        ),
        op(
            "experts backward",
            true,
            2.0 * experts,
            2.0 * x + weights + pre + out,
            8.0 * weights + 16.0 * rows,
        ),
        op("attention forward", true, 2.0 * attention, qkv + x, lse),
        op("attention backward", true, 5.0 * attention, 2.0 * qkv + 2.0 * x, lse),
        op("router logits forward", false, 2.0 * logits * WIDTH, x, 4.0 * (logits + EXPERTS * WIDTH)),
        op("router forward", false, 6.0 * logits, 0.0, 8.0 * logits + 8.0 * rows + 4.0 * TOKENS),
        op("router backward", false, 6.0 * logits, 0.0, 12.0 * logits + 8.0 * rows + 4.0 * TOKENS),
        op("plan", false, 0.0, 0.0, 16.0 * rows),
        op("dispatch", false, 0.0, x + out, 4.0 * rows),
        op("combine", false, 2.0 * out, x + out, 8.0 * rows),
        op("combine backward", false, 3.0 * out, x + 2.0 * out, 12.0 * rows),
        op("RMSNorm forward", false, 4.0 * x, 2.0 * x, 4.0 * TOKENS),
        op("RMSNorm backward", false, 9.0 * x, 3.0 * x, 4.0 * TOKENS),
        op("RoPE, queries and keys", false, 6.0 * x, 4.0 * x, 4.0 * TOKENS),
        op("embedding forward", false, 0.0, 2.0 * x, 4.0 * TOKENS),
        op(
            "cross-entropy, forward and backward in place",
            false,
            5.0 * TOKENS * VOCABULARY,
            2.0 * TOKENS * VOCABULARY,
            12.0 * TOKENS,
        ),
        op("AdamW on the embedding table", false, 15.0 * table, table, 28.0 * table),
    ]
}

impl Op {
    fn bytes(&self, element: f64) -> f64 {
        self.stored * element + self.rest
    }

    /// Seconds, and whether memory is what takes them.
    fn least(&self, rates: &Rates, element: f64) -> (f64, bool) {
        let rate = match (self.products, element == 2.0) {
            (true, true) => rates.bf16,
            // Three tf32 products make one of f32.
            (true, false) => rates.tf32 / 3.0,
            (false, _) => rates.f32,
        };
        let (arithmetic, memory) = (self.flops / rate * 1e-12, self.bytes(element) / rates.memory * 1e-12);
        (arithmetic.max(memory), memory > arithmetic)
    }
}

/// The table, for both storages.
pub fn table() -> String {
    let mut out = format!(
        "Computed, never measured: the floor of one layer's ops on {TOKENS} tokens (documents of {LENGTH}; width {WIDTH}, \
         {HEADS} heads, {EXPERTS} experts of {HIDDEN}, {SLOTS} a token; vocabulary {VOCABULARY}), in microseconds. `m` where \
         memory is the floor, `a` where arithmetic is.\n\n\
         | op | GFLOP | MB, bf16 | A100 | H100 | B200 | MB, f32 | A100 | H100 | B200 |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for op in ops() {
        let _ = write!(out, "| {} | {:.1} ", op.name, op.flops * 1e-9);
        for element in [2.0, 4.0] {
            let _ = write!(out, "| {:.1} ", op.bytes(element) * 1e-6);
            for rates in &RATES {
                let (seconds, memory) = op.least(rates, element);
                let _ = write!(out, "| {:.1} {} ", seconds * 1e6, if memory { "m" } else { "a" });
            }
        }
        out.push_str("|\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{RATES, op};

    #[test]
    fn the_slower_of_memory_and_arithmetic_counts() {
        let close = |(found, memory): (f64, bool), expected: (f64, bool)| {
            assert!((found - expected.0).abs() < 1e-9 && memory == expected.1, "{found} {memory}");
        };
        // 312 TFLOP take a second; so do 2.039 TB.
        let product = op("a product", true, 624e12, 0.5e12, 0.0);
        close(product.least(&RATES[0], 2.0), (2.0, false));
        let copy = op("a copy", false, 1.0, 2.039e12, 0.0);
        close(copy.least(&RATES[0], 2.0), (2.0, true));
        close(product.least(&RATES[0], 4.0), (12.0, false));
    }
}

//! Every op as plain scalar f64 code, forward and backward: the specification that the backends are tested against.
//!
//! Each module states its formula, its shapes and where the formula comes from, and says it again as the shortest loop
//! that computes it. Nothing here is meant to be fast: functions allocate what they return.
//!
//! Conventions, the same for every module:
//! * tensors are row-major slices `&[f64]`, written `x[T, d]` in the docs; indices are `u32`;
//! * `T` tokens, `d` model width, `h` expert width, `E` experts, `E_s` shared, `E_r = E - E_s` routed, `k` slots a token,
//!   `R = T k` dispatched rows;
//! * documents (segments) of a packed batch are `offsets[n + 1]`: segment `i` is tokens `offsets[i]..offsets[i + 1]`,
//!   the first offset is 0 and the last is `T`;
//! * a backward returns gradients as fresh values. Where a backend accumulates parameter gradients, the caller of the
//!   reference adds them itself;
//! * shapes are assumed to fit, because the safe API checks them before any backend runs. A slice that is too short or
//!   an index out of range **panics** (bounds check), in every function of this module.
//!
//! | module | op |
//! |---|---|
//! | [`activation`] | SiLU, GELU (erf and tanh), ReLU, ReLU² and their derivatives |
//! | [`linear`] | dense `y = x Wᵀ + b` |
//! | [`router_logits`] | the router's linear map |
//! | [`router`] | masked softmax or sigmoid, top-k, normalisation, shared experts, counts |
//! | [`smoothing`] | 1-D convolution of router logits over the tokens of a document |
//! | [`pool`] | document pools (EMO) and document boundaries from EOS |
//! | [`losses`] | load balance, router z, mutual information, sequence and domain consistency, redundancy |
//! | [`usage`] | how evenly experts are used |
//! | [`permutation`] | plan, dispatch, combine |
//! | [`all_to_all`] | who sends which rows to whom when experts are spread over ranks |
//! | [`grouped_gemm`] | one matrix product an expert |
//! | [`experts`] | the expert MLPs over a plan |
//! | [`moe`] | the whole layer |
//! | [`rms_norm`], [`rope`], [`attention`], [`embedding`], [`cross_entropy`] | the rest of a transformer |
//! | [`adamw`], [`global_norm`] | the optimiser step and gradient clipping |

pub mod activation;
pub mod adamw;
pub mod all_to_all;
pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod experts;
pub mod global_norm;
pub mod grouped_gemm;
pub mod linear;
pub mod losses;
pub mod moe;
pub mod permutation;
pub mod pool;
pub mod rms_norm;
pub mod rope;
pub mod router;
pub mod router_logits;
pub mod smoothing;
pub mod usage;

/// `Σ_i a_i b_i` in index order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// `y += a x`, element by element.
fn add_scaled(y: &mut [f64], a: f64, x: &[f64]) {
    assert_eq!(y.len(), x.len());
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// `(softmax(z), logsumexp(z))`, shifted by the maximum so that nothing overflows. A row whose entries are all `-inf`
/// (or that is empty) gives zeros and 0 instead of NaN. A NaN entry gives NaN.
fn softmax(z: &[f64]) -> (Vec<f64>, f64) {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if z.iter().all(|v| *v == f64::NEG_INFINITY) {
        return (vec![0.0; z.len()], 0.0);
    }
    let exp: Vec<f64> = z.iter().map(|v| (v - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    (exp.iter().map(|v| v / sum).collect(), max + sum.ln())
}

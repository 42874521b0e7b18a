//! The ops that a backend must offer to be run on the kernel vectors.
//!
//! The signatures are the reference's: f64 in and out, so that one runner serves every precision. A backend in f32 rounds
//! what it is given (the inputs of the cases are exact in f32) and widens what it returns.

use super::compare::Tolerance;
use emo::ops::router::RouterConfig;
use emo::reference as spec;
use emo::reference::losses::{Loss, MutualInformation};
use emo::reference::permutation::Plan;
use emo::reference::pool::EosRule;
use emo::reference::smoothing::Filter;
use emo::reference::usage::Usage;

/// A backend under test.
#[rustfmt::skip]
pub trait KernelBackend {
    fn name(&self) -> &'static str;
    fn tolerance(&self) -> Tolerance;

    fn router_forward(&self, cfg: &RouterConfig, logits: &[f64], bias: Option<&[f64]>, selection_bias: Option<&[f64]>, keep: Option<&[bool]>) -> spec::router::Output;
    fn router_backward(&self, cfg: &RouterConfig, logits: &[f64], bias: Option<&[f64]>, keep: Option<&[bool]>, out: &spec::router::Output, dweights: &[f64], dprobs: &[f64], dlse: &[f64]) -> spec::router::Gradients;
    fn load_balance(&self, counts: &[u64], probs: &[f64], scale: f64, divisor: f64, valid: Option<&[bool]>) -> Loss;
    fn load_balance_pooled(&self, indices: &[u32], probs: &[f64], layers: usize, k: usize, experts: usize, valid: Option<&[bool]>) -> Loss;
    fn router_z(&self, lse: &[f64], divisor: f64, valid: Option<&[bool]>) -> Loss;
    fn mutual_information(&self, probs: &[f64], routed: usize, w_cond: f64, w_marg: f64, valid: Option<&[bool]>) -> MutualInformation;
    fn usage(&self, counts: &[u64]) -> Usage;
    fn smoothing_forward(&self, filter: &Filter, x: &[f64], channels: usize, offsets: &[u32]) -> Vec<f64>;
    fn smoothing_backward(&self, filter: &Filter, x: &[f64], dy: &[f64], channels: usize, offsets: &[u32]) -> (Vec<f64>, Vec<f64>);
    fn segment_offsets_from_eos(&self, ids: &[u32], rows: usize, eos: u32, rule: EosRule) -> Vec<u32>;
    fn pool(&self, logits: &[f64], experts: usize, routed: usize, offsets: &[u32], sizes: &[u32], forced: usize) -> Vec<bool>;
    fn plan(&self, indices: &[u32], k: usize, experts: usize) -> Plan;
    fn dispatch(&self, plan: &Plan, x: &[f64], d: usize) -> Vec<f64>;
    fn dispatch_backward(&self, plan: &Plan, drows: &[f64], d: usize, tokens: usize) -> Vec<f64>;
    fn combine(&self, plan: &Plan, rows: &[f64], weights: &[f64], d: usize, tokens: usize) -> Vec<f64>;
    fn combine_backward(&self, plan: &Plan, rows: &[f64], weights: &[f64], dy: &[f64], d: usize) -> (Vec<f64>, Vec<f64>);
    fn grouped_forward(&self, x: &[f64], offsets: &[u32], w: &[f64], k: usize, n: usize) -> Vec<f64>;
    fn grouped_dgrad(&self, dy: &[f64], offsets: &[u32], w: &[f64], k: usize, n: usize) -> Vec<f64>;
    fn grouped_wgrad(&self, x: &[f64], dy: &[f64], offsets: &[u32], k: usize, n: usize) -> Vec<f64>;
    fn moe_forward(&self, layer: &spec::moe::Layer, x: &[f64]) -> spec::moe::Output;
    fn moe_backward(&self, layer: &spec::moe::Layer, x: &[f64], out: &spec::moe::Output, dy: &[f64], aux: &spec::moe::AuxGradients) -> spec::moe::Gradients;
}

/// The specification itself, in f64: `|err| <= 1e-9 (1 + |ref|)`.
pub struct Reference;

#[rustfmt::skip]
impl KernelBackend for Reference {
    fn name(&self) -> &'static str { "reference" }
    fn tolerance(&self) -> Tolerance { Tolerance { relative: 1e-9, by_terms: false, tie: 0.0 } }

    fn router_forward(&self, cfg: &RouterConfig, logits: &[f64], bias: Option<&[f64]>, selection_bias: Option<&[f64]>, keep: Option<&[bool]>) -> spec::router::Output {
        spec::router::forward(cfg, logits, bias, selection_bias, keep)
    }
    fn router_backward(&self, cfg: &RouterConfig, logits: &[f64], bias: Option<&[f64]>, keep: Option<&[bool]>, out: &spec::router::Output, dweights: &[f64], dprobs: &[f64], dlse: &[f64]) -> spec::router::Gradients {
        spec::router::backward(cfg, logits, bias, keep, out, dweights, dprobs, dlse)
    }
    fn load_balance(&self, counts: &[u64], probs: &[f64], scale: f64, divisor: f64, valid: Option<&[bool]>) -> Loss {
        spec::losses::load_balance(counts, probs, scale, divisor, valid)
    }
    fn load_balance_pooled(&self, indices: &[u32], probs: &[f64], layers: usize, k: usize, experts: usize, valid: Option<&[bool]>) -> Loss {
        spec::losses::load_balance_pooled(indices, probs, layers, k, experts, valid)
    }
    fn router_z(&self, lse: &[f64], divisor: f64, valid: Option<&[bool]>) -> Loss {
        spec::losses::router_z(lse, divisor, valid)
    }
    fn mutual_information(&self, probs: &[f64], routed: usize, w_cond: f64, w_marg: f64, valid: Option<&[bool]>) -> MutualInformation {
        spec::losses::mutual_information(probs, routed, w_cond, w_marg, valid)
    }
    fn usage(&self, counts: &[u64]) -> Usage {
        spec::usage::forward(counts)
    }
    fn smoothing_forward(&self, filter: &Filter, x: &[f64], channels: usize, offsets: &[u32]) -> Vec<f64> {
        spec::smoothing::forward(filter, x, channels, offsets)
    }
    fn smoothing_backward(&self, filter: &Filter, x: &[f64], dy: &[f64], channels: usize, offsets: &[u32]) -> (Vec<f64>, Vec<f64>) {
        spec::smoothing::backward(filter, x, dy, channels, offsets)
    }
    fn segment_offsets_from_eos(&self, ids: &[u32], rows: usize, eos: u32, rule: EosRule) -> Vec<u32> {
        spec::pool::segment_offsets_from_eos(ids, rows, eos, rule)
    }
    fn pool(&self, logits: &[f64], experts: usize, routed: usize, offsets: &[u32], sizes: &[u32], forced: usize) -> Vec<bool> {
        spec::pool::forward(logits, experts, routed, offsets, sizes, forced)
    }
    fn plan(&self, indices: &[u32], k: usize, experts: usize) -> Plan {
        spec::permutation::plan(indices, k, experts)
    }
    fn dispatch(&self, plan: &Plan, x: &[f64], d: usize) -> Vec<f64> {
        spec::permutation::dispatch(plan, x, d)
    }
    fn dispatch_backward(&self, plan: &Plan, drows: &[f64], d: usize, tokens: usize) -> Vec<f64> {
        spec::permutation::dispatch_backward(plan, drows, d, tokens)
    }
    fn combine(&self, plan: &Plan, rows: &[f64], weights: &[f64], d: usize, tokens: usize) -> Vec<f64> {
        spec::permutation::combine(plan, rows, weights, d, tokens)
    }
    fn combine_backward(&self, plan: &Plan, rows: &[f64], weights: &[f64], dy: &[f64], d: usize) -> (Vec<f64>, Vec<f64>) {
        spec::permutation::combine_backward(plan, rows, weights, dy, d)
    }
    fn grouped_forward(&self, x: &[f64], offsets: &[u32], w: &[f64], k: usize, n: usize) -> Vec<f64> {
        spec::grouped_gemm::forward(x, None, offsets, w, k, n)
    }
    fn grouped_dgrad(&self, dy: &[f64], offsets: &[u32], w: &[f64], k: usize, n: usize) -> Vec<f64> {
        spec::grouped_gemm::dgrad(dy, offsets, w, k, n)
    }
    fn grouped_wgrad(&self, x: &[f64], dy: &[f64], offsets: &[u32], k: usize, n: usize) -> Vec<f64> {
        spec::grouped_gemm::wgrad(x, None, dy, offsets, k, n)
    }
    fn moe_forward(&self, layer: &spec::moe::Layer, x: &[f64]) -> spec::moe::Output {
        spec::moe::forward(layer, x)
    }
    fn moe_backward(&self, layer: &spec::moe::Layer, x: &[f64], out: &spec::moe::Output, dy: &[f64], aux: &spec::moe::AuxGradients) -> spec::moe::Gradients {
        spec::moe::backward(layer, x, out, dy, aux)
    }
}

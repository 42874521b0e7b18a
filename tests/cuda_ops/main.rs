//! Every op of the CUDA backend, in f32 and bf16 storage, against the specification: the calls and the shapes are those of
//! the CPU's tests.
#![cfg(feature = "cuda")]

#[path = "../common/agree.rs"]
mod agree;
#[path = "../cpu_ops/all_to_all/plans.rs"]
mod all_to_all;
#[path = "../cpu_ops/attention.rs"]
mod attention;
#[path = "../cpu_ops/dense.rs"]
mod dense;
#[path = "../common/device.rs"]
mod device;
mod errors;
#[path = "../common/gpu.rs"]
mod gpu;
mod heads;
#[path = "../cpu_ops/losses.rs"]
mod losses;
mod machines;
mod memory;
#[path = "../cpu_ops/permutation.rs"]
mod permutation;
mod products;
mod ranking;
#[path = "../cpu_ops/routing.rs"]
mod routing;
mod rows;
// The benches use the rest of the table.
#[allow(dead_code)]
#[path = "../common/shapes.rs"]
mod shapes;
#[path = "../cpu_ops/smoothed.rs"]
mod smoothed;

#[test]
fn logits_depend_on_nothing_but_their_token() {
    let Some((f32, bf16)) = machines::devices() else { return };
    routing::logits_of_tokens_alone(f32);
    routing::logits_of_tokens_alone(bf16);
}

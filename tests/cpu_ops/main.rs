//! Every op of the CPU backend: against the specification, with every instruction set of this processor, bit-identical for
//! 1, 2 and 7 threads; and what it says to wrong arguments. One binary, so that the kernels are compiled once for all of it.

#[path = "../common/agree.rs"]
mod agree;
mod all_to_all;
mod attention;
mod cached;
mod dense;
#[path = "../common/device.rs"]
mod device;
mod errors;
mod experts;
mod gemm;
mod losses;
mod machines;
mod memory;
mod no_panic;
mod permutation;
mod random;
mod ranking;
mod recipes;
mod routing;
mod smoothed;
// The benches use the rest of the table.
#[allow(dead_code)]
#[path = "../common/shapes.rs"]
mod shapes;

/// Nor do the decisions depend on the instruction set.
#[test]
fn logits_depend_on_nothing_but_their_token() {
    let found: Vec<_> = machines::machines().iter().flatten().map(routing::logits_of_tokens_alone).collect();
    found.iter().for_each(|logits| assert_eq!(logits, &found[0]));
}

//! What the ops are, independent of who computes them: configurations, shapes, argument structs and their checks.
//!
//! A module here has a namesake in [`crate::reference`] (the specification) and in every backend. The argument structs
//! carry the documentation of the ops: formula, shapes, what is overwritten and what accumulates.

mod check;

pub mod activation;
pub mod adamw;
pub mod all_to_all;
pub mod attention;
pub mod cross_entropy;
pub mod embedding;
pub mod experts;
pub mod grouped_gemm;
pub mod linear;
pub mod losses;
pub mod permutation;
pub mod pool;
pub mod rms_norm;
pub mod rope;
pub mod router;
pub mod router_logits;
pub mod segments;
pub mod smoothing;

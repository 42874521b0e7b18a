//! The CPU backend: the ops in f32 on values stored as f32 or bf16, parallel and vectorised, with the instruction set chosen at
//! run time.
//!
//! [`Cpu`] is the backend; a module here has a namesake in [`crate::ops`], which documents the op. Results do not depend
//! on the number of threads: every output element belongs to one task, and sums over tokens are cut into blocks by the
//! shape alone and added in ascending order.

pub mod activation;
mod adamw;
mod all_to_all;
mod attention;
mod backend;
mod buffer;
mod check;
mod clock;
mod cross_entropy;
mod embedding;
pub mod experts;
pub mod gemm;
pub mod grouped_gemm;
pub mod isa;
pub mod linear;
mod losses;
mod memory;
pub mod peak;
mod permutation;
mod pool;
mod products;
mod rms_norm;
mod rope;
mod router;
mod router_logits;
pub mod simd;
mod smoothing;
mod table;
pub mod threads;
mod vector;

pub use backend::Cpu;
pub use buffer::Buffer;
pub use clock::OpTime;

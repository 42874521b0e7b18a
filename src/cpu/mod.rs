//! The CPU backend: the ops in f32, parallel and vectorised, with the instruction set chosen at run time.

pub mod activation;
mod check;
pub mod experts;
pub mod gemm;
pub mod grouped_gemm;
pub mod isa;
pub mod linear;
pub mod peak;
pub mod simd;
pub mod threads;

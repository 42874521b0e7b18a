//! The CPU backend: the ops in f32, parallel and vectorised, with the instruction set chosen at run time.

pub mod gemm;
pub mod isa;
pub mod peak;
pub mod simd;
pub mod threads;

//! The CPU backend: the ops in f32, parallel and vectorised, with the instruction set chosen at run time.

pub mod isa;
pub mod simd;
pub mod threads;

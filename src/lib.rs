//! Handwritten Mixture-of-Experts kernels with a safe API.

pub mod cpu;
pub mod error;
pub mod ops;
pub mod reference;

pub use error::{Error, Result};

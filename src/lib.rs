//! Handwritten Mixture-of-Experts kernels with a safe API.

pub mod backend;
pub mod cpu;
pub mod error;
pub mod ops;
pub mod oracle;
pub mod reference;

pub use backend::Backend;
pub use error::{Error, Result};

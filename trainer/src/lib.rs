//! Pretrains EMO, a mixture-of-experts language model whose modules emerge from document boundaries.

pub mod checkpoint;
pub mod data;
pub mod metrics;
pub mod model;
pub mod progress;
pub mod report;

//! Pretrains EMO, a mixture-of-experts language model whose modules emerge from document boundaries.

pub mod data;

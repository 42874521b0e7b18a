//! Pretrains EMO, a mixture-of-experts language model whose modules emerge from document boundaries.

pub mod analysis;
pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod generate;
mod lock;
pub mod metrics;
pub mod model;
pub mod output;
pub mod progress;
mod replace;
pub mod report;
mod small;
pub mod subset;
pub mod tensorboard;
pub mod train;

pub use error::{Error, Result};

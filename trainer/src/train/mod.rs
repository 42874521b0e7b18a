//! The training loop: batches in, checkpoints, metrics and a report out.

pub mod schedule;

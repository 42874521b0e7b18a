//! The parts of the trainer: model and checkpoints.

pub mod checkpoint;
pub mod model;

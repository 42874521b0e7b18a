//! The training loop: batches in, checkpoints, metrics and a report out.
//!
//! [`pretrain`] is the loop, [`session`] one step of it; [`text`], [`inputs`], [`optimiser`] and [`schedule`]
//! are what a step is made of.

pub mod flops;
pub mod folder;
mod freeze;
pub mod inputs;
pub mod interrupt;
pub mod optimiser;
mod pools;
pub mod pretrain;
pub mod schedule;
pub mod session;
pub mod text;
pub mod throughput;
pub mod watch;

//! What the program does, started as its users start it: a file for each behaviour, one binary for all of them.

mod accidents;
mod analysis;
mod browser;
mod cli;
mod cluster;
mod determinism;
mod foreign_tokens;
mod full_disk;
mod generation;
mod looking;
mod requests;
mod resume;
#[path = "../shards/mod.rs"]
mod shards;
mod starting;
mod subsets;
#[path = "../support/mod.rs"]
mod support;
mod transfer;
mod tuning;
mod vanished_mount;

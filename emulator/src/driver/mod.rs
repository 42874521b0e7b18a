//! The emulator as `libcuda.so`: the functions of the CUDA driver API that a program needs to manage memory, load
//! modules, launch kernels and capture graphs, with the names and the C signatures of `cuda.h` 13.0.
//!
//! All work is done by the time the function that orders it returns, in the order in which the program orders it. That
//! is one of the orders that streams allow. Faults of kernels nevertheless arrive as they do from a device: the launch
//! succeeds, every later call in the context fails.

mod absent;
mod attributes;
mod context;
mod entry;
mod error;
mod event;
mod graph;
mod image;
mod launch;
mod library;
mod memory;
mod module;
mod occupancy;
mod pool;
mod proc_address;
mod state;
mod stats;
mod stream;
mod switches;

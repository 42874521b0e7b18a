//! Decoded programs and the interpreter that runs them, a warp at a time.

mod access;
mod async_copy;
mod atomic;
mod block;
mod code;
mod collective;
mod compare;
mod convert;
mod decode;
mod float;
mod integer;
mod kinds;
mod lane_races;
mod lanes;
mod launch;
mod layout;
mod pack;
mod program;
mod rounding;
mod shared;
mod step;
mod tensor;
mod warp;

pub(crate) use launch::launch;
pub(crate) use program::Program;

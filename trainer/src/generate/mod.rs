//! Continuing text: sequences that grow a token at a time over cached keys and values, sampling, and text as it comes.

mod decoder;
mod sample;
mod text;

pub use decoder::Decoder;
pub use sample::{Sampler, Sampling, leave_out_empty};
pub use text::Stream;

//! Checkpoints: safetensors files, and models in the Hugging Face layout.

mod error;
pub mod hf;
mod hf_config;
mod hf_names;
pub mod safetensors;

pub use error::{Error, Result};
pub use hf_config::Family;
pub use hf_names::HfTensor;

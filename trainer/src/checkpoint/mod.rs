//! Checkpoints: folders that appear whole or not at all, with models in the Hugging Face layout.
//!
//! `<run>/checkpoints/step-00000100/` holds
//!
//! | file | content |
//! |---|---|
//! | `config.json`, `model.safetensors` | the model, as Hugging Face `emo` reads it |
//! | `optimizer.safetensors` | AdamW's moments by parameter name |
//! | `state.json` | step, tokens, data position |
//! | `config.toml` | the whole configuration of the run |
//! | `tokenizer.json` | the tokenizer, where the run's tokens are not bytes |
//! | `manifest.json` | length and CRC-32 of each of these |

mod error;
mod files;
pub mod folder;
pub mod hf;
mod hf_config;
mod hf_export;
mod hf_names;
mod kept;
pub mod safetensors;
pub mod state;
pub mod tokenizer;
pub mod transfer;
pub(crate) mod weights;

pub use error::{Error, Result};
pub(crate) use files::COMPANIONS;
pub use hf_config::Family;
pub(crate) use hf_export::first_difference;
pub use hf_names::HfTensor;

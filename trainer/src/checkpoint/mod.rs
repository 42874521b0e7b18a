//! Checkpoints: folders that appear whole or not at all.
//!
//! `<run>/checkpoints/step-00000100/` holds
//!
//! | file | content |
//! |---|---|
//! | `config.json`, `model.safetensors` | the model, as Hugging Face `emo` reads it |
//! | `optimizer.safetensors` | AdamW's moments and the routers' selection biases, by parameter name |
//! | `state.json` | step, data position, seed |
//! | `config.toml` | the whole configuration of the run |
//! | `manifest.json` | length and CRC-32 of each of these |

pub mod folder;
pub mod hf;
pub mod state;

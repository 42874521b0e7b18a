//! The counters a run needs beside weights and moments to go on as if it had never stopped.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::StreamPosition;
use crate::error::{Error, Result};
use crate::small;

/// File of [`State`].
pub const STATE: &str = "state.json";
/// File of the optimiser's moments.
pub const OPTIMISER: &str = "optimizer.safetensors";
/// File of the run's whole configuration.
pub const CONFIG: &str = "config.toml";

/// Counters. Random numbers are functions of these and the seed, so no generator has a state to save.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Optimiser steps done.
    pub step: u64,
    /// Tokens read.
    pub tokens: u64,
    /// Steps that AdamW's moments had behind them when the run took them over from a checkpoint.
    #[serde(default)]
    pub carried: u64,
    /// Where the data goes on.
    pub data: StreamPosition,
}

impl State {
    /// As JSON.
    ///
    /// # Errors
    /// Never in practice: the fields are numbers.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::checkpoint(STATE, error))
    }

    /// From a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the file is no state of this version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(STATE);
        let text = small::text(&path).map_err(Error::io("read", &path))?;
        let state: Self = serde_json::from_str(&text).map_err(|error| Error::checkpoint(&path, error))?;
        // Sums of these must stay numbers.
        for (key, count) in [("step", state.step), ("tokens", state.tokens), ("carried", state.carried)] {
            if count >= 1 << 62 {
                return Err(Error::checkpoint(&path, format!("`{key}` must be below 2^62, found {count}")));
            }
        }
        Ok(state)
    }
}

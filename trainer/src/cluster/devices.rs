//! The description of a cluster: a TOML file with one `[[devices]]` for each kind.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::{Storage, fields, toml_problem};
use crate::error::{Error, Result};
use crate::small;

/// A description to start from.
pub const EXAMPLE: &str = include_str!("../../clusters/example.toml");

/// More devices of one kind than this are a slip of the pen.
const MOST: usize = 1 << 20;

/// Devices of one kind, as the user describes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Devices {
    /// What they are called.
    pub name: String,
    /// Nodes; 1 where it is left out.
    #[serde(default = "one")]
    pub nodes: usize,
    /// Devices of a node.
    pub devices_per_node: usize,
    /// Memory of a device, 10^9 bytes.
    pub memory_gb: f64,
    /// Of it, what is not for the run.
    #[serde(default)]
    pub reserved_gb: f64,
    /// Rate of f32 products of a device, 10^12 FLOP a second.
    pub f32_tflops: f64,
    /// Rate of bf16 products with f32 sums.
    pub bf16_tflops: f64,
    /// Between a device and its memory, 10^9 bytes a second.
    pub memory_gb_per_s: f64,
    /// What a device can send to the others of its node, 10^9 bytes a second; needed where there are others.
    #[serde(default)]
    pub link_gb_per_s: Option<f64>,
    /// What a device can send to other nodes, 10^9 bytes a second; needed where there are others.
    #[serde(default)]
    pub network_gb_per_s: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    devices: Vec<Devices>,
}

fn one() -> usize {
    1
}

/// Reads and checks a description.
///
/// # Errors
/// A file that cannot be read or is no TOML; a key that is unknown, missing or of another type; figures that no device has.
/// The message names the file, the kind and the key.
pub fn read(path: &Path) -> Result<Vec<Devices>> {
    let text = small::text(path).map_err(Error::io("read the cluster's description", path))?;
    parse(&text).map_err(|problem| {
        Error::Config(format!(
            "cluster {}: {problem}. `trainer plan --example-cluster` prints a description to start from",
            path.display()
        ))
    })
}

/// [`read`] without the file's name.
fn parse(text: &str) -> std::result::Result<Vec<Devices>, String> {
    let table: toml::Table =
        text.parse().map_err(|error| format!("no valid TOML: {}", toml_problem(text, &error)))?;
    let kinds = table.get("devices").and_then(toml::Value::as_array).into_iter().flatten();
    for key in kinds.filter_map(toml::Value::as_table).flat_map(toml::Table::keys) {
        let known = fields::of::<Devices>();
        if !known.contains(&key.as_str()) {
            let nearest = fields::nearest(key, known.iter().copied());
            return Err(nearest.map_or_else(
                || format!("unknown key `{key}`, the valid ones are {}", known.join(", ")),
                |nearest| format!("unknown key `{key}`, did you mean `{nearest}`?"),
            ));
        }
    }
    let File { devices } = table.try_into().map_err(|error| error.to_string().trim_end().to_owned())?;
    if devices.is_empty() {
        return Err("it describes no [[devices]]".into());
    }
    for (index, kind) in devices.iter().enumerate() {
        kind.check().map_err(|problem| format!("devices `{}`: {problem}", kind.name))?;
        if devices[..index].iter().any(|other| other.name == kind.name) {
            return Err(format!("two kinds of devices are called `{}`", kind.name));
        }
    }
    Ok(devices)
}

impl Devices {
    /// All of them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.saturating_mul(self.devices_per_node)
    }

    /// Bytes of a device that a run may fill.
    #[must_use]
    pub fn room(&self) -> f64 {
        1e9 * (self.memory_gb - self.reserved_gb)
    }

    /// FLOP a second on what is stored.
    #[must_use]
    pub fn flops(&self, storage: Storage) -> f64 {
        1e12 * match storage {
            Storage::F32 => self.f32_tflops,
            Storage::Bf16 => self.bf16_tflops,
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        for (key, count) in [("nodes", self.nodes), ("devices_per_node", self.devices_per_node)] {
            if count == 0 {
                return Err(format!("`{key}` must be at least 1"));
            }
        }
        if self.count() > MOST {
            return Err(format!(
                "{} nodes of {} are more than {MOST} devices",
                self.nodes, self.devices_per_node
            ));
        }
        let rates = [
            ("memory_gb", Some(self.memory_gb)),
            ("f32_tflops", Some(self.f32_tflops)),
            ("bf16_tflops", Some(self.bf16_tflops)),
            ("memory_gb_per_s", Some(self.memory_gb_per_s)),
            ("link_gb_per_s", self.link_gb_per_s),
            ("network_gb_per_s", self.network_gb_per_s),
        ];
        for (key, value) in rates.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            if !(value > 0.0 && value < 1e12) {
                return Err(format!("`{key}` must be a number above 0, found {value}"));
            }
        }
        if !(self.reserved_gb >= 0.0 && self.reserved_gb < self.memory_gb) {
            let memory = self.memory_gb;
            return Err(format!(
                "`reserved_gb` must be 0 or more and below `memory_gb` = {memory}, found {}",
                self.reserved_gb
            ));
        }
        if self.devices_per_node > 1 && self.link_gb_per_s.is_none() {
            return Err("`link_gb_per_s` is missing: what a device can send to the others of its node".into());
        }
        if self.nodes > 1 && self.network_gb_per_s.is_none() {
            return Err("`network_gb_per_s` is missing: what a device can send to other nodes".into());
        }
        Ok(())
    }
}

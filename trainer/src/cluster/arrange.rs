//! One arrangement of a run: so many devices, the experts split over so many of them.

use std::sync::Arc;

use emo::cpu::Cpu;
use emo::ops::all_to_all;
use half::bf16;
use serde::Serialize;

use super::Devices;
use crate::bench::floors::Floors;
use crate::config::{Config, Storage};
use crate::error::{Error, Result};
use crate::model::{Entry, FeedForward, FeedForwardLayout, Layout, Model, ModelConfig, Purpose};
use crate::train::flops::{Flops, pairs};
use crate::train::optimiser;

/// Documents' domains, which only the domain consistency loss keeps a few rows for.
const DOMAINS: usize = 16;

/// The buffers of a training step on one device, with workspaces as this processor asks for them.
///
/// # Errors
/// Sizes that do not fit together.
pub fn planned(cpu: Cpu, config: &Config) -> Result<Vec<Entry>> {
    let (model, capacity) = (config.model_config(), config.capacity(DOMAINS));
    Ok(match config.train.storage {
        Storage::F32 => Model::plan(Arc::new(cpu), model, capacity)?,
        Storage::Bf16 => Model::plan(Arc::new(cpu.storing::<bf16>()), model, capacity)?,
    })
}

/// What is to be trained, ready to be laid over devices.
pub struct Job<'a> {
    config: &'a Config,
    model: ModelConfig,
    layout: Layout,
}

/// What one device holds.
struct Share {
    /// All its parameters.
    parameters: usize,
    /// Of these, the routed experts'.
    routed: usize,
    /// The model with as many experts as are there.
    model: ModelConfig,
}

/// A run on some devices. All of it is of one device, the one with the most experts, and of one optimiser step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Arrangement {
    /// Devices that share the step's rows.
    pub devices: usize,
    /// Devices that share the routed experts; 1: each has them all.
    pub experts_over: usize,
    /// Rows of a step on a device.
    pub rows: usize,
    /// Of these, rows computed at once.
    pub micro_batch: usize,
    /// Parameters on a device.
    pub parameters: usize,
    /// What they and the rest take.
    pub memory: Memory,
    /// Bytes that a device lacks; 0: it fits.
    pub short_bytes: u64,
    /// FLOP: the model's, and those of a pass that counts the experts' load.
    pub flop: f64,
    /// Bytes between the device and its memory, every op reading its inputs and writing its outputs once.
    pub memory_traffic_bytes: f64,
    /// Rows on their way to experts and back.
    pub all_to_all_bytes: Sent,
    /// Sums of gradients.
    pub all_reduce_bytes: Sent,
    /// At the rates of the devices' description.
    pub time: Time,
}

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Memory {
    /// Exact parameters, and the little state that is saved with them.
    pub masters: u64,
    /// Rounded parameters, where products read another type.
    pub copies: u64,
    /// Gradients.
    pub gradients: u64,
    /// AdamW's two moments.
    pub moments: u64,
    /// Kept from the forward for the backward pass.
    pub activations: u64,
    /// Used again by every layer, and the batch itself.
    pub workspace: u64,
    /// Rows of other devices' tokens, kept for the backward pass, and a buffer each way.
    pub exchange: u64,
    /// Together.
    pub total: u64,
}

/// Bytes that a device sends.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Sent {
    /// To devices of its node.
    pub link: f64,
    /// To other nodes.
    pub network: f64,
}

/// Seconds, computed and not measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Time {
    /// Arithmetic.
    pub compute: f64,
    /// Memory traffic.
    pub memory: f64,
    /// Sending inside the node.
    pub link: f64,
    /// Sending to other nodes.
    pub network: f64,
    /// The longest of these: no step is faster at these rates.
    pub step: f64,
    /// Their sum: nothing overlaps.
    pub without_overlap: f64,
    /// Which is the longest.
    pub bound: &'static str,
    /// Of all devices, at the pace of `step`.
    pub tokens_per_s: f64,
    /// All steps of the run at the pace of `step`.
    pub run: f64,
}

impl<'a> Job<'a> {
    /// Of a configuration.
    ///
    /// # Errors
    /// Sizes that do not fit together.
    pub fn new(config: &'a Config) -> Result<Self> {
        let model = config.model_config();
        let layout = Layout::new(&model)?;
        Ok(Self { config, model, layout })
    }

    /// Rows of an optimiser step.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.config.train.batch
    }

    /// Routed experts of the layer that has fewest: the experts can be split over no more devices. 1 without any.
    #[must_use]
    pub fn experts(&self) -> usize {
        self.model.moe_layers().map(|(_, moe)| moe.routed()).min().unwrap_or(1).max(1)
    }

    /// Whether `count` devices can share the step's rows (a divisor of them; whole nodes if more than one), and `split` of
    /// them the experts (a divisor of `count`, and of a node's devices or a multiple of them).
    #[must_use]
    pub fn allows(&self, devices: &Devices, count: usize, split: usize) -> bool {
        let node = devices.devices_per_node.min(count);
        (1..=devices.count().min(self.rows())).contains(&count)
            && (1..=count.min(self.experts())).contains(&split)
            && self.rows().is_multiple_of(count)
            && count.is_multiple_of(node)
            && count.is_multiple_of(split)
            && (node.is_multiple_of(split) || split.is_multiple_of(node))
    }

    /// The run on `count` devices, the experts split over `split` of them.
    ///
    /// # Errors
    /// What [`Job::allows`] refuses, and sizes that cannot be planned.
    pub fn arrange(&self, devices: &Devices, count: usize, split: usize) -> Result<Arrangement> {
        if !self.allows(devices, count, split) {
            return Err(Error::Usage(format!(
                "{} rows and {} experts cannot be shared by {count} of the devices `{}`, the experts by {split}",
                self.rows(),
                self.experts(),
                devices.name
            )));
        }
        let local = self.on_each(count);
        let (rows, sequence) = (local.train.batch, local.data.sequence);
        let share = self.share(split);
        let memory = self.memory(&local, &share, split)?;
        let short_bytes = (memory.total as f64 - devices.room()).max(0.0).ceil() as u64;
        let tokens = (rows * sequence) as f64;
        let seen = rows as f64 * pairs(&[0, sequence as u32]);
        let mut flop = Flops::of(&self.model).training(tokens, seen);
        if local.counts_first() {
            flop += Flops::of(&self.blocks()).forward(tokens, seen);
        }
        let memory_traffic_bytes = self.traffic(&local, &share);
        let all_to_all_bytes = self.exchanged(&local, devices, count, split);
        let all_reduce_bytes = self.reduced(devices, &share, count, split);
        let seconds = |bytes: f64, rate: Option<f64>| rate.map_or(0.0, |rate| bytes / (1e9 * rate));
        let links = [
            ("computing", flop / devices.flops(self.config.train.storage)),
            ("memory", seconds(memory_traffic_bytes, Some(devices.memory_gb_per_s))),
            ("links", seconds(all_to_all_bytes.link + all_reduce_bytes.link, devices.link_gb_per_s)),
            (
                "network",
                seconds(all_to_all_bytes.network + all_reduce_bytes.network, devices.network_gb_per_s),
            ),
        ];
        let [(_, compute), (_, memory_time), (_, link), (_, network)] = links;
        let (bound, step) =
            links.into_iter().fold(("computing", 0.0), |most, one| if one.1 > most.1 { one } else { most });
        let time = Time {
            compute,
            memory: memory_time,
            link,
            network,
            step,
            without_overlap: compute + memory_time + link + network,
            bound,
            tokens_per_s: self.config.tokens_per_step() as f64 / step,
            run: step * self.config.train.steps as f64,
        };
        Ok(Arrangement {
            devices: count,
            experts_over: split,
            rows,
            micro_batch: local.micro_batch(),
            parameters: share.parameters,
            memory,
            short_bytes,
            flop,
            memory_traffic_bytes,
            all_to_all_bytes,
            all_reduce_bytes,
            time,
        })
    }

    /// The configuration of one of `count` devices: its rows, in micro-batches no larger than was asked for.
    fn on_each(&self, count: usize) -> Config {
        let mut local = self.config.clone();
        local.train.batch = self.rows() / count;
        let rows = local.train.batch;
        let most = self.config.micro_batch().min(rows);
        local.train.micro_batch = (1..=most).rev().find(|part| rows.is_multiple_of(*part)).unwrap_or(1);
        local
    }

    /// What the device with the most experts has when `split` devices share them.
    fn share(&self, split: usize) -> Share {
        let mut share = Share { parameters: self.layout.len(), routed: 0, model: self.model.clone() };
        for (kind, layer) in share.model.feed_forward.iter_mut().zip(&self.layout.layers) {
            let (FeedForward::Moe(moe), FeedForwardLayout::Moe { w_in, w_out, .. }) =
                (kind, &layer.feed_forward)
            else {
                continue;
            };
            let shape = all_to_all::Shape { ranks: split, experts: moe.routed() };
            let block = (0..split).map(|rank| shape.owned(rank).len()).max().unwrap_or(0);
            let expert = (w_in.len() + w_out.len()) / moe.experts;
            share.parameters -= (moe.routed() - block) * expert;
            share.routed += block * expert;
            moe.experts = block + moe.shared;
        }
        share
    }

    fn memory(&self, local: &Config, share: &Share, split: usize) -> Result<Memory> {
        // One thread, so that workspaces do not depend on where the plan is made.
        let entries = planned(Cpu::new(1)?, local)?;
        let mut memory = Memory {
            moments: optimiser::moment_bytes(share.parameters) as u64,
            exchange: self.exchange_memory(local, split),
            ..Memory::default()
        };
        for entry in &entries {
            // A device has its share of what is laid out as the parameters, and all of the rest.
            let arena = entry.elements == self.layout.len();
            let bytes = match entry.purpose {
                Purpose::Parameters | Purpose::Gradients if arena => {
                    entry.bytes / entry.elements * share.parameters
                }
                _ => entry.bytes,
            } as u64;
            *match entry.purpose {
                Purpose::Parameters if entry.name == "stored parameters" => &mut memory.copies,
                Purpose::Parameters => &mut memory.masters,
                Purpose::Gradients => &mut memory.gradients,
                Purpose::Activations => &mut memory.activations,
                Purpose::Scratch | Purpose::Inputs => &mut memory.workspace,
            } += bytes;
        }
        let Memory { masters, copies, gradients, moments, activations, workspace, exchange, .. } = memory;
        memory.total = masters + copies + gradients + moments + activations + workspace + exchange;
        Ok(memory)
    }

    /// Elements of the rows that `tokens` tokens send to routed experts, in each layer with experts.
    fn rows_sent(&self, tokens: usize) -> impl Iterator<Item = usize> + '_ {
        self.model.moe_layers().map(move |(_, moe)| tokens * (moe.top_k - moe.shared) * self.model.width)
    }

    fn exchange_memory(&self, local: &Config, split: usize) -> u64 {
        if split == 1 {
            return 0;
        }
        let rows = || self.rows_sent(local.micro_batch() * local.data.sequence);
        let elements = rows().sum::<usize>() + 2 * rows().max().unwrap_or(0);
        (elements * self.stored()) as u64
    }

    /// Bytes of an activation.
    fn stored(&self) -> usize {
        match self.config.train.storage {
            Storage::F32 => size_of::<f32>(),
            Storage::Bf16 => size_of::<bf16>(),
        }
    }

    /// The model without embedding and head: what a pass that only counts the load computes.
    fn blocks(&self) -> ModelConfig {
        ModelConfig { vocabulary: 0, ..self.model.clone() }
    }

    /// Bytes between a device and its memory.
    fn traffic(&self, local: &Config, share: &Share) -> f64 {
        let (rows, sequence) = (local.micro_batch(), local.data.sequence);
        let (tokens, seen) = (rows * sequence, rows * sequence * (sequence + 1) / 2);
        let bytes = |model: &ModelConfig, counts: &dyn Fn(&str) -> bool| -> f64 {
            let floors = Floors::of(model, tokens, seen);
            floors
                .iter()
                .filter(|(op, _)| counts(op))
                .map(|(_, floor)| floor.bytes_of(self.stored()) as f64)
                .sum()
        };
        let experts = |op: &str| op.starts_with("experts_");
        // The products read the weights of the experts that are here, all else is as on a single device.
        let mut pass = bytes(&self.model, &|op| !experts(op)) + bytes(&share.model, &experts);
        if local.counts_first() {
            let forward = |op: &str| op.ends_with("_forward") || op == "plan";
            pass += bytes(&self.blocks(), &|op| forward(op) && !experts(op));
            pass += bytes(&share.model, &|op| forward(op) && experts(op));
        }
        let update = Floors::default().with_optimiser(share.parameters);
        let update: f64 = update.iter().map(|(_, floor)| floor.bytes_of(self.stored()) as f64).sum();
        pass * local.micro_batches() as f64 + update
    }

    /// Rows to experts on other devices and back.
    fn exchanged(&self, local: &Config, devices: &Devices, count: usize, split: usize) -> Sent {
        let exchanges = if local.counts_first() { 6.0 } else { 4.0 };
        let elements: usize = self.rows_sent(local.train.batch * local.data.sequence).sum();
        let bytes = exchanges * (elements * self.stored()) as f64;
        let near = split.min(devices.devices_per_node.min(count));
        Sent {
            link: bytes * (near - 1) as f64 / split as f64,
            network: bytes * (split - near) as f64 / split as f64,
        }
    }

    /// Gradients summed over all devices, those of experts over the devices that have the same ones.
    fn reduced(&self, devices: &Devices, share: &Share, count: usize, split: usize) -> Sent {
        let node = devices.devices_per_node.min(count);
        let everywhere = ring(share.parameters - share.routed, node, count / node);
        let near = (node / split).max(1);
        let experts = ring(share.routed, near, count / split / near);
        Sent { link: everywhere.link + experts.link, network: everywhere.network + experts.network }
    }
}

/// What a device sends to sum `elements` gradients over `near` devices of its node and the same in `nodes` nodes: a ring
/// sends `2 (n - 1) / n` of what it sums, and between nodes each device sums the part that it has summed in its node.
fn ring(elements: usize, near: usize, nodes: usize) -> Sent {
    let bytes = (elements * size_of::<f32>()) as f64;
    let part = |n: usize| 2.0 * (n - 1) as f64 / n as f64;
    Sent { link: part(near) * bytes, network: part(nodes) * bytes / near as f64 }
}

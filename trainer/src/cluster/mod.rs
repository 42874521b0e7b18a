//! What a run needs on a cluster: memory, work and traffic of each device, and the least time of a step.
//!
//! Everything here is arithmetic on the model and on figures that a user gives for the devices; nothing is measured, and
//! the trainer itself runs on one device. What is assumed:
//!
//! * **Data parallelism** over all `W` devices: each computes `batch / W` rows of a step in micro-batches, and gradients
//!   are summed once a step by a ring, in the node and then between nodes.
//! * **Expert parallelism** over groups of `P` neighbouring devices: each owns a block of the routed experts as
//!   [`emo::ops::all_to_all`] cuts them; everything else, shared experts included, is on every device. A token's rows go to
//!   their experts and come back, forward and backward: four exchanges a layer, two more where the load is counted in a
//!   pass of its own. Rows that arrive are kept for the backward pass.
//! * **Balanced routing**: a device receives as many rows as it sends. Memory is that of the device with the most experts.
//! * Memory of one device is the trainer's own plan ([`crate::model::Model::plan`]), with workspaces as the processor asks
//!   for them. FLOPs are those of [`crate::train::flops`], bytes those of [`crate::bench::floors`].
//! * **Time** of a step is the longest of computing, memory, links and network, as if each ran at its full rate behind the
//!   others: no step is faster. Their sum is what a step without any overlap would take at these rates.

mod arrange;
mod devices;

use serde::Serialize;

pub use arrange::{Arrangement, Job, Memory, Sent, Time, planned};
pub use devices::{Devices, EXAMPLE, read};

use crate::error::Result;

/// What one kind of devices can do for a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// The devices.
    pub devices: Devices,
    /// Fits on the fewest devices; of these the fastest.
    pub smallest: Option<Arrangement>,
    /// The fastest that fits.
    pub fastest: Option<Arrangement>,
    /// Where nothing fits: what lacks least.
    pub nearest: Option<Arrangement>,
    /// Everything that was looked at, by devices and by how many of them share the experts.
    pub arrangements: Vec<Arrangement>,
}

impl Fit {
    /// Looks at every number of devices that divides the step's rows (in one node any, else whole nodes) and every
    /// division of the experts that keeps to nodes.
    ///
    /// # Errors
    /// For a model that cannot be planned.
    pub fn of(job: &Job<'_>, devices: &Devices) -> Result<Self> {
        let most = devices.count().min(job.rows());
        let mut arrangements = Vec::new();
        for count in (1..=most).filter(|count| job.rows().is_multiple_of(*count)) {
            for split in (1..=count.min(job.experts())).filter(|split| job.allows(devices, count, *split)) {
                arrangements.push(job.arrange(devices, count, split)?);
            }
        }
        let fitting = || arrangements.iter().filter(|one| one.short_bytes == 0);
        let fewest = fitting().map(|one| one.devices).min();
        let quickest = |a: &&Arrangement, b: &&Arrangement| a.time.step.total_cmp(&b.time.step);
        let smallest = fitting().filter(|one| Some(one.devices) == fewest).min_by(quickest).cloned();
        let fastest = fitting().min_by(quickest).cloned();
        let nearest = match smallest {
            Some(_) => None,
            None => arrangements.iter().min_by_key(|one| one.short_bytes).cloned(),
        };
        Ok(Self { devices: devices.clone(), smallest, fastest, nearest, arrangements })
    }
}

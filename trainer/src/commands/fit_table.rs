//! What `trainer plan --cluster` prints for one kind of devices.

use super::plan::{size, thousands};
use crate::cluster::{Arrangement, Devices, Fit, Job, Time};
use crate::output::out;
use crate::progress::{self, si};

/// Prints it. Of all arrangements, the table has those on one device, on the fewest that suffice and on the most.
pub fn print(fit: &Fit, job: &Job<'_>) {
    let Devices { name, nodes, devices_per_node, memory_gb, .. } = &fit.devices;
    let most = fit.arrangements.iter().map(|one| one.devices).max().unwrap_or(1);
    out!(
        "\n{name}: {nodes} x {devices_per_node} devices of {memory_gb} GB, computed from the given figures, not measured"
    );
    if most < fit.devices.count() {
        out!(
            "  at most {most} of the {} devices: a step's {} rows divide over no more (`train.batch`)",
            fit.devices.count(),
            job.rows()
        );
    }
    out!("  of one device and step:");
    out!(
        "  {:>7} {:>7} {:>8} {:>8} {:>9} {:>8} {:>11} {:>8} {:>14} {:>9} {:>9} {:>9} {:>9}  bound by",
        "devices",
        "experts",
        "masters",
        "copies",
        "gradients",
        "moments",
        "activations",
        "in all",
        "room",
        "FLOP",
        "links",
        "network",
        "time"
    );
    let fewest = fit.smallest.as_ref().map_or(1, |one| one.devices);
    for one in fit.arrangements.iter().filter(|one| [1, fewest, most].contains(&one.devices)) {
        row(one, &fit.devices);
    }
    match (&fit.smallest, &fit.fastest, &fit.nearest) {
        (Some(smallest), Some(fastest), _) => {
            out!("  fewest devices: {}", words(smallest));
            if smallest != fastest {
                out!("  fastest: {}", words(fastest));
            }
        }
        (_, _, Some(nearest)) => {
            let smaller = (nearest.micro_batch > 1).then_some(", a smaller `train.micro_batch`");
            let rounded = (nearest.memory.copies == 0).then_some(", `train.storage = \"bf16\"`");
            out!(
                "  does not fit: even {} lacks {} on a device. What helps: more devices{}{}",
                place(nearest),
                bytes(nearest.short_bytes as f64),
                smaller.unwrap_or_default(),
                rounded.unwrap_or_default()
            );
        }
        _ => {}
    }
}

fn row(one: &Arrangement, devices: &Devices) {
    let memory = one.memory;
    let passing = memory.activations + memory.workspace + memory.exchange;
    let room = match one.short_bytes {
        0 => format!("{} left", bytes(devices.room() - memory.total as f64)),
        short => format!("{} short", bytes(short as f64)),
    };
    out!(
        "  {:>7} {:>7} {:>8} {:>8} {:>9} {:>8} {:>11} {:>8} {:>14} {:>9} {:>9} {:>9} {:>9}  {}",
        one.devices,
        if one.experts_over == 1 { "all".to_owned() } else { format!("1/{}", one.experts_over) },
        bytes(memory.masters as f64),
        bytes(memory.copies as f64),
        bytes(memory.gradients as f64),
        bytes(memory.moments as f64),
        bytes(passing as f64),
        bytes(memory.total as f64),
        room,
        si(one.flop),
        bytes(one.all_to_all_bytes.link + one.all_reduce_bytes.link),
        bytes(one.all_to_all_bytes.network + one.all_reduce_bytes.network),
        duration(one.time.step),
        one.time.bound
    );
}

/// An arrangement and its pace, in words.
fn words(one: &Arrangement) -> String {
    let Time { compute, memory, link, network, step, without_overlap, tokens_per_s, run, .. } = one.time;
    format!(
        "{}\n    {} parameters on a device, {} rows a step in micro-batches of {}\n    \
         a step takes at least {} (computing {}, memory {}, links {}, network {}; without any overlap {}): at most \
         {} tokens/s, the run at least {}\n    \
         sent for experts {} + {} between nodes, for sums of gradients {} + {}",
        place(one),
        thousands(one.parameters),
        one.rows,
        one.micro_batch,
        duration(step),
        duration(compute),
        duration(memory),
        duration(link),
        duration(network),
        duration(without_overlap),
        si(tokens_per_s).trim_end(),
        duration(run),
        bytes(one.all_to_all_bytes.link),
        bytes(one.all_to_all_bytes.network),
        bytes(one.all_reduce_bytes.link),
        bytes(one.all_reduce_bytes.network)
    )
}

fn place(one: &Arrangement) -> String {
    let devices = if one.devices == 1 { "1 device".to_owned() } else { format!("{} devices", one.devices) };
    match one.experts_over {
        1 => format!("{devices}, all experts on each"),
        over => format!("{devices}, experts split over {over}"),
    }
}

fn bytes(bytes: f64) -> String {
    size(bytes as usize)
}

/// Seconds in the unit that suits them.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 60.0 => progress::duration(s),
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        0.0 => "0 s".into(),
        s => format!("{:.2} us", s * 1e6),
    }
}

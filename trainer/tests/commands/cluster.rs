//! `trainer plan --cluster`: what a device of a described cluster must hold, do and send, against sums made by hand.

use std::path::Path;

use crate::support::{Place, fail, stdout, succeed};
use serde_json::Value;
use trainer::cluster::{self, Devices, Fit, Job};
use trainer::config::Config;

/// Two layers of width 32 with 8 routed experts and a shared one of width 16, two of the routed ones for a token; four rows
/// of 64 tokens a step, one at a time; a vocabulary of 100. An expert has 3 * 16 * 32 = 1536 parameters, a layer without
/// experts 64 + 3072 + 1024 + 288 = 4448, embedding, head and last norm 6432.
fn small(more: &[&str]) -> Config {
    let mut set = vec![
        "data.source=random",
        "validation.rows=0",
        "validation.every=0",
        "model.vocabulary=100",
        "router.experts=9",
        "router.top_k=3",
        "router.shared=1",
        "train.batch=4",
        "train.micro_batch=1",
        "train.steps=10",
    ];
    set.extend(more);
    Config::load("tiny", &set.into_iter().map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

/// Everything but the arithmetic is fast; the arithmetic does 10^6 FLOP a second.
fn devices(nodes: usize, devices_per_node: usize) -> Devices {
    Devices {
        name: "test".into(),
        nodes,
        devices_per_node,
        memory_gb: 1.0,
        reserved_gb: 0.0,
        f32_tflops: 1e-6,
        bf16_tflops: 2e-6,
        memory_gb_per_s: 1e6,
        link_gb_per_s: Some(1e6),
        network_gb_per_s: Some(1e6),
    }
}

#[test]
fn a_device_holds_its_share_of_the_experts_and_all_else() {
    let config = small(&[]);
    let job = Job::new(&config).unwrap();
    let whole = job.arrange(&devices(1, 4), 4, 1).unwrap();
    assert_eq!(whole.parameters, 2 * (4448 + 9 * 1536) + 6432);
    assert_eq!(whole.memory.exchange, 0);
    let split = job.arrange(&devices(1, 4), 4, 4).unwrap();
    let parameters = 2 * (4448 + 3 * 1536) + 6432;
    assert_eq!(split.parameters, parameters);
    let parameters = parameters as u64;
    assert_eq!((split.memory.masters, split.memory.copies), (4 * parameters, 0));
    assert_eq!((split.memory.gradients, split.memory.moments), (4 * parameters, 8 * parameters));
    assert_eq!(split.memory.activations, whole.memory.activations);
    // 64 tokens, two rows of 32 each: kept in two layers, and a buffer each way.
    assert_eq!(split.memory.exchange, (2 + 2) * 64 * 2 * 32 * 4);
    // Three blocks of eight experts: the largest has three.
    let three = small(&["train.batch=3"]);
    let uneven = Job::new(&three).unwrap().arrange(&devices(1, 3), 3, 3).unwrap();
    assert_eq!(uneven.parameters, 2 * (4448 + 4 * 1536) + 6432);
    let rounded = small(&["train.storage=bf16"]);
    let memory = Job::new(&rounded).unwrap().arrange(&devices(1, 4), 4, 4).unwrap().memory;
    assert_eq!((memory.masters, memory.copies), (4 * parameters, 2 * parameters));
}

#[test]
fn work_and_time_are_those_of_the_model_on_the_given_rates() {
    let config = small(&[]);
    let job = Job::new(&config).unwrap();
    // A token's products: two layers of 4096 + 288 + 3 * 1536, and the head; a row has 64 * 65 / 2 pairs of 4 * 2 * 32.
    let (blocks, head, attention) = (2 * 2 * 8992 * 64, 2 * 3200 * 64, 2080 * 256);
    let row = f64::from(3 * (blocks + head + attention));
    let four = job.arrange(&devices(1, 4), 4, 4).unwrap();
    assert_eq!(four.flop, row);
    assert_eq!((four.rows, four.micro_batch), (1, 1));
    assert!((four.time.step - row / 1e6).abs() < 1e-9 && four.time.bound == "computing", "{:?}", four.time);
    assert!((four.time.run - 10.0 * four.time.step).abs() < 1e-9);
    assert!((four.time.tokens_per_s - 256.0 / four.time.step).abs() < 1e-9);
    // One device does the four rows one by one and counts the experts' load of the step before.
    let one = job.arrange(&devices(1, 4), 1, 1).unwrap();
    assert_eq!(one.flop, 4.0 * (row + f64::from(blocks + attention)));
    // Six experts fewer in two layers: their weights are read forward and backward, their gradients read and written;
    // AdamW moves seven numbers of a parameter, the norm reads a gradient.
    let all = job.arrange(&devices(1, 4), 4, 1).unwrap();
    let fewer = all.memory_traffic_bytes - four.memory_traffic_bytes;
    assert_eq!(fewer, f64::from(2 * 6 * 1536 * 4 * (2 + 2 + 7 + 1)));
    let slow = Devices { memory_gb_per_s: 1e-9, ..devices(1, 4) };
    let slow = job.arrange(&slow, 4, 4).unwrap().time;
    assert_eq!((slow.step, slow.bound), (four.memory_traffic_bytes, "memory"));
    assert!((slow.without_overlap - slow.compute - slow.memory - slow.link - slow.network).abs() < 1e-6);
}

#[test]
fn traffic_keeps_to_the_node_where_it_can() {
    let config = small(&[]);
    let job = Job::new(&config).unwrap();
    // What a device's 64 tokens send in two layers, four times, in f32.
    let rows = f64::from(4 * 2 * 64 * 2 * 32 * 4);
    // Gradients: of all but the routed experts, and of one routed expert in both layers.
    let (rest, expert) = (f64::from(4 * (2 * (4448 + 1536) + 6432)), f64::from(4 * 2 * 1536));
    let sent = |nodes, each, split| {
        let one = job.arrange(&devices(nodes, each), 4, split).unwrap();
        let (exchange, sum) = (one.all_to_all_bytes, one.all_reduce_bytes);
        (exchange.link, exchange.network, sum.link, sum.network)
    };
    assert_eq!(sent(1, 4, 1), (0.0, 0.0, 1.5 * (rest + 8.0 * expert), 0.0));
    assert_eq!(sent(1, 4, 2), (rows / 2.0, 0.0, 1.5 * rest + 4.0 * expert, 0.0));
    assert_eq!(sent(1, 4, 4), (rows * 0.75, 0.0, 1.5 * rest, 0.0));
    // Two nodes: each device sums half of the rest with the other node; the experts of a node are in the other one too.
    assert_eq!(sent(2, 2, 2), (rows / 2.0, 0.0, rest, rest / 2.0 + 4.0 * expert));
    assert_eq!(sent(2, 2, 4), (rows / 4.0, rows / 2.0, rest, rest / 2.0));
}

#[test]
fn the_fewest_devices_are_found_and_what_lacks_is_stated() {
    let config = small(&[]);
    let job = Job::new(&config).unwrap();
    let need = |count, split| job.arrange(&devices(1, 4), count, split).unwrap().memory.total;
    let with = |bytes: u64| Devices { memory_gb: bytes as f64 / 1e9, ..devices(1, 4) };
    let fit = Fit::of(&job, &with(need(2, 2))).unwrap();
    let smallest = fit.smallest.unwrap();
    assert_eq!((smallest.devices, smallest.experts_over, smallest.short_bytes), (2, 2, 0));
    assert_eq!(fit.fastest.unwrap().devices, 4);
    let alone = &fit.arrangements[0];
    assert_eq!((alone.devices, alone.short_bytes), (1, need(1, 1) - need(2, 2)));
    let none = Fit::of(&job, &with(need(4, 4) - 1000)).unwrap();
    assert!(none.smallest.is_none() && none.fastest.is_none());
    let nearest = none.nearest.unwrap();
    assert_eq!((nearest.devices, nearest.experts_over, nearest.short_bytes), (4, 4, 1000));
    // Four rows cannot be shared by three or eight devices, nor by parts of two nodes of three.
    let counts = |nodes, each| -> Vec<usize> {
        let mut all: Vec<usize> = Fit::of(&job, &devices(nodes, each))
            .unwrap()
            .arrangements
            .iter()
            .map(|one| one.devices)
            .collect();
        all.dedup();
        all
    };
    assert_eq!((counts(1, 8), counts(2, 3)), (vec![1, 2, 4], vec![1, 2]));
    for (count, split) in [(0, 1), (1, 0), (3, 1), (4, 3), (8, 8), (1, 2)] {
        assert!(job.arrange(&devices(1, 8), count, split).is_err(), "{count} {split}");
    }
}

#[test]
fn the_released_model_is_planned_for_the_example_cluster() {
    let place = Place::new();
    let example = stdout(&succeed(place.trainer().args(["plan", "--example-cluster"])));
    std::fs::write(place.path("cluster.toml"), example).unwrap();
    let arguments = [
        "plan",
        "emo-1b14b",
        "--set",
        "train.storage=bf16",
        "--set",
        "run.threads=1",
        "--cluster",
        "cluster.toml",
    ];
    let plan: Value =
        serde_json::from_str(&stdout(&succeed(place.trainer().args(arguments).arg("--json")))).unwrap();
    let (large, workstation) = (&plan["cluster"][0], &plan["cluster"][1]);
    let alone = &large["arrangements"][0];
    assert_eq!(alone["parameters"].as_u64(), Some(13_568_641_024));
    assert_eq!(alone["memory"]["total"], plan["memory_bytes_in_all"], "one device is what the plan says");
    // 2 + 4 + 4 + 8 bytes a parameter.
    let state = 18 * 13_568_641_024;
    assert!(alone["short_bytes"].as_u64().unwrap() > state - 76_000_000_000);
    let smallest = &large["smallest"];
    assert!(smallest["devices"].as_u64().unwrap() >= 4, "{smallest}");
    assert!(smallest["experts_over"].as_u64().unwrap() >= 4, "{smallest}");
    assert!(workstation["smallest"].is_null() && workstation["nearest"]["short_bytes"].as_u64().unwrap() > 0);
    let table = stdout(&succeed(place.trainer().args(arguments)));
    for part in ["not measured", "example-large", "short", "fewest devices", "does not fit: even 2 devices"] {
        assert!(table.contains(part), "no `{part}` in\n{table}");
    }
}

#[test]
fn a_wrong_description_is_refused_in_words() {
    let place = Place::new();
    let refuse = |text: &str, parts: &[&str]| {
        std::fs::write(place.path("cluster.toml"), text).unwrap();
        let said = fail(place.trainer().args(["plan", "tiny", "--cluster", "cluster.toml"]), 2);
        for part in parts.iter().chain(&["cluster.toml", "--example-cluster"]) {
            assert!(said.contains(part), "no `{part}` in {said}");
        }
    };
    let with = |key: &str, value: &str| {
        let line = |line: &str| match line.starts_with(key) {
            true => format!("{key} = {value}"),
            false => line.to_owned(),
        };
        cluster::EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    refuse("", &["devices"]);
    refuse("devices = []", &["no [[devices]]"]);
    refuse("devices = 3", &["devices"]);
    refuse("[[devices]]\nname = \"a\"\n", &["missing field", "devices_per_node"]);
    refuse("[[devices]\n", &["no valid TOML"]);
    refuse("[[devices]]\nmemory_gib = 80\n", &["unknown key `memory_gib`", "did you mean `memory_gb`"]);
    refuse(&with("memory_gb ", "-1"), &["example-large", "`memory_gb`", "above 0", "-1"]);
    refuse(&with("memory_gb ", "nan"), &["`memory_gb`", "above 0"]);
    refuse(&with("memory_gb ", "\"much\""), &["much"]);
    refuse(&with("reserved_gb", "100"), &["`reserved_gb`", "below `memory_gb`"]);
    refuse(&with("nodes", "0"), &["`nodes` must be at least 1"]);
    refuse(&with("nodes", "1000000"), &["more than 1048576 devices"]);
    refuse(&with("name", "\"same\""), &["two kinds", "`same`"]);
    refuse(&with("network_gb_per_s", "1\n[[devices]]"), &["missing field"]);
    let alone: String = cluster::EXAMPLE
        .lines()
        .filter(|line| !line.starts_with("link_gb") && !line.starts_with("network"))
        .flat_map(|line| [line, "\n"])
        .collect();
    refuse(&alone, &["`link_gb_per_s` is missing"]);
    let said = fail(place.trainer().args(["plan", "tiny", "--cluster", "nowhere.toml"]), 1);
    assert!(said.contains("nowhere.toml") && said.contains("cluster"), "{said}");
    assert!(cluster::read(Path::new("nowhere.toml")).is_err());
}

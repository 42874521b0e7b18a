//! No text makes the emulator panic: it loads or is refused, and what loads runs or faults.

use cuda::{Device, Error, LaunchConfig, Options};

const ROWS: &str = include_str!("kernels/rows.ptx");

fn load(text: &str) -> Result<(), Error> {
    Device::new(Options { threads: 1, ..Options::default() }).load_module(text).map(|_| ())
}

/// A generator of indices.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

#[test]
fn every_beginning_of_a_module_is_loaded_or_refused() {
    let text = &ROWS[..12_000];
    for end in (0..text.len()).step_by(61) {
        let _ = load(&text[..end]);
    }
}

#[test]
fn modules_with_words_exchanged_load_or_are_refused_and_run_or_fault() {
    let entry = ROWS.find(".visible .entry softmax").expect("the entry");
    let end = entry + ROWS[entry..].find("\n}").expect("its end") + 2;
    let header = ".version 9.0\n.target sm_80\n.address_size 64\n";
    let words: Vec<&str> = ROWS[entry..end].split_inclusive([' ', '\t', '\n', ',', ';']).collect();
    let mut draw = Draw(1);
    let (mut loaded, mut finished) = (0, 0);
    for _ in 0..1500 {
        let mut changed = words.clone();
        for _ in 0..1 + draw.below(3) {
            let (from, to) = (draw.below(words.len()), draw.below(words.len()));
            changed[to] = words[from];
        }
        let options = Options { threads: 1, warp_instruction_limit: 20_000, ..Options::default() };
        let device = Device::new(options);
        let Ok(module) = device.load_module(&format!("{header}{}", changed.concat())) else { continue };
        loaded += 1;
        let x = device.memory().alloc(4096).expect("memory");
        device.memory().fill(x, &[0, 0, 128, 63], 1024).expect("in bounds");
        let mut params = [x.to_le_bytes(), x.to_le_bytes()].concat();
        params.extend(100u32.to_le_bytes());
        let config = LaunchConfig { grid: [2, 1, 1], block: [40, 1, 1], shared_bytes: 16 };
        finished += u32::from(device.launch(&module, "softmax", &config, &params).is_ok());
    }
    // The changes are small enough that many modules still load, and some still run.
    assert!(loaded > 300 && finished > 10, "{loaded} loaded, {finished} finished");
}

#[test]
fn hostile_sizes_and_depths_are_refused() {
    let deep = format!(".visible .entry f() {{ {} }}", "{".repeat(100_000));
    assert!(load(&deep).is_err());
    let deep = format!(".global .b32 x[4] = {};", "{".repeat(100_000));
    assert!(load(&deep).is_err());
    let deep = format!(".visible .entry f() {{ .reg .b32 %r<2>; mov.b32 %r1, {}; }}", "{".repeat(100_000));
    assert!(load(&deep).is_err());
    assert!(load(".visible .entry f() { .reg .b64 %rd<999999999>; }").is_err());
    assert!(load(".global .b64 x[4294967295];").is_err());
    let big = ".version 8.0 .visible .entry f() { .local .b8 x[4294967295]; .local .b8 y[4294967295]; \
               .shared .align 128 .b8 z[4294967295]; .shared .align 128 .b8 w[8]; ret; }";
    let device = Device::new(Options::default());
    let module = device.load_module(big).expect("a module that no device can run");
    let config = LaunchConfig { grid: [1, 1, 1], block: [1, 1, 1], shared_bytes: 0 };
    assert!(device.launch(&module, "f", &config, &[]).is_err());
    for (grid, block) in [([0, 1, 1], [1, 1, 1]), ([1, 1, 1], [2048, 1, 1]), ([1, 70_000, 1], [1, 1, 1])] {
        let config = LaunchConfig { grid, block, shared_bytes: 0 };
        assert!(device.launch(&module, "f", &config, &[]).is_err());
    }
}

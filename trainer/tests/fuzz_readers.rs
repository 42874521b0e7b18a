//! A seeded run of every reader of `fuzz/`: hundreds of damaged files each, none of which may bring a panic, take memory that the
//! file does not have, or end with a message that does not say where.
//!
//! A binary of its own: it counts the memory of the whole process.

mod damage;
mod readers;
mod shards;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use damage::{damage, reshape};
use readers::{READERS, Whole};

/// The system's allocator, counting.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(by: usize) {
    let live = LIVE.fetch_add(by, Ordering::Relaxed) + by;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: the memory is everybody's.
static ALONE: Mutex<()> = Mutex::new(());

/// More than any of the small files can be a reason for: an id of a tokenizer just below 2^24 makes tables of that length, and a
/// configuration of 2^17 experts as many names.
const MOST_MEMORY: usize = 256 << 20;

/// Cases of blind damage and of changed structure; readers that take long get fewer.
fn cases(name: &str) -> (u64, u64) {
    match name {
        "tokenizer" => (60, 90),
        "safetensors" | "shard_manifest" => (120, 120),
        _ => (160, 240),
    }
}

#[test]
fn no_file_makes_a_reader_panic_or_take_memory_without_measure() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let whole = Whole::new();
    let mut problems = Vec::new();
    for reader in READERS {
        let start = Instant::now();
        let (mut refused, mut of, mut most) = (0, 0, 0);
        for file in reader.files {
            let valid = std::fs::read(whole.path(file)).unwrap();
            assert_eq!(whole.feed(reader, file, &valid), Ok(()), "{}: {file} as it was written", reader.name);
            let (blind, shaped) = cases(reader.name);
            let name = Path::new(file).file_name().unwrap().to_str().unwrap();
            let damaged = (0..blind).map(|case| (case, Some(damage(&valid, case))));
            let reshaped = (0..shaped).map(|case| (case, reshape(name, &valid, case)));
            for (case, bytes) in damaged.chain(reshaped) {
                let Some(bytes) = bytes else { continue };
                let before = LIVE.load(Ordering::Relaxed);
                PEAK.store(before, Ordering::Relaxed);
                let outcome = catch_unwind(AssertUnwindSafe(|| whole.feed(reader, file, &bytes)));
                let taken = PEAK.load(Ordering::Relaxed).saturating_sub(before);
                let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
                if outcome.is_err() || taken >= MOST_MEMORY {
                    let what = if outcome.is_err() { "a panic" } else { "too much memory" };
                    problems.push(format!(
                        "{} case {case} of {file}: {what}, {taken} bytes taken, with\n{}",
                        reader.name,
                        shown()
                    ));
                }
                (most, of) = (most.max(taken), of + 1);
                refused += usize::from(!matches!(outcome, Ok(Ok(()))));
            }
        }
        let (seconds, most) = (start.elapsed().as_secs_f64(), most >> 10);
        println!("{:<20} {refused:>4} of {of:>4} refused, {most:>7} KiB, {seconds:.2} s", reader.name);
        // Plain text has nothing that could be wrong.
        let least = if reader.name == "text_tree" { 0 } else { 20 };
        assert!(refused >= least, "{}: only {refused} of {of} refused", reader.name);
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Empty files, files of another kind, and lengths that no memory has.
#[test]
fn files_of_other_kinds_are_refused_or_harmless() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let whole = Whole::new();
    let mut foreign: Vec<Vec<u8>> =
        vec![vec![], vec![0; 4096], vec![0xff; 4096], b"[".repeat(100_000), b"{\"a\":".repeat(100_000)];
    foreign.push((1u64 << 60).to_le_bytes().repeat(64));
    foreign.extend(
        ["text/x.jsonl.gz", "shards/shard-00000.tokens", "model/config.json"]
            .map(|file| std::fs::read(whole.path(file)).unwrap()),
    );
    for reader in READERS {
        for (case, bytes) in foreign.iter().enumerate() {
            let before = LIVE.load(Ordering::Relaxed);
            PEAK.store(before, Ordering::Relaxed);
            let outcome = catch_unwind(AssertUnwindSafe(|| whole.feed(reader, reader.files[0], bytes)));
            assert!(outcome.is_ok(), "{}: {case}", reader.name);
            let taken = PEAK.load(Ordering::Relaxed).saturating_sub(before);
            assert!(taken < MOST_MEMORY, "{}: {case} takes {taken} bytes", reader.name);
        }
    }
}

/// Files that no seeded change comes upon: each would take more memory or time than there is, were it not for a bound.
#[test]
fn what_a_small_file_asks_for_is_bounded() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let whole = Whole::new();
    let read = |name: &str, file: &str, bytes: &[u8]| {
        let reader = READERS.iter().find(|reader| reader.name == name).unwrap();
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let outcome = whole.feed(reader, file, bytes);
        let taken = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        assert!(taken < MOST_MEMORY, "{name} takes {taken} bytes");
        outcome
    };
    let text = |file: &str| std::fs::read_to_string(whole.path(file)).unwrap();

    // A thousand choices of which one is there, ten thousand times.
    let line = text("requests/requests.jsonl").lines().next().unwrap().replace("\"idx\":0", "\"idx\":1023");
    let lines: String =
        (0..10_000).map(|id| line.replace("\"doc_id\":0", &format!("\"doc_id\":{id}")) + "\n").collect();
    let said = read("requests", "requests/requests.jsonl", lines.as_bytes()).unwrap_err();
    assert!(said.contains("none that is complete"), "{said}");

    // A device without an end in the place of a checkpoint's file.
    let file = "run/checkpoints/step-00000001/manifest.json";
    let said = read("checkpoint_manifest", file, text(file).replace("state.json", "/dev/zero").as_bytes())
        .unwrap_err();
    assert!(said.contains("names of files in its folder"), "{said}");

    // Names for as many experts as a number can say, in each of as many layers as are allowed.
    for (experts, layers) in [(1u64 << 40, 2), (1 << 17, 60_000), (1 << 16, 3)] {
        let config = text("mixtral/config.json")
            .replace("\"num_local_experts\":6", &format!("\"num_local_experts\":{experts}"))
            .replace("\"num_hidden_layers\":2", &format!("\"num_hidden_layers\":{layers}"));
        let said = read("model_config", "mixtral/config.json", config.as_bytes()).unwrap_err();
        assert!(said.contains("`experts`"), "{said}");
    }

    // Numbers between which no axis has round ones.
    let ends = [(0.0, 5e-324), (1e-308, 1.7e308), (-1.7e308, 1.7e308), (1e300, 1.0000000000000002e300)];
    for (low, high) in ends {
        let mut lines = String::new();
        for (step, value) in [(1u64, low), (u64::MAX, high)] {
            let record = format!(
                "{{\"kind\":\"step\",\"step\":{step},\"tokens\":{step},\"loss\":{value:e},\"ce\":{value:e},\"lr\":{value:e},\
                 \"grad_norm\":{value:e},\"tokens_per_s\":{value:e},\"flops_per_s\":{value:e},\"elapsed_s\":{value:e}}}\n"
            );
            lines.push_str(&record);
        }
        read("metrics", "run/metrics.jsonl", lines.as_bytes()).unwrap();
    }
    let counts = "{\"domains\":[\"a\"],\"layers\":[{\"layer\":0,\"counts\":[[18446744073709551615,1]]}]}";
    let said = read("routing", "run/routing.json", counts.as_bytes()).unwrap_err();
    assert!(said.contains("add up to more than 2^64"), "{said}");

    // A file of a terabyte, all of it a hole, among texts.
    let hole = std::fs::File::create(whole.path("tree/b/hole.txt")).unwrap();
    hole.set_len(1 << 40).unwrap();
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let corpus = trainer::data::folder::load(&whole.path("tree"), &trainer::data::Limits::default()).unwrap();
    assert_eq!(corpus.skipped.huge, 1);
    assert!(PEAK.load(Ordering::Relaxed).saturating_sub(before) < MOST_MEMORY);
}

/// With `EMO_FUZZ_CORPUS` a folder to begin a fuzzing campaign from is written there, too.
#[test]
fn every_reader_has_a_fuzz_target() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let files: BTreeSet<String> = std::fs::read_dir(&targets)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // Whether the feature is on decides what can be tested, not what can be fuzzed.
    let mut expected: BTreeSet<String> =
        READERS.iter().map(|reader| format!("{}.rs", reader.name)).chain(["parquet.rs".into()]).collect();
    assert_eq!(files, expected);
    let manifest = std::fs::read_to_string(targets.join("../Cargo.toml")).unwrap();
    for file in std::mem::take(&mut expected) {
        let (name, text) =
            (file.trim_end_matches(".rs"), std::fs::read_to_string(targets.join(&file)).unwrap());
        assert!(text.contains(&format!("fuzz(\"{name}\", bytes)")), "{file}: {text}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
    }
    if let Some(corpus) = std::env::var_os("EMO_FUZZ_CORPUS") {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = Whole::new();
        for reader in READERS {
            let folder = Path::new(&corpus).join(reader.name);
            std::fs::create_dir_all(&folder).unwrap();
            for file in reader.files {
                std::fs::copy(whole.path(file), folder.join(file.replace('/', "-"))).unwrap();
            }
        }
    }
}

//! What the targets share with the tests of the trainer: `trainer/tests/fuzz_readers.rs` runs every target on seeded damage.

#[path = "../../trainer/tests/readers/mod.rs"]
pub mod readers;
#[path = "../../trainer/tests/shards/mod.rs"]
pub mod shards;

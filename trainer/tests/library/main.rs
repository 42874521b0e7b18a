//! What the library computes, reads and writes: a file for each behaviour, one binary for all of them. Nothing here starts a
//! process: a lock that is given back could live on in a child for a moment.

mod checkpoints;
mod config;
#[path = "../damage/mod.rs"]
mod damage;
mod data_corpus;
mod data_hostile;
mod data_packing;
mod data_shards;
mod data_tokenizers;
mod model;
mod model_gradients;
mod report_metrics;
mod report_page;
#[path = "../shards/mod.rs"]
mod shards;

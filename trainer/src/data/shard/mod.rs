//! Token shards: tokenised text in files that are mapped, not read.
//!
//! A folder of shards is `manifest.json`, `shard-00000.tokens` and so on, and the `tokenizer.json` they were made with.
//! A shard is little-endian throughout:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `emotoken` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | bytes of a token, 2 or 4 |
//! | 16 | 8 | number of tokens `T` |
//! | 24 | 8 | number of documents `D` |
//! | 32 | 4 | id that ends a document |
//! | 36 | 4 | vocabulary: every id is below it |
//! | 40 | 8 | identity of the tokenizer ([`Identity::short`](super::tokenizer::Identity::short)) |
//! | 48 | 4 | number of domains |
//! | 52 | 4 | CRC-32 (IEEE) of the tokens |
//! | 56 | 4 | CRC-32 of the documents |
//! | 60 | 4 | CRC-32 of the 60 bytes before it |
//! | 64 | `T * width` | the tokens, then zeros up to a multiple of 8 |
//! | … | `D * 24` | each document: exclusive end among the tokens (8), identity (8), domain (4), bytes of text (4) |
//!
//! Every document ends with the end-of-document id and has no other; there are no tokens outside documents.

pub mod build;
mod format;
pub mod manifest;
mod open;
mod store;
mod write;

pub use manifest::Manifest;
pub use open::Shard;
pub use store::ShardStore;
pub use write::ShardWriter;

//! From text to a packed batch: corpus -> tokens -> rows of documents -> [`Batch`].
//!
//! The way is one-directional and every step is a pure function of what it is given:
//!
//! * [`quickstart`] and [`folder`] read text files into a [`Corpus`]: documents with a domain, validation apart from training;
//! * [`tokens`] turns each document into token ids, ended by EOS, in one flat [`TokenStore`];
//! * [`shard`] holds tokenised documents of any size in mapped files instead, made by [`shard::build`] of what [`read`] reads
//!   and a [`Tokenizer`] tokenises; both are [`Documents`];
//! * [`packing`] cuts documents into rows and fills a reusable [`Batch`] with ids, labels and document segments;
//! * [`stream`] says which row of which source enters which batch;
//! * [`validation`] does the same for held-out documents, one domain a row.

pub mod corpus;
mod error;
pub mod folder;
mod guard;
pub mod hash;
pub mod order;
pub mod packing;
pub mod quickstart;
pub mod read;
pub mod selected;
pub mod shard;
pub mod stream;
pub mod tokenizer;
pub mod tokens;
pub mod train_tokenizer;
pub mod validation;

pub use corpus::{Corpus, Document, Limits};
pub use error::DataError;
pub use packing::{Batch, Packing, RoutingBoundary};
pub use stream::{BatchStream, Portion, StreamPosition};
pub use tokenizer::Tokenizer;
pub use tokens::{ByteTokenizer, Documents, TokenStore};
pub use validation::ValidationSet;

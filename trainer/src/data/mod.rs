//! From text to a packed batch: corpus -> tokens -> rows of documents -> [`Batch`].
//!
//! The way is one-directional and every step is a pure function of what it is given:
//!
//! * [`quickstart`] and [`folder`] read text files into a [`Corpus`]: documents with a domain, validation apart from training;
//! * [`tokens`] turns each document into token ids, ended by EOS, in one flat [`TokenStore`];
//! * [`packing`] cuts the store into rows and fills a reusable [`Batch`] with ids, labels and document segments;
//! * [`validation`] does the same for held-out documents, one domain a row.

pub mod corpus;
mod error;
pub mod folder;
pub mod hash;
pub mod order;
pub mod packing;
pub mod quickstart;
pub mod tokens;
pub mod validation;

pub use corpus::{Corpus, Document, Limits};
pub use error::DataError;
pub use packing::{Batch, BatchStream, Packing, RoutingBoundary, StreamPosition};
pub use tokens::{ByteTokenizer, TokenStore};
pub use validation::ValidationSet;

//! Handwritten Mixture-of-Experts kernels with a safe API.
//!
//! A mixture of experts replaces one wide MLP by many small ones and a **router** that sends each token to a few of them.
//! This crate holds the parts, forward and backward, for an engine or a trainer to put together:
//!
//! | step | op |
//! |---|---|
//! | `logits = x w^T` | [`ops::router_logits`] |
//! | smooth logits along a document (optional) | [`ops::smoothing`] |
//! | choose the experts a document may use (EMO) | [`ops::pool`] |
//! | mask, score, top-k, normalise, shared experts | [`ops::router`] |
//! | group tokens by expert | [`ops::permutation`] |
//! | spread experts over ranks (optional) | [`ops::all_to_all`], [`communicator`] |
//! | run the experts | [`ops::experts`], or [`ops::grouped_gemm`] for your own |
//! | weigh and sum a token's experts | [`ops::permutation::Combine`] |
//! | balance, and other wishes about routing | [`ops::losses`] |
//!
//! The rest of a transformer (norm, rotary embedding, attention inside documents, cross-entropy, AdamW) is here too.
//!
//! # One running example
//!
//! Pick a backend. A backend value stands for a device and the order of its work; on the CPU that is a pool of threads
//! and the widest instruction set of the processor. Buffers are yours: views of the CPU backend are plain slices.
//!
//! ```
//! use emo::{backend::Backend, cpu::Cpu, ops::router::{Forward, KeepMask, RouterConfig}};
//!
//! # fn main() -> emo::Result<()> {
//! let cpu = Cpu::new(2)?;
//! // Two tokens choose two of four experts.
//! let config = RouterConfig::softmax(4, 2);
//! let logits = [0.1, 2.0, -1.0, 0.7,   3.0, 0.0, 0.0, 3.0];
//! let (mut probs, mut lse) = ([0.0; 8], [0.0; 2]);
//! let (mut weights, mut indices, mut counts) = ([0.0; 4], [0; 4], [0; 4]);
//! cpu.router_forward(Forward {
//!     config: &config,
//!     tokens: 2,
//!     logits: &logits,
//!     bias: None,
//!     selection_bias: None,
//!     keep: KeepMask::All,
//!     probs: &mut probs,
//!     weights: &mut weights,
//!     indices: &mut indices,
//!     counts: &mut counts,
//!     lse: &mut lse,
//! })?;
//! assert_eq!(indices, [1, 3, 0, 3]);   // the tie of token 1 goes to the lower index first
//! assert_eq!(counts, [1, 1, 0, 2]);
//!
//! // A buffer of the wrong length is an error with names in it, never a panic.
//! let error = cpu.add(&logits[..3], &mut lse).unwrap_err();
//! assert_eq!(error.to_string(), "add: `y` must hold 3 elements, found 2");
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! * [`mod@reference`] is the specification: every op as plain f64 code. [`oracle`] runs it behind the same trait, so that
//!   whole networks can be checked in f64.
//! * Results are bit-identical from run to run and for any number of threads.
//! * Parameter gradients accumulate (`+=`), activation gradients overwrite (`=`).
//! * Ops never allocate; where one needs scratch, a `*_workspace` method says how much.
//! * No safe function can reach undefined behaviour.

pub mod backend;
pub mod communicator;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod error;
mod host;
pub mod ops;
pub mod oracle;
pub mod reference;

pub use backend::Backend;
pub use error::{Error, Result};

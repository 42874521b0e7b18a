//! Models on text they were not trained on.
//!
//! [`held_out`] measures bits per byte by domain, during training and after it; [`text`] finds the text for a checkpoint,
//! [`tokens`] whether it can be the model's; [`requests`] answers benchmarks; [`retention`] measures subsets of the experts;
//! [`ngram`] is what a model must beat.

pub mod held_out;
pub mod ngram;
pub mod requests;
pub mod retention;
pub mod text;
pub mod tokens;

//! Models on text they were not trained on.
//!
//! [`held_out`] measures bits per byte by domain, during training and after it; [`text`] finds the text for a checkpoint;
//! [`retention`] measures subsets of the experts.

pub mod held_out;
pub mod retention;
pub mod text;

//! Documents inside a packed batch.

use super::check::{at_least, length};
use crate::Result;
use crate::backend::{Backend, Indices, Len};

/// A partition of the tokens into consecutive segments (documents, or parts of documents cut by a row's end).
///
/// `offsets[i]..offsets[i + 1]` are the tokens of segment `i`; `of_token[t]` names the segment of token `t`.
/// The two say the same thing: one suits work per segment, the other work per token.
pub struct Segments<'a, B: Backend> {
    /// `[segments + 1]`, ascending, from 0 to the number of tokens.
    pub offsets: Indices<'a, B>,
    /// `[tokens]`.
    pub of_token: Indices<'a, B>,
}

impl<B: Backend> Clone for Segments<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Segments<'_, B> {}

impl<B: Backend> Segments<'_, B> {
    /// Lengths fit; the values are checked where they live.
    pub fn check(&self, op: &'static str, tokens: usize) -> Result<()> {
        at_least(op, "segments.offsets", &self.offsets, 1)?;
        length(op, "segments.of_token", &self.of_token, &[tokens])
    }

    /// How many segments.
    pub fn count(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }
}

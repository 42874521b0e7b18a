//! Token embedding.

use super::check::{length, positive};
use crate::Result;
use crate::backend::{Backend, Indices, Stored, StoredMut, ViewMut};

/// `ids [rows]`, `table [vocabulary, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows (tokens).
    pub rows: usize,
    /// Rows of the table.
    pub vocabulary: usize,
    /// Model width.
    pub width: usize,
}

/// `y_t = table[ids_t]`.
pub struct Forward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Token ids, below `vocabulary`.
    pub ids: Indices<'a, B>,
    /// Embedding table.
    pub table: Stored<'a, B>,
    /// Output `[rows, width]`.
    pub y: StoredMut<'a, B>,
}

impl<B: Backend> Forward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "embedding_forward";
        positive(OP, "width", self.shape.width)?;
        length(OP, "ids", &self.ids, &[self.shape.rows])?;
        length(OP, "table", &self.table, &[self.shape.vocabulary, self.shape.width])?;
        length(OP, "y", &self.y, &[self.shape.rows, self.shape.width])
    }
}

/// `dtable[ids_t] += dy_t`, tokens in ascending order; the `padding` row gets nothing.
pub struct Backward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Token ids, below `vocabulary`.
    pub ids: Indices<'a, B>,
    /// A row that takes no gradient (`padding_idx`).
    pub padding: Option<u32>,
    /// Gradient of the output.
    pub dy: Stored<'a, B>,
    /// Gradient of the table, accumulated.
    pub dtable: ViewMut<'a, B>,
}

impl<B: Backend> Backward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "embedding_backward";
        positive(OP, "width", self.shape.width)?;
        length(OP, "ids", &self.ids, &[self.shape.rows])?;
        length(OP, "dy", &self.dy, &[self.shape.rows, self.shape.width])?;
        length(OP, "dtable", &self.dtable, &[self.shape.vocabulary, self.shape.width])
    }
}

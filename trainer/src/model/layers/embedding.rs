//! Token embedding.

use std::ops::Range;

use emo::Result;
use emo::backend::Backend;
use emo::ops::embedding::{Backward, Forward, Shape};

use super::Context;
use crate::model::activations::{read, write};

fn shape<B: Backend>(cx: &Context<'_, B>) -> Shape {
    Shape { rows: cx.tokens(), vocabulary: cx.config.vocabulary, width: cx.config.width }
}

/// `y_t = table[ids_t]`.
pub(crate) fn forward<B: Backend>(
    cx: &Context<'_, B>,
    table: &Range<usize>,
    y: &mut B::Buffer<B::Storage>,
) -> Result<()> {
    let shape = shape(cx);
    cx.backend.embedding_forward(Forward {
        shape,
        ids: read(cx.backend, &cx.batch.ids, shape.rows)?,
        table: cx.matrix(table)?,
        y: write(cx.backend, y, shape.rows * shape.width)?,
    })
}

/// The rows' gradients, summed into the table's; the padding row takes none.
pub(crate) fn backward<B: Backend>(
    cx: &Context<'_, B>,
    table: &Range<usize>,
    dy: &B::Buffer<B::Storage>,
    grads: &mut B::Buffer<B::Real>,
) -> Result<()> {
    let shape = shape(cx);
    cx.backend.embedding_backward(Backward {
        shape,
        ids: read(cx.backend, &cx.batch.ids, shape.rows)?,
        padding: cx.config.pad_id,
        dy: read(cx.backend, dy, shape.rows * shape.width)?,
        dtable: cx.backend.view_mut(grads, table.clone())?,
    })
}

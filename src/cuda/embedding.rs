//! Token embedding: kernels/embedding.cu.

use crate::ops::embedding::{Backward, Forward, Shape};
use crate::{Error, Result};

use super::launch::{Grid, size, wide};
use super::module::kernels;
use super::params::{
    EMO_EMBEDDING_OWNERS, EMO_EMBEDDING_THREADS, EMO_SITE_EMBEDDING_BACKWARD_IDS,
    EMO_SITE_EMBEDDING_FORWARD_IDS, EmoEmbeddingBackward, EmoEmbeddingForward,
};
use super::status::Site;
use super::{Cuda, CudaStorage};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[
    Site { site: EMO_SITE_EMBEDDING_FORWARD_IDS, op: "embedding_forward", arg: "ids" },
    Site { site: EMO_SITE_EMBEDDING_BACKWARD_IDS, op: "embedding_backward", arg: "ids" },
];

pub(super) fn forward<S: CudaStorage>(cuda: &Cuda<S>, args: Forward<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "embedding_forward";
    args.check()?;
    let Shape { rows, vocabulary, width } = args.shape;
    let (table, y) = (cuda.read(args.table)?.cast(), cuda.write(&args.y)?.cast());
    let params = EmoEmbeddingForward {
        ids: cuda.read(args.ids)?,
        table,
        y,
        rows: size(OP, "rows", rows)?,
        vocabulary: size(OP, "vocabulary", vocabulary)?,
        width: size(OP, "width", width)?,
        wide: wide(&[table, y], size_of::<S>(), &[width]),
        status: cuda.status.pointer(),
    };
    let grid = Grid::line(params.rows.div_ceil(EMO_EMBEDDING_THREADS / 32), EMO_EMBEDDING_THREADS);
    // SAFETY: `check` has compared every length with the shape; ids are compared with the vocabulary before use.
    unsafe { cuda.launch(kernels::EMBEDDING_FORWARD, grid, &params) }
}

pub(super) fn backward<S: CudaStorage>(cuda: &Cuda<S>, args: Backward<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "embedding_backward";
    args.check()?;
    let Shape { rows, vocabulary, width } = args.shape;
    if rows > 1 << 31 {
        return Err(Error::argument(OP, "rows", "at most 2^31 on this device", rows));
    }
    if rows == 0 || vocabulary == 0 {
        return Ok(());
    }
    let (dy, dtable) = (cuda.read(args.dy)?.cast(), cuda.write(&args.dtable)?);
    let params = EmoEmbeddingBackward {
        ids: cuda.read(args.ids)?,
        dy,
        dtable,
        rows: size(OP, "rows", rows)?,
        vocabulary: size(OP, "vocabulary", vocabulary)?,
        width: size(OP, "width", width)?,
        padding: args.padding.unwrap_or(u32::MAX),
        wide: wide(&[dy, dtable.cast()], size_of::<S>(), &[width]),
        status: cuda.status.pointer(),
    };
    let owners = EMO_EMBEDDING_OWNERS.min(params.vocabulary.checked_next_power_of_two().unwrap_or(u32::MAX));
    let piece = if params.wide == 1 { 16 / size_of::<S>() as u32 } else { 1 };
    let columns = (params.width / piece).div_ceil(EMO_EMBEDDING_THREADS);
    let grid = Grid { blocks: [owners, columns, 1], ..Grid::line(owners, EMO_EMBEDDING_THREADS) };
    // SAFETY: `check` has compared every length with the shape; ids are compared with the vocabulary before use, and a row
    // of the table belongs to the one block of its column pieces that its id falls to.
    unsafe { cuda.launch(kernels::EMBEDDING_BACKWARD, grid, &params) }
}

//! Causal attention inside segments, in tiles: no score matrix is ever stored (Dao et al. 2022, arXiv 2205.14135).
//!
//! A tile is at most [`QUERIES`] queries against [`KEYS`] keys. Its products run on one thread, because a task is one tile row
//! of one head; tasks and tiles are cut by the shape alone.

mod backward;
mod cached;
mod forward;

pub(super) use backward::backward;
pub(super) use cached::cached;
pub(super) use forward::forward;

use std::ops::Range;

use crate::ops::attention::Shape;
use crate::{Error, Result, host};

use super::Cpu;
use super::gemm::serial::{Strided, scratch_len};
use super::simd::Storage;
use crate::ops::segments::Segments;

/// Queries of a tile.
const QUERIES: usize = 64;
/// Keys of a tile: more than queries, so that what is packed and rescaled for every tile serves more products. The last tile of
/// a row ends at its last query, so wider tiles compute no more masked scores.
const KEYS: usize = 256;

/// Elements for every thread: the backward pass needs the most, two tiles of scores, the queries' gradient, the gradients of
/// a segment's keys and values, and the products' scratch.
pub(super) fn workspace<T: Storage>(cpu: &Cpu<T>, shape: Shape) -> usize {
    cpu.threads.len().saturating_mul(per_thread(shape))
}

fn per_thread(shape: Shape) -> usize {
    let longest = shape.longest.min(shape.tokens);
    let kv = longest.saturating_mul(2).saturating_mul(shape.head_dim);
    let tiles = 2 * QUERIES * KEYS + QUERIES;
    let dq = shape.head_dim.saturating_mul(QUERIES);
    kv.saturating_add(tiles).saturating_add(dq).saturating_add(product_scratch(shape))
}

/// Scratch of the largest product: a tile against a head, in any of its layouts.
fn product_scratch(shape: Shape) -> usize {
    let d = shape.head_dim;
    scratch_len(QUERIES, KEYS, d).max(scratch_len(QUERIES, d, KEYS)).max(scratch_len(KEYS, d, QUERIES))
}

/// Values that the argument struct cannot check.
fn check_values<T: Storage>(op: &'static str, shape: Shape, segments: &Segments<'_, Cpu<T>>) -> Result<()> {
    host::segments(op, segments, shape.tokens)?;
    let longest = segments.offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as usize;
    if longest > shape.longest {
        let expected = format!("at least the longest segment, {longest}");
        return Err(Error::argument(op, "longest", expected, shape.longest));
    }
    Ok(())
}

/// The packed input and where its heads lie.
#[derive(Clone, Copy)]
struct Packed<'a, T> {
    shape: Shape,
    qkv: &'a [T],
}

impl<'a, T> Packed<'a, T> {
    /// Column of a query head.
    fn query(&self, head: usize) -> usize {
        head * self.shape.head_dim
    }
    /// Column of the key head that a query head reads.
    fn key(&self, head: usize) -> usize {
        (self.shape.heads + self.kv_head(head)) * self.shape.head_dim
    }
    /// Column of the value head that a query head reads.
    fn value(&self, head: usize) -> usize {
        (self.shape.heads + self.shape.kv_heads + self.kv_head(head)) * self.shape.head_dim
    }
    fn kv_head(&self, head: usize) -> usize {
        head / (self.shape.heads / self.shape.kv_heads)
    }
    /// One head of the rows `from..`.
    fn head(&self, from: usize, column: usize) -> Strided<'a, T> {
        Strided { data: &self.qkv[from * self.shape.row() + column..], ld: self.shape.row() }
    }
}

/// What scores are multiplied with.
fn scale(shape: Shape) -> f32 {
    (1.0 / (shape.head_dim as f64).sqrt()) as f32
}

/// `range` in pieces of at most `step`.
fn pieces(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(step).map(move |start| start..end.min(start + step))
}

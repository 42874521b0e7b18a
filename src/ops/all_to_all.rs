//! Experts spread over ranks: which rows each rank sends to which, and how a rank groups what it receives.
//!
//! Rank `r` of `ranks` owns the experts `first(r)..first(r + 1)`, see [`Shape::owned`]. A rank's [plan] sorts its rows by
//! expert, so what goes to one rank lies together and leaves without being moved. What arrives lies by sender, and by
//! expert inside it; [`ReceivePlan`] gives the order by expert, and in an expert by sender, which is the order of one rank
//! that had all tokens: results do not depend on how many ranks share the work.
//!
//! A layer, forward: plan, dispatch, [`SendPlan`], [exchange of counts], [`ReceivePlan`], [exchange of rows], the experts
//! over `gather` as their `token` (or [grouped products] over it as their `gather`), a [dispatch] by `inverse`, the
//! exchange back, combine. Backward the same way round: the exchanges change sides.
//!
//! [plan]: super::permutation::Plan
//! [dispatch]: super::permutation::Dispatch
//! [grouped products]: super::grouped_gemm::Forward
//! [exchange of counts]: crate::communicator::Communicator::exchange_counts
//! [exchange of rows]: crate::communicator::Communicator::exchange

use std::ops::Range;

use super::check::{length, positive, product, require};
use crate::Result;
use crate::backend::{Backend, Indices, IndicesMut, Len};

/// `experts` experts in consecutive blocks over `ranks` ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Ranks.
    pub ranks: usize,
    /// Experts of all ranks.
    pub experts: usize,
}

impl Shape {
    /// The first expert of `rank`: `rank * experts / ranks`, rounded down. `first(ranks)` is `experts`.
    pub fn first(&self, rank: usize) -> usize {
        let first = rank as u128 * self.experts as u128 / self.ranks.max(1) as u128;
        first.min(self.experts as u128) as usize
    }

    /// The experts of `rank`.
    pub fn owned(&self, rank: usize) -> Range<usize> {
        self.first(rank)..self.first(rank.saturating_add(1))
    }

    fn check(&self, op: &'static str) -> Result<()> {
        positive(op, "ranks", self.ranks)?;
        positive(op, "experts", self.experts)?;
        require(self.ranks < u32::MAX as usize, op, "ranks", "below 2^32 - 1", self.ranks)?;
        require(self.experts < u32::MAX as usize, op, "experts", "below 2^32 - 1", self.experts)
    }
}

/// What this rank sends, from its own plan.
pub struct SendPlan<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Rows of the plan.
    pub rows: usize,
    /// The plan's `offsets`, `[experts + 1]`, ascending from 0 to `rows`.
    pub offsets: Indices<'a, B>,
    /// Output `[experts]`: rows of each expert. Those of [`Shape::owned`]`(r)` are what rank `r` has to know.
    pub counts: IndicesMut<'a, B>,
    /// Output `[ranks + 1]`: the plan's rows `send[r]..send[r + 1]` go to rank `r`.
    pub send: IndicesMut<'a, B>,
}

impl<B: Backend> SendPlan<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "send_plan";
        self.shape.check(OP)?;
        require(self.rows <= u32::MAX as usize, OP, "rows", "at most 2^32 - 1", self.rows)?;
        length(OP, "offsets", &self.offsets, &[self.shape.experts + 1])?;
        length(OP, "counts", &self.counts, &[self.shape.experts])?;
        length(OP, "send", &self.send, &[self.shape.ranks + 1])
    }
}

/// How this rank groups what it receives.
pub struct ReceivePlan<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// This rank.
    pub rank: usize,
    /// `[ranks, own experts]`: how many rows each rank has for each expert of this rank.
    pub counts: Indices<'a, B>,
    /// Output `[ranks + 1]`: the received rows `receive[r]..receive[r + 1]` come from rank `r`.
    pub receive: IndicesMut<'a, B>,
    /// Output `[own experts + 1]`: grouped rows `offsets[e]..offsets[e + 1]` belong to this rank's expert `e`.
    pub offsets: IndicesMut<'a, B>,
    /// Output, with room for every received row: the received row of each grouped row. What lies behind is left alone.
    pub gather: IndicesMut<'a, B>,
    /// Output, as long: the grouped row of each received row.
    pub inverse: IndicesMut<'a, B>,
}

impl<B: Backend> ReceivePlan<'_, B> {
    /// Lengths fit each other; whether the rows have room is seen where the counts live.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "receive_plan";
        let Self { shape, rank, .. } = *self;
        shape.check(OP)?;
        require(rank < shape.ranks, OP, "rank", format_args!("below {}", shape.ranks), rank)?;
        let own = shape.owned(rank).len();
        product(OP, "counts", &[shape.ranks, own])?;
        length(OP, "counts", &self.counts, &[shape.ranks, own])?;
        length(OP, "receive", &self.receive, &[shape.ranks + 1])?;
        length(OP, "offsets", &self.offsets, &[own + 1])?;
        let room = self.gather.len();
        require(room <= u32::MAX as usize, OP, "gather", "at most 2^32 - 1 rows", room)?;
        length(OP, "inverse", &self.inverse, &[room])
    }
}

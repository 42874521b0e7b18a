//! Which rows go to which rank, and in which order a rank groups the rows it receives.
//!
//! Experts lie in consecutive blocks over the ranks; see [`crate::ops::all_to_all::Shape`].

use crate::ops::all_to_all::Shape;

/// Rows of each expert `[E]`, and for each rank where its rows begin in the plan, `[P + 1]`, from the plan's `offsets[E + 1]`.
pub fn send(shape: Shape, offsets: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let counts = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let rows = (0..=shape.ranks).map(|rank| offsets[shape.first(rank)]).collect();
    (counts, rows)
}

/// The order of received rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receive {
    /// `[P + 1]`: the received rows `receive[r]..receive[r + 1]` come from rank `r`.
    pub receive: Vec<u32>,
    /// `[own experts + 1]`: the grouped rows of each expert.
    pub offsets: Vec<u32>,
    /// The received row of each grouped row.
    pub gather: Vec<u32>,
    /// The grouped row of each received row.
    pub inverse: Vec<u32>,
}

/// Received rows lie by sender, then by expert; grouped rows lie by expert, then by sender. `counts[P, own experts]`.
pub fn receive(ranks: usize, counts: &[u32]) -> Receive {
    let own = counts.len() / ranks;
    let before = |cells: &[u32]| cells.iter().sum::<u32>();
    let receive: Vec<u32> = (0..=ranks).map(|rank| before(&counts[..rank * own])).collect();
    let (mut offsets, mut gather) = (vec![0], Vec::new());
    for expert in 0..own {
        for rank in 0..ranks {
            let first = before(&counts[..rank * own + expert]);
            gather.extend(first..first + counts[rank * own + expert]);
        }
        offsets.push(gather.len() as u32);
    }
    let mut inverse = vec![0; gather.len()];
    for (grouped, &received) in gather.iter().enumerate() {
        inverse[received as usize] = grouped as u32;
    }
    Receive { receive, offsets, gather, inverse }
}

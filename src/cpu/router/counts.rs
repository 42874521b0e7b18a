//! How many tokens chose each expert, counted by the tasks that route them. Integers: their sum has no order.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::cpu::threads::DisjointMut;

/// Experts that a task counts in a table of its own.
const EXPERTS: usize = 512;

/// The counts of all tokens.
pub(super) struct Counts<'a> {
    totals: DisjointMut<'a, u32>,
    experts: usize,
}

impl<'a> Counts<'a> {
    /// Starts at 0.
    pub fn new(totals: &'a mut [u32]) -> Self {
        totals.fill(0);
        Self { experts: totals.len(), totals: DisjointMut::new(totals) }
    }

    /// Adds some tokens' choices.
    pub fn add(&self, indices: &[u32]) {
        if self.experts > EXPERTS {
            indices.iter().for_each(|&expert| self.total(expert as usize, 1));
            return;
        }
        let mut own = [0; EXPERTS];
        for &expert in indices {
            own[expert as usize] += 1;
        }
        for (expert, &count) in own[..self.experts].iter().enumerate().filter(|(_, count)| **count > 0) {
            self.total(expert, count);
        }
    }

    fn total(&self, expert: usize, count: u32) {
        assert!(expert < self.experts);
        // SAFETY: the element exists (checked), is aligned, and while `self` borrows the totals they are touched here only.
        let total = unsafe { AtomicU32::from_ptr(self.totals.as_mut_ptr().add(expert)) };
        total.fetch_add(count, Ordering::Relaxed);
    }
}

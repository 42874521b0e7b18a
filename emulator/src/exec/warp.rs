//! A warp: registers, program counters of its lanes, local memory, asynchronous copies in flight.
//!
//! Lanes at the same instruction run together. Of several groups the one with the lowest program counter runs, so groups meet again where
//! their paths join; any choice of group is one that independent thread scheduling may make.

use super::async_copy::CopyQueue;
use super::code::{Code, Op};
use super::lanes::Registers;

/// Why a group of lanes does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It could; another one does.
    Ready,
    /// For the lanes of `needed` to reach the same instruction. Those of `leaving` may exit instead: they were about to when the wait
    /// began, as threads without work do at the start of a kernel.
    Lanes { needed: u32, leaving: u32 },
    /// At a barrier of the block.
    Barrier,
}

/// Lanes that stand at an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) pc: u32,
    pub(crate) mask: u32,
    pub(crate) wait: Wait,
}

/// Memory of the threads of a warp.
#[derive(Debug, Default)]
pub(crate) struct Local {
    bytes: Vec<u8>,
    written: Vec<bool>,
    size: usize,
}

impl Local {
    fn reset(&mut self, size: usize) {
        self.size = size;
        self.bytes.clear();
        self.bytes.resize(size * 32, 0xFF);
        self.written.clear();
        self.written.resize(size * 32, false);
    }

    pub(super) fn load(&self, lane: usize, offset: usize, bytes: usize) -> u64 {
        let at = lane * self.size + offset;
        self.bytes[at..at + bytes].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    pub(super) fn store(&mut self, lane: usize, offset: usize, bytes: usize, value: u64) {
        let at = lane * self.size + offset;
        self.bytes[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        self.written[at..at + bytes].fill(true);
    }

    pub(super) fn is_written(&self, lane: usize, offset: usize, bytes: usize) -> bool {
        let at = lane * self.size + offset;
        self.written[at..at + bytes].iter().all(|&written| written)
    }

    pub(super) fn copy(&mut self, lane: usize, from: u32, to: u32, bytes: u32) {
        let (from, to) = (lane * self.size + from as usize, lane * self.size + to as usize);
        let bytes = bytes as usize;
        self.bytes.copy_within(from..from + bytes, to);
        self.written.copy_within(from..from + bytes, to);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Warp {
    pub(crate) index: usize,
    pub(crate) registers: Registers,
    pub(crate) local: Local,
    pub(crate) copies: CopyQueue,
    /// Instruction of the running group.
    pub(crate) pc: u32,
    /// Lanes of the running group; none if every group waits.
    pub(crate) active: u32,
    /// Lanes that have not exited.
    pub(crate) live: u32,
    pub(crate) parked: Vec<Group>,
    /// Lowest program counter among the parked groups; a running group that gets there has to look.
    pub(crate) meet: u32,
    /// Instructions since another group was given its turn, and how many the favoured one may still run.
    pub(crate) alone: u32,
    pub(crate) favoured: u32,
    /// Instructions executed: by the warp, and by its lanes.
    pub(crate) executed: u64,
    pub(crate) lane_executed: u64,
    pub(crate) mma_flops: u64,
}

/// After so many instructions of one group, while others could run, another gets a turn: a lane may be waiting for what they do.
const PATIENCE: u32 = 20_000;
/// Length of that turn.
const TURN: u32 = 1_000;

impl Warp {
    /// Prepares the warp for a block: registers zero, then constants. Special registers are left to the caller.
    pub(crate) fn start(&mut self, index: usize, threads: u32, code: &Code) {
        self.index = index;
        let registers = &mut self.registers;
        registers.words.clear();
        registers.words.resize(code.words, [0; 32]);
        registers.longs.clear();
        registers.longs.resize(code.longs, [0; 32]);
        registers.preds.clear();
        registers.preds.resize(code.preds, 0);
        registers.carry = 0;
        for &(slot, value) in &code.word_constants {
            registers.words[slot as usize] = [value; 32];
        }
        for &(slot, value) in &code.long_constants {
            registers.longs[slot as usize] = [value; 32];
        }
        for &(slot, value) in &code.pred_constants {
            registers.preds[slot as usize] = if value { u32::MAX } else { 0 };
        }
        self.local.reset(code.local_bytes as usize);
        self.copies.clear();
        self.pc = 0;
        self.live = if threads >= 32 { u32::MAX } else { (1 << threads) - 1 };
        self.active = self.live;
        self.parked.clear();
        self.meet = u32::MAX;
        (self.alone, self.favoured) = (0, 0);
        (self.executed, self.lane_executed, self.mma_flops) = (0, 0, 0);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.live == 0
    }

    fn note_meet(&mut self) {
        self.meet = self.parked.iter().map(|group| group.pc).min().unwrap_or(u32::MAX);
        if self.favoured > 0 {
            self.meet = 0;
        }
    }

    /// Splits the running group: `mask` goes on at `pc`, the rest at `other`.
    pub(super) fn diverge(&mut self, mask: u32, pc: u32, other: u32) {
        let rest = self.active & !mask;
        self.park(rest, other, Wait::Ready);
        self.active = mask;
        self.pc = pc;
        self.note_meet();
    }

    /// Lets lanes wait at an instruction, together with those that already do.
    pub(super) fn park(&mut self, mask: u32, pc: u32, wait: Wait) {
        if mask == 0 {
            return;
        }
        let same =
            |group: &&mut Group| group.pc == pc && group.wait != Wait::Barrier && wait != Wait::Barrier;
        match self.parked.iter_mut().find(same) {
            Some(group) => {
                group.mask |= mask;
                group.wait = Wait::Ready;
            }
            None => self.parked.push(Group { pc, mask, wait }),
        }
    }

    /// The running group waits; another one runs if it can.
    pub(super) fn wait(&mut self, wait: Wait) {
        let (mask, pc) = (self.active, self.pc);
        self.active = 0;
        self.park(mask, pc, wait);
        self.favoured = 0;
        self.choose();
    }

    /// Ends lanes of the running group.
    pub(super) fn exit(&mut self, mask: u32) {
        self.live &= !mask;
        self.active &= !mask;
        for group in &mut self.parked {
            // Where a needed lane ends elsewhere, the group waits for ever, and is found when nothing runs any more.
            if let Wait::Lanes { needed, leaving } = group.wait
                && mask & needed & !leaving == 0
            {
                group.wait = Wait::Ready;
            }
        }
        if self.active == 0 {
            self.favoured = 0;
            self.choose();
        }
    }

    /// Runs the ready group with the lowest program counter, if none runs.
    pub(super) fn choose(&mut self) {
        if self.active == 0 {
            let ready = self.parked.iter().enumerate().filter(|(_, group)| group.wait == Wait::Ready);
            if let Some((at, _)) = ready.min_by_key(|(_, group)| group.pc) {
                let group = self.parked.swap_remove(at);
                (self.pc, self.active) = (group.pc, group.mask);
            }
        }
        self.note_meet();
    }

    /// Lets groups pass that wait at `bar.warp.sync` in different places, if together they are all that one of them needs.
    pub(super) fn pass_warp_barrier(&mut self, code: &Code) -> bool {
        let at_barrier = |group: &&Group| matches!(code.instrs[group.pc as usize].op, Op::WarpBarrier { .. });
        let waiting: Vec<Group> = self.parked.iter().filter(at_barrier).copied().collect();
        let arrived = waiting.iter().fold(0, |lanes, group| lanes | group.mask);
        let complete =
            |group: &&Group| matches!(group.wait, Wait::Lanes { needed, .. } if needed & !arrived == 0);
        let Some(Wait::Lanes { needed, .. }) = waiting.iter().find(complete).map(|group| group.wait) else {
            return false;
        };
        for group in waiting.into_iter().filter(|group| group.mask & needed != 0) {
            self.parked.retain(|parked| *parked != group);
            self.park(group.mask, group.pc + 1, Wait::Ready);
        }
        self.choose();
        true
    }

    /// Called where the running group has come to or past a parked one: joins those at the same instruction and yields to one behind.
    #[cold]
    pub(super) fn meet_others(&mut self) {
        if self.active == 0 {
            return;
        }
        self.favoured = self.favoured.saturating_sub(1);
        let (pc, mut joined) = (self.pc, 0);
        self.parked.retain(|group| {
            let here = group.pc == pc && group.wait != Wait::Barrier;
            joined |= if here { group.mask } else { 0 };
            !here
        });
        self.active |= joined;
        let behind = self.parked.iter().any(|group| group.wait == Wait::Ready && group.pc < pc);
        if behind && self.favoured == 0 {
            let mask = std::mem::take(&mut self.active);
            self.park(mask, pc, Wait::Ready);
            self.choose();
        }
        self.note_meet();
    }

    /// Gives the turn to the ready group that is farthest ahead, once in a while.
    #[cold]
    pub(super) fn be_fair(&mut self) {
        self.alone = 0;
        let ready = self.parked.iter().enumerate().filter(|(_, group)| group.wait == Wait::Ready);
        if let Some((at, _)) = ready.max_by_key(|(_, group)| group.pc) {
            let group = self.parked.swap_remove(at);
            let (mask, pc) = (self.active, self.pc);
            self.park(mask, pc, Wait::Ready);
            (self.pc, self.active) = (group.pc, group.mask);
            self.favoured = TURN;
            self.note_meet();
        }
    }

    #[inline(always)]
    pub(super) fn is_impatient(&mut self) -> bool {
        self.alone += 1;
        self.alone > PATIENCE
    }
}

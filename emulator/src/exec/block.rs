//! A block: its warps take turns, meet at barriers, and end.

use super::access::Globals;
use super::code::{Barrier, Code, Slot, Special};
use super::lanes::{ALL, lanes};
use super::shared::Shared;
use super::step::Flow;
use super::warp::{Wait, Warp};
use crate::device::{LaunchConfig, Stats};
use crate::fault::{Fault, Site};
use crate::memory::Memory;
use crate::options::{Options, Schedule};

/// What all blocks of a launch share.
pub(crate) struct Launch<'l> {
    pub(crate) kernel: &'l str,
    pub(crate) code: &'l Code,
    pub(crate) memory: &'l Memory,
    pub(crate) globals: Globals,
    pub(crate) params: &'l [u8],
    pub(crate) options: &'l Options,
    pub(crate) config: LaunchConfig,
}

/// What the warps of a block share.
pub(crate) struct Env<'l> {
    pub(crate) launch: &'l Launch<'l>,
    pub(crate) shared: Shared,
    /// Index of the allocation accessed last.
    pub(crate) hint: usize,
}

/// A group that stands at a barrier.
struct Arrival {
    warp: usize,
    pc: u32,
    mask: u32,
    what: Barrier,
    votes: u32,
}

#[derive(Default)]
struct BarrierState {
    arrivals: Vec<Arrival>,
    threads: u32,
    /// Number of threads given with the barrier.
    expected: Option<u32>,
}

/// A place for blocks to run, one after the other.
pub(crate) struct Block<'l> {
    env: Env<'l>,
    warps: Vec<Warp>,
    barriers: [BarrierState; 16],
    index: [u32; 3],
    random: u64,
}

impl<'l> Block<'l> {
    pub(crate) fn new(launch: &'l Launch<'l>) -> Self {
        let threads: u32 = launch.config.block.iter().product();
        let warps = (0..threads.div_ceil(32)).map(|_| Warp::default()).collect();
        let env = Env { launch, shared: Shared::default(), hint: 0 };
        Self { env, warps, barriers: Default::default(), index: [0; 3], random: 0 }
    }

    /// Runs the block of a linear index to its end.
    pub(crate) fn run(&mut self, linear: u64) -> Result<Stats, Box<Fault>> {
        self.start(linear);
        let mut turn = 0;
        loop {
            let running = self.warps.iter().filter(|warp| warp.active != 0).count();
            if running == 0 {
                break;
            }
            let budget = match self.env.launch.options.schedule {
                Schedule::RoundRobin => 1024,
                // Not for ever: the warp may be waiting for what another one writes.
                Schedule::Greedy => 200_000,
                Schedule::Random(_) => {
                    turn = self.draw() as usize % self.warps.len();
                    1 + self.draw() % 64
                }
            };
            while self.warps[turn].active == 0 {
                turn = (turn + 1) % self.warps.len();
            }
            self.run_warp(turn, budget)?;
            turn = (turn + 1) % self.warps.len();
        }
        if let Some(warp) = self.warps.iter().position(|warp| !warp.is_done()) {
            return Err(self.deadlock(warp));
        }
        let mut stats = Stats::default();
        for warp in &self.warps {
            stats.warp_instructions += warp.executed;
            stats.thread_instructions += warp.lane_executed;
            stats.mma_flops += warp.mma_flops;
        }
        Ok(stats)
    }

    fn start(&mut self, linear: u64) {
        let launch = self.env.launch;
        let [width, height, _] = launch.config.grid.map(u64::from);
        self.index = [linear % width, linear / width % height, linear / width / height].map(|i| i as u32);
        if let Schedule::Random(seed) = launch.options.schedule {
            self.random = (seed ^ linear.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1;
        }
        let [x, y, z] = launch.config.block;
        let threads = x * y * z;
        let shared_bytes = launch.code.shared_bytes as usize + launch.config.shared_bytes as usize;
        self.env.shared.start_block(shared_bytes, launch.code.granule, self.warps.len(), launch.options);
        let warp_count = self.warps.len() as u32;
        for (i, warp) in self.warps.iter_mut().enumerate() {
            let first = i as u32 * 32;
            warp.start(i, threads - first, launch.code);
            for &(slot, special) in &launch.code.specials {
                warp.registers.words[slot as usize] = std::array::from_fn(|lane| {
                    let (thread, bit) = (first + lane as u32, 1u32 << lane);
                    let tid = [thread % x, thread / x % y, thread / x / y];
                    match special {
                        Special::Tid(axis) => tid[axis],
                        Special::Ntid(axis) => launch.config.block[axis],
                        Special::Ctaid(axis) => self.index[axis],
                        Special::Nctaid(axis) => launch.config.grid[axis],
                        Special::LaneId => lane as u32,
                        Special::WarpId => i as u32,
                        Special::WarpCount => warp_count,
                        Special::LaneMaskEq => bit,
                        Special::LaneMaskLt => bit - 1,
                        Special::LaneMaskLe => bit | (bit - 1),
                        Special::LaneMaskGe => !(bit - 1),
                        Special::LaneMaskGt => !(bit | (bit - 1)),
                        Special::DynamicShared => launch.config.shared_bytes,
                        Special::TotalShared => shared_bytes as u32,
                    }
                });
            }
        }
        self.barriers = Default::default();
    }

    /// xorshift64*.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    }

    /// Runs a warp for at most `budget` instructions, or until it waits or ends.
    fn run_warp(&mut self, index: usize, budget: u64) -> Result<(), Box<Fault>> {
        let code = self.env.launch.code;
        let limit = self.env.launch.options.warp_instruction_limit;
        let mut left = budget;
        while left > 0 {
            let warp = &mut self.warps[index];
            if warp.active == 0 {
                break;
            }
            let pc = warp.pc;
            let instr = &code.instrs[pc as usize];
            let mask = match instr.guard {
                None => warp.active,
                Some(guard) => {
                    warp.active & (warp.registers.pred(guard) ^ if instr.negated { u32::MAX } else { 0 })
                }
            };
            left -= 1;
            warp.executed += 1;
            if mask == 0 {
                warp.pc += 1;
            } else {
                // Counting bits takes a dozen instructions on a processor that need not have one for it.
                warp.lane_executed += if mask == ALL { 32 } else { u64::from(mask.count_ones()) };
                match self.env.step(warp, instr, mask) {
                    Ok(Flow::Next) => warp.pc += 1,
                    Ok(Flow::Jump) => {}
                    Ok(Flow::Arrive { what, id, threads, mask }) => {
                        self.arrive(index, what, id, threads, mask)?
                    }
                    Err(fault) => return Err(self.locate(fault, index, pc)),
                }
            }
            let warp = &mut self.warps[index];
            if warp.pc >= warp.meet {
                warp.meet_others();
            }
            if !warp.parked.is_empty() && warp.is_impatient() {
                warp.be_fair();
            }
            if warp.executed > limit {
                let fault = Fault::Livelock { site: Box::default(), instructions: limit };
                return Err(self.locate(Box::new(fault), index, pc));
            }
        }
        self.settle(index)
    }

    /// Looks after a warp in which nothing runs.
    fn settle(&mut self, index: usize) -> Result<(), Box<Fault>> {
        let warp = &mut self.warps[index];
        if warp.active != 0 {
            return Ok(());
        }
        if warp.is_done() {
            return self.complete_barriers();
        }
        if warp.parked.iter().any(|group| group.wait == Wait::Barrier) {
            return Ok(());
        }
        if warp.pass_warp_barrier(self.env.launch.code) {
            self.env.shared.pass_warp_barrier(index);
            return Ok(());
        }
        let Some(group) = warp.parked.iter().min_by_key(|group| group.pc).copied() else { return Ok(()) };
        let needed = if let Wait::Lanes { needed, .. } = group.wait { needed } else { 0 };
        let missing = needed & !group.mask;
        let elsewhere: Vec<String> = warp
            .parked
            .iter()
            .filter(|other| other.mask & missing != 0)
            .map(|other| {
                let origin = &self.env.launch.code.origins[other.pc as usize];
                format!("lanes {:#010x} wait at line {} `{}`", other.mask & missing, origin.line, origin.text)
            })
            .collect();
        let detail =
            format!("lanes {missing:#010x} of {needed:#010x} are missing ({})", elsewhere.join("; "));
        let site = super::access::at_lane(group.mask.trailing_zeros() as usize);
        let fault = Box::new(Fault::DivergentBarrier { site, detail });
        Err(self.locate(fault, index, group.pc))
    }

    fn arrive(
        &mut self,
        index: usize,
        what: Barrier,
        id: Slot,
        threads: Option<Slot>,
        mask: u32,
    ) -> Result<(), Box<Fault>> {
        let warp = &mut self.warps[index];
        let (pc, lane) = (warp.pc, mask.trailing_zeros() as usize);
        let number = warp.registers.word(id)[lane];
        let expected = threads.map(|slot| warp.registers.word(slot)[lane]);
        let invalid =
            |detail: String| Box::new(Fault::InvalidOperand { site: super::access::at_lane(lane), detail });
        let uniform =
            |slot: Slot| lanes(mask).all(|i| warp.registers.word(slot)[i] == warp.registers.word(slot)[lane]);
        if number >= 16 {
            return Err(self.locate(invalid(format!("barrier {number}; there are 16")), index, pc));
        }
        if !uniform(id) || !threads.is_none_or(uniform) {
            let detail = "the lanes of a warp name different barriers or thread counts".to_owned();
            return Err(self.locate(invalid(detail), index, pc));
        }
        if let Some(count) = expected
            && (count == 0 || count % 32 != 0)
        {
            return Err(self.locate(invalid(format!("{count} threads, not a multiple of 32")), index, pc));
        }
        let votes = match what {
            Barrier::Popc { p, negated, .. }
            | Barrier::And { p, negated, .. }
            | Barrier::Or { p, negated, .. } => warp.registers.pred(p) ^ if negated { u32::MAX } else { 0 },
            _ => 0,
        };
        let whole = mask == warp.live;
        if what == Barrier::Arrive {
            warp.pc += 1;
        } else {
            let rest = warp.active & !mask;
            warp.active = mask;
            warp.park(rest, pc + 1, Wait::Ready);
            warp.wait(Wait::Barrier);
        }
        let state = &mut self.barriers[number as usize];
        if !state.arrivals.is_empty() && state.expected != expected {
            let detail =
                format!("barrier {number} with {expected:?} threads here and {:?} elsewhere", state.expected);
            let fault = Fault::DivergentBarrier { site: super::access::at_lane(lane), detail };
            return Err(self.locate(Box::new(fault), index, pc));
        }
        state.expected = expected;
        state.threads += if whole { 32 } else { mask.count_ones() };
        state.arrivals.push(Arrival { warp: index, pc, mask, what, votes: votes & mask });
        self.complete_barriers()
    }

    /// Releases every barrier that all its threads have reached. Warps that have ended are not waited for.
    fn complete_barriers(&mut self) -> Result<(), Box<Fault>> {
        let running = self.warps.iter().filter(|warp| !warp.is_done()).count() as u32;
        for number in 0..16 {
            let state = &mut self.barriers[number];
            let needed = state.expected.unwrap_or(running * 32);
            if state.arrivals.is_empty() || state.threads < needed {
                continue;
            }
            let state = std::mem::take(state);
            if state.expected.is_none()
                && let Some(other) = state.arrivals.iter().find(|arrival| arrival.pc != state.arrivals[0].pc)
            {
                let first = &self.env.launch.code.origins[state.arrivals[0].pc as usize];
                let detail = format!(
                    "warp {} waits here, warp {} at line {} `{}`",
                    other.warp, state.arrivals[0].warp, first.line, first.text
                );
                let site = super::access::at_lane(other.mask.trailing_zeros() as usize);
                let fault = Box::new(Fault::DivergentBarrier { site, detail });
                return Err(self.locate(fault, other.warp, other.pc));
            }
            self.release(&state);
        }
        Ok(())
    }

    fn release(&mut self, state: &BarrierState) {
        let votes: u32 = state.arrivals.iter().map(|arrival| arrival.votes.count_ones()).sum();
        let all = state.arrivals.iter().all(|arrival| arrival.votes == arrival.mask);
        let (mut released, mut arrived) = (0, 0);
        for arrival in &state.arrivals {
            if arrival.what == Barrier::Arrive {
                arrived |= 1 << arrival.warp;
                continue;
            }
            released |= 1 << arrival.warp;
            let warp = &mut self.warps[arrival.warp];
            match arrival.what {
                Barrier::Popc { d, .. } => warp.registers.set_word(d, arrival.mask, |_| votes),
                Barrier::And { d, .. } => {
                    warp.registers.set_pred(d, arrival.mask, if all { u32::MAX } else { 0 })
                }
                Barrier::Or { d, .. } => {
                    warp.registers.set_pred(d, arrival.mask, if votes > 0 { u32::MAX } else { 0 })
                }
                Barrier::Sync | Barrier::Arrive => {}
            }
            let waits = |g: &super::warp::Group| {
                g.wait == Wait::Barrier && g.pc == arrival.pc && g.mask & arrival.mask != 0
            };
            if let Some(at) = warp.parked.iter().position(waits) {
                let group = warp.parked.swap_remove(at);
                warp.park(group.mask, group.pc + 1, Wait::Ready);
            }
            warp.choose();
        }
        self.env.shared.join(released, arrived);
    }

    fn deadlock(&self, index: usize) -> Box<Fault> {
        let waiting = |warp: &Warp| {
            warp.parked.iter().min_by_key(|group| group.pc).map(|group| {
                let origin = &self.env.launch.code.origins[group.pc as usize];
                format!("warp {} waits at line {} `{}`", warp.index, origin.line, origin.text)
            })
        };
        let all: Vec<String> = self.warps.iter().filter_map(waiting).collect();
        let ended = self.warps.iter().filter(|warp| warp.is_done()).count();
        let detail = format!("{}; {ended} of {} warps have ended", all.join(", "), self.warps.len());
        let group = self.warps[index].parked.iter().min_by_key(|group| group.pc);
        let (pc, mask) = group.map_or((0, 1), |group| (group.pc, group.mask));
        let site = super::access::at_lane(mask.trailing_zeros() as usize);
        self.locate(Box::new(Fault::Deadlock { site, detail }), index, pc)
    }

    /// Completes the place of a fault that so far knows only its lane.
    fn locate(&self, mut fault: Box<Fault>, warp: usize, pc: u32) -> Box<Fault> {
        let launch = self.env.launch;
        let origin = &launch.code.origins[pc as usize];
        if let Fault::Unsupported { instruction, line, .. } = fault.as_mut() {
            (*instruction, *line) = (origin.text.clone(), origin.line);
        }
        if let Some(site) = fault.site_mut() {
            let thread = warp as u32 * 32 + site.thread[0];
            let [x, y, _] = launch.config.block;
            *site = Site {
                kernel: launch.kernel.to_owned(),
                block: self.index,
                thread: [thread % x, thread / x % y, thread / x / y],
                line: origin.line,
                instruction: origin.text.clone(),
            };
        }
        fault
    }
}

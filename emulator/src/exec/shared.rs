//! Shared memory of a block, with the record that finds races and reads of unwritten bytes.
//!
//! Every warp has a vector clock: what it knows of the progress of the others. A barrier joins the clocks of those that meet there. Memory
//! is divided into granules of the kernel's smallest access; each remembers its last write (who, when) and when each warp last read it. An
//! access is in order if the clock of the other warp's access is known to the accessing warp; otherwise the two race, whatever the schedule.

use super::lane_races::LaneRaces;
use crate::options::Options;

/// Most warps of a block.
pub(crate) const MAX_WARPS: usize = 32;

/// Last write of a granule: clock in the upper 24 bits.
const PENDING: u32 = 0x80;
const ATOMIC: u32 = 0x40;
const WARP: u32 = 0x1F;
const CLOCK: u32 = 8;
/// Clocks go on from block to block, so that the record of the one before need not be cleared; from here they start anew.
const LAST_CLOCK: u32 = 1 << 23;

/// How an access touches a granule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    /// A read by all lanes together.
    Matrix,
    Write,
    /// Read and write in one step, in order with every other such.
    Atomic,
    /// A write that ends at a later moment.
    Async,
}

/// What is wrong with an access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Conflict {
    Unwritten,
    InFlight { detail: String },
    Race { detail: String },
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    bytes: Vec<u8>,
    checks: bool,
    shift: u32,
    granules: usize,
    warps: usize,
    writes: Vec<u32>,
    /// Clock of the last read, by warp and granule.
    reads: Vec<u32>,
    /// Latest clock among the readers of a granule.
    last_reads: Vec<u32>,
    /// Clocks up to here belong to earlier blocks.
    base: u32,
    latest: u32,
    clocks: Vec<[u32; MAX_WARPS]>,
    /// Smallest clock of another warp that a warp knows: what lies before is in order for it.
    known: Vec<u32>,
    lanes: Option<LaneRaces>,
}

impl Shared {
    /// Gives the next block its memory, unwritten and full of `0xFF`.
    pub(crate) fn start_block(&mut self, bytes: usize, granule: u32, warps: usize, options: &Options) {
        let checks = options.checks;
        let shift = granule.max(1).trailing_zeros();
        let granules = bytes.div_ceil(1 << shift);
        self.bytes.clear();
        self.bytes.resize(bytes, 0xFF);
        self.checks = checks;
        if (self.shift, self.granules, self.warps) != (shift, granules, warps) || self.latest >= LAST_CLOCK {
            (self.shift, self.granules, self.warps) = (shift, granules, warps);
            self.writes = vec![0; granules];
            self.reads = vec![0; granules * warps];
            self.last_reads = vec![0; granules];
            self.latest = 0;
        }
        self.base = self.latest;
        self.latest += 1;
        self.clocks = vec![[self.base; MAX_WARPS]; warps];
        for (warp, clock) in self.clocks.iter_mut().enumerate() {
            clock[warp] = self.base + 1;
        }
        if checks && options.lane_races {
            self.lanes.get_or_insert_default().start_block(granules);
        }
        self.known = vec![if warps == 1 { LAST_CLOCK << 1 } else { self.base }; warps];
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    #[inline(always)]
    pub(crate) fn load<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[offset..offset + N]);
        bytes
    }

    #[inline(always)]
    pub(crate) fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        self.bytes[offset..offset + N].copy_from_slice(&bytes);
    }

    pub(crate) fn slice_mut(&mut self, offset: usize, bytes: usize) -> &mut [u8] {
        &mut self.bytes[offset..offset + bytes]
    }

    /// Clock of what `warp` last knows of itself.
    fn now(&self, warp: usize) -> u32 {
        self.clocks[warp][warp]
    }

    /// Notes an access of `warp` and says what is wrong with it. The range lies inside the memory.
    #[inline(always)]
    pub(crate) fn touch(
        &mut self,
        (warp, lane): (usize, usize),
        offset: usize,
        bytes: usize,
        touch: Touch,
    ) -> Result<(), Conflict> {
        if !self.checks {
            return Ok(());
        }
        let (first, last) = (offset >> self.shift, (offset + bytes - 1) >> self.shift);
        if let Some(lanes) = &mut self.lanes {
            for granule in first..=last {
                lanes.touch(warp, lane, granule, touch)?;
            }
        }
        let now = self.now(warp);
        let (base, known) = (self.base, self.known[warp]);
        if matches!(touch, Touch::Read | Touch::Matrix) {
            for granule in first..=last {
                let write = self.writes[granule];
                let clock = write >> CLOCK;
                if clock <= base || clock > known || write & PENDING != 0 {
                    self.read_conflict(warp, granule)?;
                }
                self.reads[warp * self.granules + granule] = now;
                self.last_reads[granule] = now.max(self.last_reads[granule]);
            }
            return Ok(());
        }
        let flag = match touch {
            Touch::Atomic => ATOMIC,
            Touch::Async => PENDING,
            _ => 0,
        };
        for granule in first..=last {
            let write = self.writes[granule];
            let clock = write >> CLOCK;
            if clock > known
                || write & PENDING != 0
                || self.last_reads[granule] > known
                || touch == Touch::Atomic
            {
                self.write_conflict(warp, granule, touch)?;
            }
            self.writes[granule] = now << CLOCK | flag | warp as u32;
        }
        Ok(())
    }

    /// The slow half of a read: looks closely at a granule that another warp may have written just now.
    #[cold]
    fn read_conflict(&self, warp: usize, granule: usize) -> Result<(), Conflict> {
        let write = self.writes[granule];
        let (clock, writer) = (write >> CLOCK, (write & WARP) as usize);
        if clock <= self.base {
            return Err(Conflict::Unwritten);
        }
        if write & PENDING != 0 {
            return Err(Conflict::InFlight {
                detail: format!("issued by warp {writer}, read by warp {warp}"),
            });
        }
        if writer != warp && clock > self.clocks[warp][writer] {
            let detail = format!("warp {warp} reads what warp {writer} wrote with no barrier between");
            return Err(Conflict::Race { detail });
        }
        Ok(())
    }

    fn write_conflict(&self, warp: usize, granule: usize, touch: Touch) -> Result<(), Conflict> {
        let write = self.writes[granule];
        let (clock, writer) = (write >> CLOCK, (write & WARP) as usize);
        let both_atomic = touch == Touch::Atomic && write & ATOMIC != 0;
        let doing = match touch {
            Touch::Async => "copies asynchronously over",
            Touch::Atomic => "updates",
            _ => "writes",
        };
        if clock <= self.base && touch == Touch::Atomic {
            return Err(Conflict::Unwritten);
        }
        if clock > self.base {
            if write & PENDING != 0 {
                let detail = format!("issued by warp {writer}; warp {warp} {doing} it");
                return Err(Conflict::InFlight { detail });
            }
            if writer != warp && clock > self.clocks[warp][writer] && !both_atomic {
                let detail = format!("warp {warp} {doing} what warp {writer} wrote with no barrier between");
                return Err(Conflict::Race { detail });
            }
        }
        for reader in (0..self.warps).filter(|&reader| reader != warp) {
            let read = self.reads[reader * self.granules + granule];
            if read > self.clocks[warp][reader] {
                let detail = format!("warp {warp} {doing} what warp {reader} read with no barrier between");
                return Err(Conflict::Race { detail });
            }
        }
        Ok(())
    }

    /// Ends an asynchronous write of `warp`.
    pub(crate) fn land(&mut self, (warp, lane): (usize, usize), offset: usize, bytes: usize) {
        if !self.checks {
            return;
        }
        let now = self.now(warp);
        for granule in offset >> self.shift..=(offset + bytes - 1) >> self.shift {
            self.writes[granule] = now << CLOCK | warp as u32;
            if let Some(lanes) = &mut self.lanes {
                lanes.land(warp, lane, granule);
            }
        }
    }

    /// Notes that the lanes of a warp have met at a barrier of their own.
    pub(crate) fn pass_warp_barrier(&mut self, warp: usize) {
        if let Some(lanes) = &mut self.lanes {
            lanes.pass_barrier(warp);
        }
    }

    /// Joins the clocks of the warps that a barrier released with those that only arrived at it.
    pub(crate) fn join(&mut self, released: u32, arrived: u32) {
        let mut joined = [0; MAX_WARPS];
        for warp in (0..self.warps).filter(|warp| (released | arrived) >> warp & 1 == 1) {
            for (joined, &clock) in joined.iter_mut().zip(&self.clocks[warp]) {
                *joined = clock.max(*joined);
            }
        }
        for warp in (0..self.warps).filter(|warp| released >> warp & 1 == 1) {
            self.clocks[warp] = joined;
            self.pass_warp_barrier(warp);
        }
        for warp in (0..self.warps).filter(|warp| (released | arrived) >> warp & 1 == 1) {
            self.clocks[warp][warp] += 1;
            self.latest = self.latest.max(self.clocks[warp][warp]);
            let others = (0..self.warps).filter(|&other| other != warp);
            if let Some(known) = others.map(|other| self.clocks[warp][other]).min() {
                self.known[warp] = known;
            }
        }
    }
}

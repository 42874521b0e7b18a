//! Races between the lanes of one warp: lanes that pass data through shared memory need `bar.warp.sync`, since nothing says that they
//! run in step (PTX ISA 9.7.13.2). Looked for where [`Options::lane_races`](crate::Options::lane_races) asks for it.

use super::shared::{Conflict, MAX_WARPS, Touch};

/// Stands for more lanes than one.
const SEVERAL: u64 = 0xFF;

/// Who touched each granule last, as `step << 8 | lane`. A step is what a warp does between two of its barriers; no two are numbered alike.
#[derive(Debug, Default)]
pub(super) struct LaneRaces {
    writers: Vec<u64>,
    readers: Vec<u64>,
    steps: [u64; MAX_WARPS],
    latest: u64,
}

impl LaneRaces {
    pub(super) fn start_block(&mut self, granules: usize) {
        self.writers.resize(granules, 0);
        self.readers.resize(granules, 0);
        for warp in 0..MAX_WARPS {
            self.pass_barrier(warp);
        }
    }

    pub(super) fn pass_barrier(&mut self, warp: usize) {
        self.latest += 1;
        self.steps[warp] = self.latest;
    }

    /// Notes an access and refuses one that another lane of the warp makes undefined. Lanes that write the same place are let pass: most
    /// write the same value.
    pub(super) fn touch(
        &mut self,
        warp: usize,
        lane: usize,
        granule: usize,
        touch: Touch,
    ) -> Result<(), Conflict> {
        let step = self.steps[warp];
        let own = step << 8 | if touch == Touch::Matrix { SEVERAL } else { lane as u64 };
        let (writer, reader) = (self.writers[granule], self.readers[granule]);
        let other = |last: u64| last >> 8 == step && last != own;
        match touch {
            Touch::Read | Touch::Matrix => {
                if other(writer) {
                    let detail = format!(
                        "lane {lane} reads what lane {} of its warp, {warp}, wrote with no bar.warp.sync between",
                        writer & 0xFF
                    );
                    return Err(Conflict::Race { detail });
                }
                self.readers[granule] = if other(reader) { step << 8 | SEVERAL } else { own };
            }
            Touch::Write | Touch::Async => {
                if other(reader) {
                    let detail = format!(
                        "lane {lane} writes what another lane of its warp, {warp}, read with no bar.warp.sync between"
                    );
                    return Err(Conflict::Race { detail });
                }
                self.writers[granule] = own;
            }
            Touch::Atomic => self.writers[granule] = own,
        }
        Ok(())
    }

    /// An asynchronous copy of `lane` ends: the other lanes see it behind a barrier from here on.
    pub(super) fn land(&mut self, warp: usize, lane: usize, granule: usize) {
        self.writers[granule] = self.steps[warp] << 8 | lane as u64;
    }
}

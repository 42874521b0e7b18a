//! The plans of an exchange between ranks: kernels/all_to_all.cu.

use crate::backend::Len;
use crate::ops::all_to_all::{ReceivePlan, SendPlan};
use crate::{Error, Result};

use super::launch::{Grid, size};
use super::memory;
use super::module::kernels;
use super::params::{
    EMO_ALL_TO_ALL_THREADS, EMO_SITE_RECEIVE_PLAN_COUNTS, EMO_SITE_SEND_PLAN_OFFSETS, EmoReceivePlan,
    EmoSendPlan,
};
use super::status::Site;
use super::{Cuda, CudaStorage};

/// The index arguments that kernels check.
pub(super) const SITES: &[Site] = &[
    Site { site: EMO_SITE_SEND_PLAN_OFFSETS, op: "send_plan", arg: "offsets" },
    Site { site: EMO_SITE_RECEIVE_PLAN_COUNTS, op: "receive_plan", arg: "rows up to counts" },
];

/// Most experts of all ranks, and most cells of a receive plan.
const MOST: u32 = 1 << 24;

fn at_most(op: &'static str, arg: &'static str, value: usize) -> Result<u32> {
    match size(op, arg, value)? {
        value if value <= MOST => Ok(value),
        value => Err(Error::argument(op, arg, "at most 2^24 on this device", value)),
    }
}

pub(super) fn send_plan<S: CudaStorage>(cuda: &Cuda<S>, args: SendPlan<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "send_plan";
    args.check()?;
    let params = EmoSendPlan {
        offsets: cuda.read(args.offsets)?,
        counts: cuda.write(&args.counts)?,
        send: cuda.write(&args.send)?,
        rows: size(OP, "rows", args.rows)?.min(u32::MAX - 1),
        experts: at_most(OP, "experts", args.shape.experts)?,
        ranks: at_most(OP, "ranks", args.shape.ranks)?,
        status: cuda.status.pointer(),
    };
    let threads = params.experts.max(params.ranks + 1);
    let grid = Grid::line(threads.div_ceil(EMO_ALL_TO_ALL_THREADS), EMO_ALL_TO_ALL_THREADS);
    // SAFETY: `check` has compared every length with the shape; offsets are only written on, never followed.
    unsafe { cuda.launch(kernels::SEND_PLAN, grid, &params) }
}

pub(super) fn receive_plan<S: CudaStorage>(cuda: &Cuda<S>, args: ReceivePlan<'_, Cuda<S>>) -> Result<()> {
    const OP: &str = "receive_plan";
    args.check()?;
    let own = args.shape.owned(args.rank).len();
    at_most(OP, "counts", args.counts.len())?;
    let params = EmoReceivePlan {
        counts: cuda.read(args.counts)?,
        receive: cuda.write(&args.receive)?,
        offsets: cuda.write(&args.offsets)?,
        gather: cuda.write(&args.gather)?,
        inverse: cuda.write(&args.inverse)?,
        ranks: at_most(OP, "ranks", args.shape.ranks)?,
        experts: at_most(OP, "experts", own)?,
        room: size(OP, "gather", args.gather.len())?,
        status: cuda.status.pointer(),
    };
    if own == 0 {
        memory::zero(cuda, args.receive)?;
        return memory::zero(cuda, args.offsets);
    }
    if own > 65_535 {
        return Err(Error::argument(OP, "experts", "at most 65535 a rank on this device", own));
    }
    let line = Grid::line(params.ranks, EMO_ALL_TO_ALL_THREADS);
    let grid = Grid { blocks: [params.ranks, params.experts, 1], ..line };
    // SAFETY: `check` has compared every length with the shape; a cell whose rows end beyond the room writes none.
    unsafe { cuda.launch(kernels::RECEIVE_PLAN, grid, &params) }
}

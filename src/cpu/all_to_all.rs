//! The plans of an exchange between ranks. Counting is all there is to do, so one thread does it.

use crate::ops::all_to_all::{ReceivePlan, SendPlan};
use crate::{Result, host};

use super::Cpu;
use super::simd::Storage;

pub(super) fn send_plan<T: Storage>(args: SendPlan<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    host::offsets("send_plan", "offsets", args.offsets, args.rows)?;
    for (count, pair) in args.counts.iter_mut().zip(args.offsets.windows(2)) {
        *count = pair[1] - pair[0];
    }
    for (rank, send) in args.send.iter_mut().enumerate() {
        *send = args.offsets[args.shape.first(rank)];
    }
    Ok(())
}

pub(super) fn receive_plan<T: Storage>(args: ReceivePlan<'_, Cpu<T>>) -> Result<()> {
    args.check()?;
    let (ranks, own) = (args.shape.ranks, args.shape.owned(args.rank).len());
    host::room("receive_plan", "counts", args.counts, args.gather.len())?;
    // The first received row of each sender; while the rows of an expert are handed out, that of the sender's next expert.
    let mut received = 0;
    for rank in 0..ranks {
        args.receive[rank] = received;
        received += args.counts[rank * own..(rank + 1) * own].iter().sum::<u32>();
    }
    args.receive[ranks] = received;
    let mut grouped = 0;
    for expert in 0..own {
        args.offsets[expert] = grouped;
        for rank in 0..ranks {
            let first = args.receive[rank];
            let end = first + args.counts[rank * own + expert];
            for row in first..end {
                args.gather[grouped as usize] = row;
                args.inverse[row as usize] = grouped;
                grouped += 1;
            }
            args.receive[rank] = end;
        }
    }
    args.offsets[own] = grouped;
    // Each sender's cursor now stands where the next sender's rows begin.
    args.receive.copy_within(..ranks, 1);
    args.receive[0] = 0;
    Ok(())
}

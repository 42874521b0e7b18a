//! One instruction of a warp.

use super::access::{at_lane, space_of, window};
use super::block::Env;
use super::code::{Barrier, Instr, Op, Slot};
use super::compare::logic;
use super::lanes::{ALL, flags, lanes};
use super::warp::{Wait, Warp};
use crate::fault::{Fault, Space};

/// What follows an instruction.
pub(super) enum Flow {
    /// The next one.
    Next,
    /// Whatever the warp's program counter says now, if any of its groups can run.
    Jump,
    /// The running group arrives at a barrier of the block.
    Arrive { what: Barrier, id: Slot, threads: Option<Slot>, mask: u32 },
}

impl Env<'_> {
    /// Executes `instr` for the lanes of `mask`, of which there is at least one.
    #[inline(always)]
    pub(super) fn step(&mut self, warp: &mut Warp, instr: &Instr, mask: u32) -> Result<Flow, Box<Fault>> {
        let r = &mut warp.registers;
        match instr.op {
            Op::Int32 { op, d, a, b, c } => r.int32(op, mask, d, [a, b, c]),
            Op::F32 { op, mode, d, a, b, c } => r.float32(op, mode, mask, d, [a, b, c]),
            Op::Load { access, d, from } => self.load(warp, access, d, from, mask)?,
            Op::Store { access, a, to } => self.store(warp, access, a, to, mask)?,
            Op::Int64 { op, d, a, b, c } => r.int64(op, mask, d, [a, b, c]),
            Op::Compare { op, of, flush, combine, p, q, a, b } => {
                r.set_predicate((op, of, flush, combine), mask, (p, q), (a, b));
            }
            Op::Bra { target } => {
                if mask == warp.active {
                    warp.pc = target;
                } else {
                    let next = warp.pc + 1;
                    warp.diverge(mask, target, next);
                }
                return Ok(Flow::Jump);
            }
            Op::Mov32 { d, a } => {
                let a = *r.word(a);
                r.set_word(d, mask, |i| a[i]);
            }
            Op::Mov64 { d, a } => {
                let a = *r.long(a);
                r.set_long(d, mask, |i| a[i]);
            }
            Op::MulWide { kind, d, a, b } => r.mul_wide(kind, mask, d, a, b),
            Op::Select32 { d, a, b, p, negated } => r.select32(predicate(r.pred(p), negated), mask, d, a, b),
            Op::Select64 { d, a, b, p, negated } => r.select64(predicate(r.pred(p), negated), mask, d, a, b),
            Op::Cvt { how, d, a, long_d, long_a, half_d } => {
                r.convert(how, mask, d, a, (long_d, long_a, half_d))
            }
            Op::CvtPair { how, d, a, b } => r.convert_pair(how, mask, d, a, b),
            Op::Half { op, mode, kind, packed, d, a, b, c } => {
                r.float16((op, mode, kind, packed), mask, d, [a, b, c]);
            }
            Op::F64 { op, d, a, b, c } => r.float64(op, mask, d, [a, b, c]),
            Op::Int16 { op, d, a, b, c } => r.int16(op, mask, d, [a, b, c]),
            Op::Shift64 { op, d, a, b } => r.shift64(op, mask, d, a, b),
            Op::Count64 { op, d, a } => r.count64(op, mask, d, a),
            Op::Field64 { op, d, a, b, c, e } => r.field64(op, mask, d, [a, b, c, e]),
            Op::Field32 { d, a, b, c, e } => r.field32(mask, d, [a, b, c, e]),
            Op::MadWide { kind, d, a, b, c } => r.mad_wide(kind, mask, d, [a, b, c]),
            Op::Carry32 { op, d, a, b, c, take, give } => r.carry32(op, mask, d, [a, b, c], take, give),
            Op::Carry64 { op, d, a, b, c, take, give } => r.carry64(op, mask, d, [a, b, c], take, give),
            Op::MovPred { d, a, negated } => r.set_pred(d, mask, predicate(r.pred(a), negated)),
            Op::Logic { op, d, a, b, not_a, not_b } => {
                let value = logic(op, predicate(r.pred(a), not_a), predicate(r.pred(b), not_b));
                r.set_pred(d, mask, value);
            }
            Op::Set { op, of, flush, combine, how, d, a, b } => {
                r.set_number((op, of, flush, combine), how, mask, d, (a, b));
            }
            Op::TestP { test, long, p, a } => r.test(test, long, mask, p, a),
            Op::Slct { float, long, d, a, b, c } => r.select_by_sign(float, long, mask, d, (a, b, c)),
            Op::Pack16 { .. }
            | Op::Unpack16 { .. }
            | Op::Pack32 { .. }
            | Op::Unpack32 { .. }
            | Op::Pack64x16 { .. }
            | Op::Unpack64x16 { .. }
            | Op::Pack8 { .. }
            | Op::Unpack8 { .. } => r.pack(&instr.op, mask),
            Op::ToGeneric { d, a, space } => {
                let a = *r.long(a);
                r.set_long(d, mask, |i| a[i].wrapping_add(window(space)));
            }
            Op::FromGeneric { d, a, space } => {
                let a = *r.long(a);
                r.set_long(d, mask, |i| a[i].wrapping_sub(window(space)));
            }
            Op::IsSpace { p, a, space } => {
                let a = *r.long(a);
                let wanted = if space == Space::Const { Space::Global } else { space };
                r.set_pred(p, mask, flags(|i| space_of(a[i]) == wanted));
            }
            Op::Clock32 { d } => {
                let now = warp.executed as u32;
                warp.registers.set_word(d, mask, |_| now);
            }
            Op::Clock64 { d } => {
                let now = warp.executed;
                warp.registers.set_long(d, mask, |_| now);
            }
            Op::ActiveMask { d } => r.set_word(d, mask, |_| mask),
            Op::Nothing => {}
            _ => return self.rare_step(warp, instr, mask),
        }
        Ok(Flow::Next)
    }

    /// Control flow, and what involves more than the lanes' own registers.
    fn rare_step(&mut self, warp: &mut Warp, instr: &Instr, mask: u32) -> Result<Flow, Box<Fault>> {
        let together = match instr.op {
            Op::Mma { .. } | Op::LoadMatrix { .. } | Op::StoreMatrix { .. } | Op::MoveMatrix { .. } => {
                self.gather(warp, ALL, mask)?
            }
            Op::Shuffle { members, .. }
            | Op::Vote { members, .. }
            | Op::Match { members, .. }
            | Op::Redux { members, .. }
            | Op::Elect { members, .. }
            | Op::WarpBarrier { members } => self.gather_members(warp, members, mask)?,
            Op::Barrier { aligned: true, .. } => self.gather(warp, warp.live, mask)?,
            _ => true,
        };
        if !together {
            return Ok(Flow::Jump);
        }
        match &instr.op {
            &Op::Mma { shape, d, a, b, c } => {
                warp.registers.mma(shape, d, a, b, c);
                warp.mma_flops += shape.flops();
            }
            &Op::LoadMatrix { count, transposed, d, from } => {
                self.load_matrix(warp, (count, transposed), d, from)?;
            }
            &Op::StoreMatrix { count, transposed, a, to } => {
                self.store_matrix(warp, (count, transposed), a, to)?;
            }
            &Op::MoveMatrix { d, a } => {
                warp.registers.move_matrix(d, a);
            }
            &Op::Shuffle { how, d, p, a, b, c, .. } => {
                warp.registers.shuffle(how, mask, (d, p), [a, b, c]);
            }
            &Op::Vote { how, d, p, negated, members } => {
                let value = predicate(warp.registers.pred(p), negated);
                warp.registers.vote(how, mask, d, value, members);
            }
            &Op::Match { all, long, d, p, a, members } => {
                warp.registers.match_values((all, long), mask, (d, p), a, members);
            }
            &Op::Redux { op, d, a, members } => {
                warp.registers.reduce(op, mask, d, a, members);
            }
            &Op::Elect { d, p, members } => {
                warp.registers.elect(mask, d, p, members);
            }
            &Op::Barrier { what, id, threads, .. } => {
                return Ok(Flow::Arrive { what, id, threads, mask });
            }
            &Op::Atomic { op, long, bytes, d, at, b, c } => {
                self.atomic(warp, (op, long, bytes), d, at, (b, c), mask)?;
            }
            &Op::CopyAsync { size, to, from, source_bytes, ignore } => {
                let ignored = ignore.map_or(0, |(p, negated)| predicate(warp.registers.pred(p), negated));
                self.copy_async(warp, size, (to, from), (source_bytes, ignored), mask)?;
            }
            Op::CommitGroup => warp.copies.commit(mask),
            &Op::WaitGroup { pending } => self.wait_copies(warp, pending, mask),
            Op::BraIndexed { a, targets } => {
                let index = *warp.registers.word(*a);
                let mut left = mask;
                let rest = warp.active & !mask;
                let next = warp.pc + 1;
                warp.active = 0;
                warp.park(rest, next, Wait::Ready);
                while left != 0 {
                    let lane = left.trailing_zeros() as usize;
                    let Some(&target) = targets.get(index[lane] as usize) else {
                        warp.active = mask;
                        let detail = format!("index {} of {} labels", index[lane], targets.len());
                        return Err(Box::new(Fault::InvalidOperand { site: at_lane(lane), detail }));
                    };
                    let same = lanes(left).filter(|&i| index[i] == index[lane]).fold(0, |m, i| m | 1 << i);
                    warp.park(same, target, Wait::Ready);
                    left &= !same;
                }
                warp.choose();
                return Ok(Flow::Jump);
            }
            Op::Call { target, back, arguments, .. } => {
                let next = warp.pc + 1;
                warp.registers.set_word(*back, mask, |_| next);
                for copy in arguments {
                    for lane in lanes(mask) {
                        warp.local.copy(lane, copy.from, copy.to, copy.bytes);
                    }
                }
                if mask == warp.active {
                    warp.pc = *target;
                } else {
                    warp.diverge(mask, *target, next);
                }
                return Ok(Flow::Jump);
            }
            &Op::Ret { back } => {
                self.return_from_call(warp, back, mask);
                return Ok(Flow::Jump);
            }
            Op::Exit => {
                let rest = warp.active & !mask;
                warp.pc += u32::from(rest != 0);
                warp.exit(mask);
                return Ok(Flow::Jump);
            }
            Op::Trap => {
                return Err(Box::new(Fault::Trap { site: at_lane(mask.trailing_zeros() as usize) }));
            }
            Op::Unsupported { detail } => {
                let site = at_lane(mask.trailing_zeros() as usize);
                let detail = detail.to_string();
                return Err(Box::new(Fault::Unsupported {
                    site,
                    instruction: String::new(),
                    detail,
                    line: 0,
                }));
            }
            Op::WarpBarrier { .. } => self.shared.pass_warp_barrier(warp.index),
            // `step` has dealt with the rest.
            _ => {}
        }
        Ok(Flow::Next)
    }

    fn return_from_call(&mut self, warp: &mut Warp, back: Slot, mask: u32) {
        let pcs = *warp.registers.word(back);
        let (rest, next) = (warp.active & !mask, warp.pc + 1);
        warp.active = 0;
        warp.park(rest, next, Wait::Ready);
        let mut left = mask;
        while left != 0 {
            let pc = pcs[left.trailing_zeros() as usize];
            let same = lanes(left).filter(|&i| pcs[i] == pc).fold(0, |m, i| m | 1 << i);
            if let Op::Call { results, .. } = &self.launch.code.instrs[pc as usize - 1].op {
                for copy in results {
                    for lane in lanes(same) {
                        warp.local.copy(lane, copy.from, copy.to, copy.bytes);
                    }
                }
            }
            warp.park(same, pc, Wait::Ready);
            left &= !same;
        }
        warp.choose();
    }

    /// Whether the lanes of `mask` are all that the instruction needs; else they wait for the others.
    fn gather(&self, warp: &mut Warp, needed: u32, mask: u32) -> Result<bool, Box<Fault>> {
        let gone = needed & !warp.live;
        if gone != 0 {
            let detail = format!("all 32 lanes are needed; those of {gone:#010x} have exited or never were");
            let site = at_lane(mask.trailing_zeros() as usize);
            return Err(Box::new(Fault::DivergentBarrier { site, detail }));
        }
        if needed & !mask == 0 {
            return Ok(true);
        }
        let rest = warp.active & !mask;
        if rest != 0 {
            let next = warp.pc + 1;
            warp.park(rest, next, Wait::Ready);
            warp.active = mask;
        }
        let leaving = warp
            .parked
            .iter()
            .filter(|group| group.wait == Wait::Ready && self.launch.code.ends_at(group.pc))
            .fold(0, |lanes, group| lanes | group.mask);
        warp.wait(Wait::Lanes { needed, leaving });
        Ok(false)
    }

    /// As [`gather`](Self::gather) for the member masks that the lanes themselves name.
    fn gather_members(&self, warp: &mut Warp, members: Slot, mask: u32) -> Result<bool, Box<Fault>> {
        let members = *warp.registers.word(members);
        let mut needed = 0;
        for lane in lanes(mask) {
            if members[lane] >> lane & 1 == 0 {
                let detail = format!("lane {lane} is not in its own member mask {:#010x}", members[lane]);
                return Err(Box::new(Fault::InvalidOperand { site: at_lane(lane), detail }));
            }
            needed |= members[lane];
        }
        let needed = needed & warp.live;
        self.gather(warp, needed, mask)
    }
}

#[inline(always)]
fn predicate(value: u32, negated: bool) -> u32 {
    value ^ if negated { u32::MAX } else { 0 }
}

//! Decoded instructions: what to do and in which register slots.
//!
//! A warp has three register files: 32-bit slots (also for 8- and 16-bit registers, zero above), 64-bit slots and predicates, which are one
//! bit a lane. Constants and special registers are slots too, filled before the warp starts, so an operand is always a slot.

use super::async_copy::CopySize;
pub(crate) use super::kinds::*;
use crate::fault::Space;

/// Index into one of the register files; which one follows from the operation.
pub(crate) type Slot = u32;

/// An operation under a guard.
#[derive(Debug, Clone)]
pub(crate) struct Instr {
    pub(crate) op: Op,
    pub(crate) guard: Option<Slot>,
    pub(crate) negated: bool,
}

/// Where an instruction came from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) line: u32,
    pub(crate) text: String,
}

/// A decoded entry with the functions it calls.
#[derive(Debug, Default)]
pub(crate) struct Code {
    pub(crate) instrs: Vec<Instr>,
    pub(crate) origins: Vec<Origin>,
    pub(crate) words: usize,
    pub(crate) longs: usize,
    pub(crate) preds: usize,
    pub(crate) word_constants: Vec<(Slot, u32)>,
    pub(crate) long_constants: Vec<(Slot, u64)>,
    pub(crate) pred_constants: Vec<(Slot, bool)>,
    pub(crate) specials: Vec<(Slot, Special)>,
    /// Static shared memory in bytes; the dynamic part follows at its alignment.
    pub(crate) shared_bytes: u32,
    /// Local memory of a thread in bytes.
    pub(crate) local_bytes: u32,
    /// Smallest access to shared memory in bytes: races are looked for in units of it.
    pub(crate) granule: u32,
}

impl Code {
    /// Whether the instructions from `pc` on do nothing but end the thread.
    pub(crate) fn ends_at(&self, pc: u32) -> bool {
        let mut at = pc;
        // A chain of branches longer than this is a loop.
        for _ in 0..16 {
            match self.instrs.get(at as usize) {
                Some(Instr { op: Op::Exit, guard: None, .. }) => return true,
                Some(Instr { op: Op::Bra { target }, guard: None, .. }) => at = *target,
                _ => return false,
            }
        }
        false
    }

    /// Line and text of the instructions that could not be decoded, and why.
    pub(crate) fn unsupported(&self) -> impl Iterator<Item = (u32, String, String)> {
        self.instrs.iter().zip(&self.origins).filter_map(|(instr, origin)| match &instr.op {
            Op::Unsupported { detail } => Some((origin.line, origin.text.clone(), detail.to_string())),
            _ => None,
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Mov32 {
        d: Slot,
        a: Slot,
    },
    Mov64 {
        d: Slot,
        a: Slot,
    },
    MovPred {
        d: Slot,
        a: Slot,
        negated: bool,
    },
    /// `mov.b32 d, {a, b}` of 16-bit halves.
    Pack16 {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Unpack16 {
        d: Option<Slot>,
        e: Option<Slot>,
        a: Slot,
    },
    /// `mov.b64 d, {a, b}` of 32-bit halves.
    Pack32 {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Unpack32 {
        d: Option<Slot>,
        e: Option<Slot>,
        a: Slot,
    },
    Pack64x16 {
        d: Slot,
        a: [Slot; 4],
    },
    Unpack64x16 {
        d: [Option<Slot>; 4],
        a: Slot,
    },
    /// Bytes: `mov.b16 d, {a, b}` and `mov.b32 d, {a, b, c, d}`.
    Pack8 {
        d: Slot,
        a: [Slot; 4],
        count: u8,
    },
    Unpack8 {
        d: [Option<Slot>; 4],
        a: Slot,
    },
    Int16 {
        op: Int,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Int32 {
        op: Int,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Int64 {
        op: Int,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    /// 64-bit operation with a 32-bit result: `popc`, `clz`, `bfind`.
    Count64 {
        op: Int,
        d: Slot,
        a: Slot,
    },
    /// 64-bit shift by a 32-bit amount, and `bfe`/`bfi` with 32-bit positions.
    Shift64 {
        op: Int,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Field64 {
        op: Int,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
        e: Slot,
    },
    Field32 {
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
        e: Slot,
    },
    MulWide {
        kind: Wide,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    MadWide {
        kind: Wide,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Carry32 {
        op: CarryOp,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
        take: bool,
        give: bool,
    },
    Carry64 {
        op: CarryOp,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
        take: bool,
        give: bool,
    },
    F32 {
        op: Float,
        mode: FloatMode,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    F64 {
        op: Float,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Half {
        op: Float,
        mode: FloatMode,
        kind: Half,
        packed: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Cvt {
        how: Cvt,
        d: Slot,
        a: Slot,
        long_d: bool,
        long_a: bool,
        half_d: bool,
    },
    /// `cvt.rn.bf16x2.f32 d, a, b`: `a` goes to the upper half.
    CvtPair {
        how: Cvt,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Compare {
        op: Compare,
        of: Operands,
        flush: bool,
        combine: Option<Combine>,
        p: Option<Slot>,
        q: Option<Slot>,
        a: Slot,
        b: Slot,
    },
    Set {
        op: Compare,
        of: Operands,
        flush: bool,
        combine: Option<Combine>,
        how: SetAs,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    TestP {
        test: Test,
        long: bool,
        p: Slot,
        a: Slot,
    },
    Select32 {
        d: Slot,
        a: Slot,
        b: Slot,
        p: Slot,
        negated: bool,
    },
    Select64 {
        d: Slot,
        a: Slot,
        b: Slot,
        p: Slot,
        negated: bool,
    },
    Slct {
        float: bool,
        long: bool,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Logic {
        op: Logic,
        d: Slot,
        a: Slot,
        b: Slot,
        not_a: bool,
        not_b: bool,
    },
    /// Address of another space to a generic one or back.
    ToGeneric {
        d: Slot,
        a: Slot,
        space: Space,
    },
    FromGeneric {
        d: Slot,
        a: Slot,
        space: Space,
    },
    IsSpace {
        p: Slot,
        a: Slot,
        space: Space,
    },
    Load {
        access: Access,
        d: [Option<Slot>; 4],
        from: Address,
    },
    Store {
        access: Access,
        a: [Slot; 4],
        to: Address,
    },
    Atomic {
        op: Atomic,
        long: bool,
        bytes: u8,
        d: Option<Slot>,
        at: Address,
        b: Slot,
        c: Slot,
    },
    Shuffle {
        how: Shuffle,
        d: Slot,
        p: Option<Slot>,
        a: Slot,
        b: Slot,
        c: Slot,
        members: Slot,
    },
    Vote {
        how: Vote,
        d: Slot,
        p: Slot,
        negated: bool,
        members: Slot,
    },
    Match {
        all: bool,
        long: bool,
        d: Slot,
        p: Option<Slot>,
        a: Slot,
        members: Slot,
    },
    Redux {
        op: Redux,
        d: Slot,
        a: Slot,
        members: Slot,
    },
    ActiveMask {
        d: Slot,
    },
    Elect {
        d: Option<Slot>,
        p: Slot,
        members: Slot,
    },
    WarpBarrier {
        members: Slot,
    },
    Barrier {
        what: Barrier,
        id: Slot,
        threads: Option<Slot>,
        aligned: bool,
    },
    CopyAsync {
        size: CopySize,
        to: Address,
        from: Address,
        source_bytes: Option<Slot>,
        ignore: Option<(Slot, bool)>,
    },
    CommitGroup,
    /// Waits for all but the last `pending` groups, or for every copy.
    WaitGroup {
        pending: Option<u32>,
    },
    LoadMatrix {
        count: u8,
        transposed: bool,
        d: [Slot; 4],
        from: Address,
    },
    StoreMatrix {
        count: u8,
        transposed: bool,
        a: [Slot; 4],
        to: Address,
    },
    MoveMatrix {
        d: Slot,
        a: Slot,
    },
    Mma {
        shape: Mma,
        d: [Slot; 4],
        a: [Slot; 4],
        b: [Slot; 2],
        c: [Slot; 4],
    },
    Clock32 {
        d: Slot,
    },
    Clock64 {
        d: Slot,
    },
    Bra {
        target: u32,
    },
    BraIndexed {
        a: Slot,
        targets: Box<[u32]>,
    },
    /// Goes to `target`; `back` is the slot in which the function keeps the lanes' return addresses. Parameters of a function lie in the
    /// thread's local memory: the call copies the arguments there, the return that finds this call copies the results back.
    Call {
        target: u32,
        back: Slot,
        arguments: Box<[LocalCopy]>,
        results: Box<[LocalCopy]>,
    },
    Ret {
        back: Slot,
    },
    Exit,
    Trap,
    /// Hints and fences, which change nothing here.
    Nothing,
    Unsupported {
        detail: Box<str>,
    },
}

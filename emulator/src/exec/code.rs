//! Decoded instructions: what to do and in which register slots.
//!
//! A warp has three register files: 32-bit slots (also for 8- and 16-bit registers, zero above), 64-bit slots and predicates, which are one
//! bit a lane. Constants and special registers are slots too, filled before the warp starts, so an operand is always a slot.

use super::async_copy::CopySize;
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
    /// Line and text of the instructions that could not be decoded, and why.
    pub(crate) fn unsupported(&self) -> impl Iterator<Item = (u32, String, String)> {
        self.instrs.iter().zip(&self.origins).filter_map(|(instr, origin)| match &instr.op {
            Op::Unsupported { detail } => Some((origin.line, origin.text.clone(), detail.to_string())),
            _ => None,
        })
    }
}

/// Special registers that keep their value for the life of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    LaneId,
    WarpId,
    WarpCount,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    DynamicShared,
    TotalShared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Int {
    Add,
    Sub,
    MulLo,
    MulHiU,
    MulHiS,
    MadLo,
    MadHiU,
    MadHiS,
    Mul24U,
    Mul24S,
    DivU,
    DivS,
    RemU,
    RemS,
    Abs,
    Neg,
    MinU,
    MinS,
    MaxU,
    MaxS,
    And,
    Or,
    Xor,
    Not,
    Cnot,
    Lop3(u8),
    Shl,
    ShrU,
    ShrS,
    FunnelLeftWrap,
    FunnelLeftClamp,
    FunnelRightWrap,
    FunnelRightClamp,
    BfeU,
    BfeS,
    Bfi,
    Popc,
    Clz,
    BfindU,
    BfindS,
    BfindShiftU,
    BfindShiftS,
    Brev,
    Prmt,
    PrmtMode(Prmt),
    SadU,
    SadS,
    Dp4a(bool, bool),
    Dp2aLo(bool, bool),
    Dp2aHi(bool, bool),
    Fns,
    AddSatS,
    SubSatS,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prmt {
    F4e,
    B4e,
    Rc8,
    Ecl,
    Ecr,
    Rc16,
}

/// `mul.wide` and `mad.wide`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wide {
    U16,
    S16,
    U32,
    S32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CarryOp {
    Add,
    Sub,
    MadLo,
    MadHiU,
    MadHiS,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    Nearest,
    Zero,
    Down,
    Up,
}

/// Binary and ternary floating-point operations that every format has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Float {
    Add,
    Sub,
    Mul,
    Fma,
    Div,
    Sqrt,
    Rsqrt,
    Rcp,
    Ex2,
    Lg2,
    Sin,
    Cos,
    Tanh,
    Abs,
    Neg,
    Min,
    Max,
    MinNan,
    MaxNan,
    CopySign,
}

/// Modifiers of a floating-point operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FloatMode {
    pub(crate) round: Round,
    pub(crate) flush: bool,
    pub(crate) saturate: bool,
    pub(crate) relu: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    F16,
    Bf16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

/// What a comparison compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operands {
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    F32,
    F64,
    F16,
    Bf16,
    F16x2,
    Bf16x2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Or,
    Xor,
}

/// Second input of a comparison: `result OP (negated) c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Combine {
    pub(crate) op: Logic,
    pub(crate) slot: Slot,
    pub(crate) negated: bool,
}

/// How `set` writes a truth value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetAs {
    Ones,
    One32,
    Ones16,
    HalfOne(Half),
    PairOnes,
    PairOne(Half),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}

/// Base of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    None,
    Word(Slot),
    Long(Slot),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) space: Space,
    pub(crate) base: Base,
    pub(crate) offset: i64,
}

/// Bytes copied inside a thread's local memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalCopy {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) bytes: u32,
}

/// Shape of a load or store: `count` elements of `bytes` bytes, next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) bytes: u8,
    pub(crate) count: u8,
    pub(crate) signed: bool,
    /// Registers are 64-bit slots.
    pub(crate) long: bool,
    /// Registers have 16 bits.
    pub(crate) half: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Atomic {
    Add,
    MinU,
    MinS,
    MaxU,
    MaxS,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
    AddF32,
    AddF64,
    AddHalves(Half),
    AddHalf(Half),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redux {
    Add,
    MinU,
    MinS,
    MaxU,
    MaxS,
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barrier {
    Sync,
    Arrive,
    Popc { d: Slot, p: Slot, negated: bool },
    And { d: Slot, p: Slot, negated: bool },
    Or { d: Slot, p: Slot, negated: bool },
}

/// Shapes of `mma.sync` by the type of their factors; all accumulate in f32 unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mma {
    Bf16K8,
    Bf16K16,
    F16K8,
    F16K16,
    Tf32K4,
    Tf32K8,
}

/// A conversion target or source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    F16,
    Bf16,
    Tf32,
    F32,
    F64,
}

/// How a conversion rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CvtRound {
    None,
    Nearest,
    Zero,
    Down,
    Up,
    NearestAway,
    IntNearest,
    IntZero,
    IntDown,
    IntUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cvt {
    pub(crate) to: Number,
    pub(crate) from: Number,
    pub(crate) round: CvtRound,
    pub(crate) saturate: bool,
    pub(crate) flush: bool,
    pub(crate) relu: bool,
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

//! What operations are parametrised by.

use super::code::Slot;
use crate::fault::Space;

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

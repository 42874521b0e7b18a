//! What a module says, with every name resolved.

use std::ops::Range;

use crate::fault::Space;

/// A fundamental type (PTX ISA 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Type {
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
    Pred,
}

impl Type {
    /// The type of a modifier without its dot.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "b8" => Self::B8,
            "b16" => Self::B16,
            "b32" => Self::B32,
            "b64" => Self::B64,
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "s8" => Self::S8,
            "s16" => Self::S16,
            "s32" => Self::S32,
            "s64" => Self::S64,
            "f16" => Self::F16,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "tf32" => Self::Tf32,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "pred" => Self::Pred,
            _ => return None,
        })
    }

    /// Size in bytes; predicates have none.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::Pred => 0,
            Self::B8 | Self::U8 | Self::S8 => 1,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 | Self::Bf16 => 2,
            Self::B32 | Self::U32 | Self::S32 | Self::F32 | Self::F16x2 | Self::Bf16x2 | Self::Tf32 => 4,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }

    pub(crate) fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(
            self,
            Self::F16 | Self::F16x2 | Self::Bf16 | Self::Bf16x2 | Self::Tf32 | Self::F32 | Self::F64
        )
    }
}

/// A variable of any space but `.reg`.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) space: Space,
    pub(crate) align: u32,
    /// Size in bytes; 0 for `extern .shared x[]`.
    pub(crate) bytes: u32,
    pub(crate) external: bool,
    pub(crate) initialiser: Vec<Initialiser>,
}

/// A piece of an initialiser at an offset.
#[derive(Debug, Clone)]
pub(crate) enum Initialiser {
    Bytes {
        offset: u32,
        bytes: Vec<u8>,
    },
    /// The address of a variable plus a number, 8 bytes.
    Address {
        offset: u32,
        symbol: String,
        plus: i64,
    },
}

/// A name that stands for a variable: of the module, or of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VariableRef {
    Module(usize),
    Function(usize),
    /// Parameter of the entry or function.
    Parameter(usize),
    /// Value that a `.func` returns.
    Return(usize),
}

/// What an address starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    Register(usize),
    Variable(VariableRef),
    Absolute,
}

/// An operand of an instruction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Register(usize),
    /// `!p`
    Negated(usize),
    /// `d|p`
    Pair(Box<Operand>, Box<Operand>),
    Integer(i64),
    /// `0f…`: bits of an f32.
    Single(u32),
    /// `0d…` or a decimal fraction: bits of an f64.
    Double(u64),
    /// `%tid.x` and its like, with the `%`.
    Special(String),
    Variable(VariableRef),
    /// `[base + offset]`
    Address {
        base: Base,
        offset: i64,
    },
    Vector(Vec<Operand>),
    /// `(a, b)` of a call.
    List(Vec<Operand>),
    /// `_`
    Sink,
    /// Index of a label of the function.
    Label(usize),
    /// Name of a function, or any name that nothing declares.
    Symbol(String),
}

/// The guard `@p` or `@!p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guard {
    pub(crate) register: usize,
    pub(crate) negated: bool,
}

/// An instruction as the text has it.
#[derive(Debug, Clone)]
pub(crate) struct Instruction {
    pub(crate) guard: Option<Guard>,
    /// Opcode with modifiers.
    pub(crate) opcode: String,
    pub(crate) operands: Vec<Operand>,
    pub(crate) line: u32,
    /// Bytes of the module's text.
    pub(crate) text: Range<usize>,
}

/// An entry or a `.func`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) is_entry: bool,
    pub(crate) params: Vec<Variable>,
    pub(crate) returns: Vec<Variable>,
    pub(crate) max_threads: Option<[u32; 3]>,
    pub(crate) required_threads: Option<[u32; 3]>,
    pub(crate) registers: Vec<Type>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) instructions: Vec<Instruction>,
    /// Instruction that each label stands before; `None` while not yet seen.
    pub(crate) labels: Vec<Option<usize>>,
    /// Labels listed by `.branchtargets`, by the label in front of it.
    pub(crate) branch_targets: Vec<(usize, Vec<usize>)>,
    pub(crate) has_body: bool,
}

/// A parsed module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ast {
    pub(crate) variables: Vec<Variable>,
    pub(crate) functions: Vec<Function>,
}

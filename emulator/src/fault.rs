//! What stops a module from loading or a launch from finishing.

use std::fmt;

use crate::memory::MemoryError;

/// A module that cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not PTX that this parser knows.
    #[error("PTX line {line}: {message}")]
    Syntax {
        /// Line of the PTX text, from 1.
        line: u32,
        /// What was expected and what was found.
        message: String,
    },
    /// The module's variables do not fit.
    #[error("module variables: {0}")]
    Memory(#[from] MemoryError),
}

/// A PTX state space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// Memory of the device.
    Global,
    /// Memory of a block.
    Shared,
    /// Memory of a thread.
    Local,
    /// Read-only memory of a module.
    Const,
    /// Arguments of a kernel or function.
    Param,
    /// An address that says by its value to which space it belongs.
    Generic,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::Shared => "shared",
            Self::Local => "local",
            Self::Const => "const",
            Self::Param => "param",
            Self::Generic => "generic",
        })
    }
}

/// Where a launch stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// Name of the entry.
    pub kernel: String,
    /// `%ctaid`.
    pub block: [u32; 3],
    /// `%tid` of the first thread concerned.
    pub thread: [u32; 3],
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// The instruction as the PTX text has it.
    pub instruction: String,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [bx, by, bz] = self.block;
        let [tx, ty, tz] = self.thread;
        write!(
            f,
            "kernel `{}`, block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz}), PTX line {}: `{}`",
            self.kernel, self.line, self.instruction
        )
    }
}

/// Why a launch stopped. Every fault that has a place names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The module has no such entry.
    #[error("the module has no entry `{0}`")]
    NoEntry(String),
    /// Grid, block, shared bytes or parameters do not suit the entry or the device.
    #[error("launch of `{kernel}`: {message}")]
    Configuration {
        /// Name of the entry.
        kernel: String,
        /// What was expected and what was found.
        message: String,
    },
    /// An access outside every live allocation.
    #[error("{space} access of {bytes} bytes at {address:#x} is out of bounds ({detail}): {site}")]
    OutOfBounds {
        /// Where.
        site: Box<Site>,
        /// State space of the access.
        space: Space,
        /// First byte.
        address: u64,
        /// Size of the access.
        bytes: u32,
        /// Nearest allocation or size of the space.
        detail: String,
    },
    /// An address that is not a multiple of the access size.
    #[error("{space} access of {bytes} bytes at {address:#x} is misaligned: {site}")]
    Misaligned {
        /// Where.
        site: Box<Site>,
        /// State space of the access.
        space: Space,
        /// First byte.
        address: u64,
        /// Size of the access.
        bytes: u32,
    },
    /// A read of bytes that nothing wrote.
    #[error("{space} read of {bytes} bytes at {address:#x}, which nothing wrote: {site}")]
    Uninitialised {
        /// Where.
        site: Box<Site>,
        /// State space of the access.
        space: Space,
        /// First byte of the access.
        address: u64,
        /// Size of the access.
        bytes: u32,
    },
    /// Two warps touch a shared word without a barrier between, and one of them writes it.
    #[error("race at shared address {address:#x}: {detail}: {site}")]
    Race {
        /// Where the second of the two accesses is.
        site: Box<Site>,
        /// First byte of the word.
        address: u64,
        /// Which warps, and what each does.
        detail: String,
    },
    /// A shared word is used while an asynchronous copy into it has not been waited for.
    #[error(
        "shared address {address:#x} is used while an asynchronous copy into it is in flight ({detail}): {site}"
    )]
    AsyncInFlight {
        /// Where.
        site: Box<Site>,
        /// First byte of the word.
        address: u64,
        /// Which warp issued the copy.
        detail: String,
    },
    /// A barrier or warp-wide instruction that some of the threads it needs do not reach together.
    #[error("divergent execution: {detail}: {site}")]
    DivergentBarrier {
        /// Where.
        site: Box<Site>,
        /// Which threads are missing.
        detail: String,
    },
    /// No thread of a block can go on.
    #[error("deadlock: {detail}: {site}")]
    Deadlock {
        /// Where the first waiting thread waits.
        site: Box<Site>,
        /// Who waits for what.
        detail: String,
    },
    /// A warp executed more instructions than [`Options::warp_instruction_limit`](crate::Options::warp_instruction_limit).
    #[error("no end in sight after {instructions} instructions of one warp: {site}")]
    Livelock {
        /// Where the warp was.
        site: Box<Site>,
        /// Instructions executed.
        instructions: u64,
    },
    /// An instruction that the emulator does not know.
    #[error("unsupported instruction `{instruction}` ({detail}): {site}")]
    Unsupported {
        /// Where.
        site: Box<Site>,
        /// Text of the instruction.
        instruction: String,
        /// Which part of it is not known.
        detail: String,
        /// Line of the PTX text, from 1.
        line: u32,
    },
    /// `trap`, or a failed assertion.
    #[error("trap: {site}")]
    Trap {
        /// Where.
        site: Box<Site>,
    },
    /// An operand outside what the PTX ISA defines, such as a barrier number of 16 or more.
    #[error("invalid operand: {detail}: {site}")]
    InvalidOperand {
        /// Where.
        site: Box<Site>,
        /// What is wrong.
        detail: String,
    },
}

impl Fault {
    /// Where the launch stopped, if it had started.
    pub fn site(&self) -> Option<&Site> {
        match self {
            Self::NoEntry(_) | Self::Configuration { .. } => None,
            Self::OutOfBounds { site, .. }
            | Self::Misaligned { site, .. }
            | Self::Uninitialised { site, .. }
            | Self::Race { site, .. }
            | Self::AsyncInFlight { site, .. }
            | Self::DivergentBarrier { site, .. }
            | Self::Deadlock { site, .. }
            | Self::Livelock { site, .. }
            | Self::Unsupported { site, .. }
            | Self::Trap { site }
            | Self::InvalidOperand { site, .. } => Some(site),
        }
    }

    pub(crate) fn site_mut(&mut self) -> Option<&mut Site> {
        match self {
            Self::NoEntry(_) | Self::Configuration { .. } => None,
            Self::OutOfBounds { site, .. }
            | Self::Misaligned { site, .. }
            | Self::Uninitialised { site, .. }
            | Self::Race { site, .. }
            | Self::AsyncInFlight { site, .. }
            | Self::DivergentBarrier { site, .. }
            | Self::Deadlock { site, .. }
            | Self::Livelock { site, .. }
            | Self::Unsupported { site, .. }
            | Self::Trap { site }
            | Self::InvalidOperand { site, .. } => Some(site),
        }
    }
}

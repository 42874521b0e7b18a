//! PTX text to a checked module.

pub(crate) mod ast;
mod body;
mod lexer;
mod parser;

pub(crate) use parser::parse;

/// A parameter of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Name in the PTX text.
    pub name: String,
    /// First byte in the parameter block.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// What a host must know of an entry to launch it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Name in the PTX text.
    pub name: String,
    /// Parameters in order.
    pub params: Vec<Param>,
    /// Size of the parameter block in bytes.
    pub param_bytes: u32,
    /// Static shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// Local memory of a thread in bytes.
    pub local_bytes: u32,
    /// `.maxntid`: at most so many threads a block in x, y, z.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`: exactly so many threads a block in x, y, z.
    pub required_threads: Option<[u32; 3]>,
}

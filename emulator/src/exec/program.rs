//! A loaded module: its text, its variables' addresses, and the code of the entries launched so far.

use std::sync::OnceLock;

use super::access::window;
use super::code::Code;
use super::decode::decode;
use super::layout::{Place, place};
use crate::fault::{Error, Space};
use crate::memory::Memory;
use crate::ptx::ast::{Ast, Function, Initialiser, Variable};
use crate::ptx::{Entry, Param, parse};

#[derive(Debug, Default)]
pub(crate) struct Program {
    text: String,
    ast: Ast,
    variables: Vec<Place>,
    entries: Vec<Entry>,
    /// Index in the module's functions and decoded code, by entry.
    codes: Vec<(usize, OnceLock<Code>)>,
}

impl Program {
    /// Parses a module and gives its variables memory.
    pub(crate) fn load(text: &str, memory: &Memory) -> Result<Self, Error> {
        let ast = parse(text)?;
        let mut variables = Vec::new();
        for variable in &ast.variables {
            let place = match variable.space {
                _ if variable.external && variable.space != Space::Shared => Place::Missing,
                Space::Global => {
                    Place::At { space: Space::Global, offset: memory.alloc(u64::from(variable.bytes))? }
                }
                Space::Const => Place::At {
                    space: Space::Const,
                    offset: memory.alloc_constant(u64::from(variable.bytes))?,
                },
                // Shared variables get their places in each entry.
                _ => Place::Missing,
            };
            variables.push(place);
        }
        let mut program = Self { text: text.to_owned(), variables, ..Self::default() };
        for (variable, place) in ast.variables.iter().zip(&program.variables) {
            if let Place::At { offset, .. } = *place {
                initialise(&ast, &program.variables, variable, offset, memory)?;
            }
        }
        for (index, function) in ast.functions.iter().enumerate().filter(|(_, f)| f.is_entry && f.has_body) {
            program.entries.push(entry_of(function));
            program.codes.push((index, OnceLock::new()));
        }
        program.ast = ast;
        // Static shared and local memory are known only once all functions that an entry reaches are laid out.
        for index in 0..program.entries.len() {
            let code = program.code(index);
            let (shared_bytes, local_bytes) = (code.shared_bytes, code.local_bytes);
            program.entries[index].shared_bytes = shared_bytes;
            program.entries[index].local_bytes = local_bytes;
        }
        Ok(program)
    }

    /// Frees the variables' memory.
    pub(crate) fn unload(&self, memory: &Memory) {
        for place in &self.variables {
            if let Place::At { space: Space::Global | Space::Const, offset } = place {
                // Each was allocated by `load` and is freed once.
                let _ = memory.free(*offset);
            }
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Code of an entry.
    pub(crate) fn code(&self, entry: usize) -> &Code {
        let (function, code) = &self.codes[entry];
        code.get_or_init(|| decode(&self.ast, &self.text, &self.variables, *function))
    }

    /// Address and size of a global or constant variable.
    pub(crate) fn variable(&self, name: &str) -> Option<(u64, u64)> {
        let index = self.ast.variables.iter().position(|variable| variable.name == name)?;
        match self.variables[index] {
            Place::At { space: Space::Global | Space::Const, offset } => {
                Some((offset, u64::from(self.ast.variables[index].bytes)))
            }
            _ => None,
        }
    }
}

/// Writes a variable's initial value; what the initialiser leaves out is zero (PTX ISA 5.4.4), and so is a variable without one.
fn initialise(
    ast: &Ast,
    places: &[Place],
    variable: &Variable,
    address: u64,
    memory: &Memory,
) -> Result<(), Error> {
    memory.fill(address, &[0], u64::from(variable.bytes))?;
    for piece in &variable.initialiser {
        match piece {
            Initialiser::Bytes { offset, bytes } => memory.write(address + u64::from(*offset), bytes)?,
            Initialiser::Address { offset, symbol, plus } => {
                let known = ast.variables.iter().position(|other| other.name == *symbol);
                let Some(Place::At { space, offset: target }) = known.map(|index| places[index]) else {
                    let message = format!("the initialiser of `{}` names `{symbol}`", variable.name);
                    return Err(Error::Syntax { line: 0, message });
                };
                let value = window(space).wrapping_add(target).wrapping_add_signed(*plus);
                memory.write(address + u64::from(*offset), &value.to_le_bytes())?;
            }
        }
    }
    Ok(())
}

fn entry_of(function: &Function) -> Entry {
    let mut end = 0;
    let params = function
        .params
        .iter()
        .map(|v| {
            let offset = place(&mut end, v);
            Param { name: v.name.clone(), offset, size: v.bytes, align: v.align }
        })
        .collect();
    Entry {
        name: function.name.clone(),
        params,
        param_bytes: end,
        max_threads: function.max_threads,
        required_threads: function.required_threads,
        ..Entry::default()
    }
}

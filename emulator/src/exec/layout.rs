//! Where variables lie.

use crate::fault::Space;
use crate::ptx::ast::{Function, Variable};

/// Place of a variable: an address in global and const space, an offset in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    At {
        space: Space,
        offset: u64,
    },
    /// Declared `extern`, defined nowhere.
    Missing,
}

/// Places of a function's variables and parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct FrameLayout {
    pub(crate) variables: Vec<Place>,
    pub(crate) params: Vec<Place>,
    pub(crate) returns: Vec<Place>,
}

/// Puts a variable at the next multiple of its alignment.
pub(crate) fn place(end: &mut u32, variable: &Variable) -> u32 {
    // What does not fit is refused at the launch.
    let offset = end.checked_next_multiple_of(variable.align).unwrap_or(u32::MAX);
    *end = offset.saturating_add(variable.bytes);
    offset
}

impl FrameLayout {
    /// Lays a function out behind what already lies in shared and local memory. An entry's parameters form a block of their own; those
    /// of a function, and the ones a caller passes, lie in the thread's local memory.
    pub(crate) fn new(function: &Function, shared: &mut u32, local: &mut u32) -> Self {
        let at = |space, offset: u32| Place::At { space, offset: u64::from(offset) };
        let mut params_end = 0;
        let params = function
            .params
            .iter()
            .map(|v| match function.is_entry {
                true => at(Space::Param, place(&mut params_end, v)),
                false => at(Space::Local, place(local, v)),
            })
            .collect();
        let returns = function.returns.iter().map(|v| at(Space::Local, place(local, v))).collect();
        let variables = function
            .variables
            .iter()
            .map(|v| match v.space {
                Space::Shared => at(Space::Shared, place(shared, v)),
                _ => at(Space::Local, place(local, v)),
            })
            .collect();
        Self { variables, params, returns }
    }
}

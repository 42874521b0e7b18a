//! Decoded programs and the interpreter that runs them, a warp at a time.

use crate::ptx;

/// A decoded module.
#[derive(Debug, Default)]
pub(crate) struct Program {
    entries: Vec<ptx::Entry>,
    variables: Vec<(String, u64, u64)>,
}

impl Program {
    pub(crate) fn entries(&self) -> &[ptx::Entry] {
        &self.entries
    }

    pub(crate) fn variable(&self, name: &str) -> Option<(u64, u64)> {
        self.variables.iter().find(|v| v.0 == name).map(|v| (v.1, v.2))
    }
}

//! One file a command.

mod show_config;

use crate::cli::Command;
use crate::error::Result;

/// Runs one command.
///
/// # Errors
/// Whatever stopped it, in words that say what to do.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Config(args) => show_config::run(&args),
        _ => unreachable!(),
    }
}

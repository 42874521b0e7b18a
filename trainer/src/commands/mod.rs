//! One file a command.

mod data;
mod device;
mod generate;
mod plan;
mod pretrain;
mod show_config;
mod transfer;

use crate::cli::Command;
use crate::error::Result;

/// Runs one command.
///
/// # Errors
/// Whatever stopped it, in words that say what to do.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Pretrain(args) => pretrain::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Export(args) => transfer::export(args),
        Command::Import(args) => transfer::import(args),
        Command::Data(args) => data::run(args),
        Command::Config(args) => show_config::run(args),
    }
}

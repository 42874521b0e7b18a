//! One file a command.

mod bench;
mod data;
mod device;
mod eval;
mod generate;
mod inspect;
mod plan;
mod pretrain;
mod show_config;
mod transfer;

use clap::CommandFactory;

use crate::cli::{Cli, Command, Completions};
use crate::error::Result;

/// Runs one command.
///
/// # Errors
/// Whatever stopped it, in words that say what to do.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Pretrain(args) => pretrain::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Completions(args) => {
            completions(args);
            Ok(())
        }
        Command::Export(args) => transfer::export(args),
        Command::Import(args) => transfer::import(args),
        Command::Data(args) => data::run(args),
        Command::Config(args) => show_config::run(args),
    }
}

/// Prints the completions of a shell.
fn completions(args: &Completions) {
    clap_complete::generate(args.shell, &mut Cli::command(), "trainer", &mut std::io::stdout());
}

//! One file a command.

mod analyse;
mod bench;
mod benchmarks;
mod data;
mod device;
mod eval;
mod finetune;
mod fit_table;
mod generate;
mod grow;
mod inspect;
mod merge;
mod monitor;
mod plan;
mod pretrain;
mod prune;
mod report;
mod retention;
mod select;
mod show_config;
mod subset;
mod transfer;

use clap::CommandFactory;

use crate::cli::{Cli, Command, Completions};
use crate::error::Result;
use crate::output;

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
        Command::Analyse(args) => analyse::run(args),
        Command::Report(args) => report::run(args),
        Command::Monitor(args) => monitor::run(args),
        Command::Retention(args) => retention::run(args),
        Command::Finetune(args) => finetune::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Subset(args) => subset::run(args),
        Command::Grow(args) => grow::run(args),
        Command::Select(args) => select::run(args),
        Command::Prune(args) => prune::run(args),
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
    // Into memory first: a failing writer makes the generator panic.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "trainer", &mut script);
    output::print(format_args!("{}", String::from_utf8_lossy(&script)));
}

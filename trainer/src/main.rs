//! `trainer`: the table of contents.
//!
//! * [`trainer::cli`] — what can be said on the command line
//! * [`trainer::commands`] — one file a command
//! * [`trainer::config`] — presets, TOML files, `--set`
//! * [`trainer::data`] — text -> tokens -> packed batches
//! * [`trainer::model`] — the decoder, forward and backward side by side
//! * [`trainer::train`] — the loop: schedule, optimiser, validation, routing statistics
//! * [`trainer::checkpoint`] — atomic folders that are Hugging Face checkpoints
//! * [`trainer::subset`] — subsets of experts: choosing, pruning, running
//! * [`trainer::generate`] — sequences that grow over cached keys and values, sampling, streaming
//! * [`trainer::evaluate`] — held-out text, benchmarks
//! * [`trainer::analysis`] — what experts do: statistics of routing, clusters of tokens
//! * [`trainer::bench`] — what share of the processor's peaks a step and its ops reach
//! * [`trainer::cluster`] — what a run needs on a cluster that a user describes
//! * [`trainer::output`] — what is printed, and whether that went well
//! * [`trainer::report`] — progress line, report.html, several runs side by side, the page of an analysis

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .log_internal_errors(false)
        .init();
    let outcome = trainer::commands::run(&trainer::cli::Cli::parse().command);
    match outcome.and_then(|()| trainer::output::finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            trainer::output::say(format_args!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

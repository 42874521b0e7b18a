//! `trainer config`: print a preset.

use crate::cli::ShowConfig;
use crate::config::{Config, presets};
use crate::error::Result;
use crate::output::{self, out};

/// Prints the preset's own text, or the whole effective configuration.
pub fn run(args: &ShowConfig) -> Result<()> {
    let Some(name) = args.preset.as_deref().filter(|_| !args.list) else {
        let width = presets::names().map(str::len).max().unwrap_or_default();
        presets::names().for_each(|name| out!("{name:width$}  {}", presets::purpose(name)));
        return Ok(());
    };
    let config = Config::load(name, &[])?;
    match presets::text(name).filter(|_| !args.full) {
        Some(text) => output::print(format_args!("{text}")),
        None => output::print(format_args!("{}", config.to_toml()?)),
    }
    Ok(())
}

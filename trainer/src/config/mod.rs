//! The configuration of a run: a TOML file or a built-in preset, `base` presets under it, `--set` on top, all checked.

mod checks;
mod convert;
mod defaults;
mod describe;
pub mod fields;
pub mod presets;
pub mod sections;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use sections::*;

use crate::data::shard::Manifest;
use crate::error::{Error, Result};
use crate::small;

/// A whole configuration. See each section for its keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The decoder.
    pub model: Model,
    /// Which experts a token uses.
    pub router: Router,
    /// Weights of the losses.
    pub losses: Losses,
    /// The text.
    pub data: Data,
    /// The loop.
    pub train: Train,
    /// AdamW.
    pub optimiser: Optimiser,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// Held-out text.
    pub validation: Validation,
    /// The process.
    pub run: Run,
}

/// The top-level key that names the preset a file starts from.
const BASE: &str = "base";

impl Config {
    /// Reads `name`, a preset's name or a TOML file's path, lays `overrides` (`section.key=value`) over it and checks
    /// everything.
    ///
    /// # Errors
    /// [`Error::Config`] names an unknown key with the nearest valid one, a value of a wrong type, or settings that
    /// contradict each other; [`Error::Io`] if the file cannot be read.
    pub fn load(name: &str, overrides: &[String]) -> Result<Self> {
        let (mut table, stem) = read(name)?;
        for assignment in overrides {
            assign(&mut table, assignment)?;
        }
        let mut config = Self::from_table(table)?;
        if config.run.name.is_empty() {
            config.run.name = stem;
        }
        config.resolve()?;
        config.check()?;
        Ok(config)
    }

    /// Reads the effective configuration that a checkpoint keeps, `overrides` laid over it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str, overrides: &[String]) -> Result<Self> {
        let mut table = parse(text, "the saved configuration")?;
        for assignment in overrides {
            assign(&mut table, assignment)?;
        }
        let config = Self::from_table(table)?;
        config.check()?;
        Ok(config)
    }

    /// [`Config::from_toml`] of a file.
    ///
    /// # Errors
    /// As [`Config::load`], naming the file.
    pub fn saved(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = small::text(path).map_err(Error::io("read", path))?;
        Self::from_toml(&text, overrides).map_err(|error| match error {
            Error::Config(message) => Error::Config(format!("{}: {message}", path.display())),
            other => other,
        })
    }

    /// Fills in what the tokenizer of the shards decides: vocabulary, rounded up to a multiple of 64, and end of document.
    fn resolve(&mut self) -> Result<()> {
        let first = self.data.mix.first().map_or(&self.data.path, |source| &source.path);
        if self.data.source != Source::Shards || first.as_os_str().is_empty() {
            return Ok(());
        }
        if self.model.vocabulary == 0 || self.data.eos.is_none() {
            let tokenizer = Manifest::read(first)?.tokenizer;
            if self.model.vocabulary == 0 {
                self.model.vocabulary = (tokenizer.vocabulary as usize).next_multiple_of(64);
            }
            self.data.eos.get_or_insert(tokenizer.eos);
        }
        Ok(())
    }

    /// The whole configuration, defaults written out.
    ///
    /// # Errors
    /// [`Error::Config`] if a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::Config(error.to_string()))
    }

    fn from_table(mut table: Table) -> Result<Self> {
        table.remove(BASE);
        for key in table.keys() {
            known(key, fields::of::<Self>(), "section", "")?;
        }
        Ok(Self {
            model: section(&mut table, "model")?,
            router: section(&mut table, "router")?,
            losses: section(&mut table, "losses")?,
            data: section(&mut table, "data")?,
            train: section(&mut table, "train")?,
            optimiser: section(&mut table, "optimiser")?,
            schedule: section(&mut table, "schedule")?,
            validation: section(&mut table, "validation")?,
            run: section(&mut table, "run")?,
        })
    }

    /// Keys whose values differ between two configurations, as `section.key`, with both values.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let table = |config: &Self| Table::try_from(config).unwrap_or_default();
        let (a, b) = (table(self), table(other));
        let mut found = Vec::new();
        for (section, values) in &a {
            let (Some(values), Some(others)) = (values.as_table(), b.get(section).and_then(Value::as_table))
            else {
                continue;
            };
            for (key, value) in values {
                let other = others.get(key);
                if other != Some(value) {
                    let show =
                        |value: Option<&Value>| value.map_or_else(|| "unset".into(), ToString::to_string);
                    found.push((format!("{section}.{key}"), show(Some(value)), show(other)));
                }
            }
        }
        found
    }

    /// Rows computed at once.
    #[must_use]
    pub fn micro_batch(&self) -> usize {
        if self.train.micro_batch == 0 { self.train.batch } else { self.train.micro_batch }
    }

    /// Tokens of an optimiser step.
    #[must_use]
    pub fn tokens_per_step(&self) -> u64 {
        (self.train.batch * self.data.sequence) as u64
    }

    /// Indices of the layers that are mixtures of experts.
    pub fn mixture_layers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.model.layers).filter(|layer| !self.model.dense_layers.contains(layer))
    }
}

/// The table of a preset or file with its bases under it, and the name to give the run.
fn read(name: &str) -> Result<(Table, String)> {
    if let Some(text) = presets::text(name) {
        return Ok((with_base(parse(text, name)?)?, name.to_owned()));
    }
    let path = Path::new(name);
    if !path.exists() {
        let hint = fields::nearest(name, presets::names())
            .map_or_else(|| ".".to_owned(), |preset| format!("; did you mean the preset `{preset}`?"));
        let presets = presets::names().collect::<Vec<_>>().join(", ");
        return Err(Error::Config(format!(
            "`{name}` is neither a preset nor a file{hint} Presets: {presets}. \
             `trainer config quickstart > my.toml` writes a file to start from"
        )));
    }
    let text = small::text(path).map_err(Error::io("read the configuration", path))?;
    let stem = path.file_stem().map_or_else(|| "run".into(), |stem| stem.to_string_lossy().into_owned());
    Ok((with_base(parse(&text, name)?)?, stem))
}

fn parse(text: &str, place: &str) -> Result<Table> {
    text.parse::<Table>()
        .map_err(|error| Error::Config(format!("{place} is not valid TOML: {}", toml_problem(text, &error))))
}

/// What is wrong with a TOML file, and where: the parser's own words quote the line, however long it is.
pub(crate) fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim_end();
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message.to_owned();
    };
    let number = before.matches('\n').count() + 1;
    let line: String = text.lines().nth(number - 1).unwrap_or_default().chars().take(80).collect();
    format!("line {number}, `{line}`: {message}")
}

/// Lays `table` over the preset that its key `base` names.
fn with_base(table: Table) -> Result<Table> {
    let Some(base) = table.get(BASE) else { return Ok(table) };
    let text = base.as_str().and_then(presets::text).ok_or_else(|| {
        let presets = presets::names().collect::<Vec<_>>().join(", ");
        Error::Config(format!("`base` must be the name of a preset ({presets}), found {base}"))
    })?;
    let mut below = with_base(parse(text, "a preset")?)?;
    for (key, value) in table {
        match (below.get_mut(&key).and_then(Value::as_table_mut), value) {
            (Some(section), Value::Table(values)) => section.extend(values),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
    Ok(below)
}

/// Applies one `section.key=value`.
fn assign(table: &mut Table, assignment: &str) -> Result<()> {
    let usage = || {
        Error::Config(format!(
            "`--set {assignment}` must be of the form section.key=value, as in train.batch=16"
        ))
    };
    let (path, value) = assignment.split_once('=').ok_or_else(usage)?;
    let (section, key) = path.trim().split_once('.').ok_or_else(usage)?;
    // Anything that is no TOML value is meant as a string: --set run.name=first needs no quotes.
    let value = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| Value::String(value.trim().to_owned()));
    let values = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    values.as_table_mut().ok_or_else(usage)?.insert(key.to_owned(), value);
    Ok(())
}

/// One section out of the table, its keys checked before its values.
fn section<T: DeserializeOwned + Default>(table: &mut Table, name: &str) -> Result<T> {
    let Some(value) = table.remove(name) else { return Ok(T::default()) };
    let Value::Table(values) = value else {
        return Err(Error::Config(format!("`{name}` must be a section, [{name}], found {value}")));
    };
    for key in values.keys() {
        known(key, fields::of::<T>(), "key", &format!("{name}."))?;
    }
    // One key at a time over the defaults, so that the error names it.
    for (key, value) in &values {
        let single = Table::from_iter([(key.clone(), value.clone())]);
        if let Err(error) = single.try_into::<T>() {
            let problem = error.message().to_owned();
            return Err(Error::Config(format!("`{name}.{key} = {value}`: {problem}")));
        }
    }
    values
        .try_into()
        .map_err(|error: toml::de::Error| Error::Config(format!("[{name}]: {}", error.message())))
}

/// `key` is one of `fields`, or an error with the nearest of them.
fn known(key: &str, fields: &[&str], kind: &str, prefix: &str) -> Result<()> {
    if fields.contains(&key) {
        return Ok(());
    }
    let hint = match fields::nearest(key, fields.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("the valid ones are {}", fields.join(", ")),
    };
    Err(Error::Config(format!("unknown {kind} `{prefix}{key}`, {hint}")))
}

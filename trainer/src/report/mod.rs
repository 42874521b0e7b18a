//! Pages that people read, without the network: `report.html` of one run, which has no scripts, the page of `trainer analyse`
//! ([`render_analysis`]), which has a little script to search with and is whole without it, and both with retention curves on
//! one page ([`Page`]).
//!
//! [`RunReport`] is everything the page shows; [`render`] makes the page of it and [`write()`] does both for a run's folder:
//!
//! | file | holds | without it |
//! |---|---|---|
//! | `metrics.jsonl` | [`crate::metrics::Record`] lines | an error: there is nothing to report |
//! | `run.json` | [`RunInfo`]: title and configuration | the folder's name, no configuration table |
//! | `routing.json` | [`RoutingCounts`] of the last validation | no expert section |

mod analysis;
mod bars;
mod chart;
mod colour;
mod experts;
mod heatmap;
mod html;
mod page;
mod retention;
mod routing;
mod runs;
mod scale;
mod sections;
mod whole;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use analysis::render as render_analysis;
pub use bars::{BarGroup, GroupedBars};
pub use chart::{LineChart, Look, Series};
pub use html::escape;
pub use page::render;
pub use retention::ModelRetention;
pub use routing::{LayerRouting, RoutingCounts};
pub use runs::Baseline;
pub use scale::Scale;
pub use whole::{Page, numbered, render_runs};

use crate::metrics::{MetricsError, Record, StepRecord, ValidRecord, read_records};
use crate::replace::replace_with;
use crate::small;

/// What a run was: the part of a report that is known when it starts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunInfo {
    /// The page's heading.
    pub title: String,
    /// Settings worth reading, in order: name and value.
    pub config: Vec<(String, String)>,
    /// What the run was made with: name and value.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
}

/// All that a report shows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunReport {
    /// Title and configuration.
    pub info: RunInfo,
    /// Every optimiser step, in order.
    pub steps: Vec<StepRecord>,
    /// Every validation, in order.
    pub validations: Vec<ValidRecord>,
    /// Which experts the validation text of each domain was routed to, at the end.
    pub routing: Option<RoutingCounts>,
}

/// What can go wrong while a report is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The metrics cannot be read.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A file beside the metrics does not hold what its name says.
    #[error("{}: {message}; delete it or write it again to make the report", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The file system refused.
    #[error("cannot read or write {}: {source}{}", .path.display(), crate::error::advice(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl RunReport {
    /// Gathers the report of the run in `folder`.
    ///
    /// # Errors
    /// [`ReportError`], naming the file.
    pub fn gather(folder: &Path) -> Result<Self, ReportError> {
        let mut report = RunReport {
            info: optional(&folder.join("run.json"))?.unwrap_or_else(|| RunInfo {
                title: folder.file_name().map_or("run".into(), |name| name.to_string_lossy().into_owned()),
                ..RunInfo::default()
            }),
            ..RunReport::default()
        };
        for record in read_records(&folder.join("metrics.jsonl"))? {
            match record {
                Record::Step(record) => report.steps.push(record),
                Record::Valid(record) => report.validations.push(record),
            }
        }
        let path = folder.join("routing.json");
        report.routing = optional(&path)?;
        if let Some(routing) = &report.routing {
            routing.check().map_err(|message| ReportError::Invalid { path, message })?;
        }
        Ok(report)
    }
}

/// Makes `folder/report.html` of what is in `folder` and returns its path. The old page stays until the new one is whole.
///
/// # Errors
/// [`ReportError`], naming the file.
pub fn write(folder: &Path) -> Result<PathBuf, ReportError> {
    let report = RunReport::gather(folder)?;
    let path = folder.join("report.html");
    replace_with(&path, render(&report).as_bytes())
        .map_err(|source| ReportError::Io { path: path.clone(), source })?;
    Ok(path)
}

fn optional<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    match small::bytes(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| ReportError::Invalid { path: path.to_owned(), message: error.to_string() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::Io { path: path.to_owned(), source }),
    }
}

//! `trainer report`: the page of one run again, or of several runs side by side, with what else was measured of them.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::analyse;
use crate::analysis::Analysis;
use crate::checkpoint::folder;
use crate::cli::Report;
use crate::error::{Error, Result};
use crate::evaluate::ngram;
use crate::evaluate::text::run_config;
use crate::output::out;
use crate::replace::replace_with;
use crate::report::{self, Baseline, ModelRetention, Page, RunReport};
use crate::small;
use crate::train::text::Text;

/// Models whose analyses have room beside each other.
const MOST_ANALYSES: usize = 2;

/// The output of `--json`.
#[derive(Serialize)]
struct Reported {
    page: PathBuf,
    runs: usize,
    /// Models with retention curves.
    retention: usize,
    /// Models whose experts are shown.
    analyses: usize,
    /// Bits per byte of the n-gram model of each domain; none where it was left out or its text is not here.
    ngram: Option<std::collections::BTreeMap<String, f64>>,
}

/// Writes the page.
pub fn run(args: &Report) -> Result<()> {
    let page = match (&args.out, &args.runs[..]) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.join("report.html"),
        _ => {
            return Err(Error::Usage(
                "the page of several runs belongs to none of them; name its file with --out".into(),
            ));
        }
    };
    if args.analysis.len() > MOST_ANALYSES {
        let found = args.analysis.len();
        return Err(Error::Usage(format!(
            "--analysis shows at most {MOST_ANALYSES} models side by side, found {found} files; leave some out"
        )));
    }
    let runs: Vec<RunReport> =
        args.runs.iter().map(|run| RunReport::gather(run)).collect::<std::result::Result<_, _>>()?;
    let retention: Vec<ModelRetention> =
        args.retention.iter().map(|path| retention(path)).collect::<Result<_>>()?;
    let analyses: Vec<Analysis> =
        args.analysis.iter().map(|path| analyse::read(path)).collect::<Result<_>>()?;
    // A run's own page is about the run alone.
    let compares = args.out.is_some() && args.ngram > 0;
    let baseline = if compares { baseline(&args.runs[0], usize::from(args.ngram)) } else { None };
    let names = args.runs.iter().zip(&runs).map(|(folder, run)| name(folder, run)).collect();
    let text = Page {
        runs: &runs,
        names: report::numbered(names),
        baseline: baseline.as_ref(),
        retention: &retention,
        analyses: &analyses,
    }
    .render();
    replace_with(&page, text.as_bytes()).map_err(Error::io("write", &page))?;
    let (runs, retention, analyses) = (runs.len(), retention.len(), analyses.len());
    tell(
        args,
        Reported { page, runs, retention, analyses, ngram: baseline.map(|found| found.bits_per_byte) },
    );
    Ok(())
}

/// The run's folder, which its checkpoints, subsets and analyses are called after too.
fn name(folder: &Path, run: &RunReport) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map_or(run.info.title.clone(), |name| name.to_string_lossy().into_owned())
}

fn retention(path: &Path) -> Result<ModelRetention> {
    let text = small::text(path).map_err(Error::io("read", path))?;
    ModelRetention::parse(&text).map_err(|message| {
        Error::Usage(format!(
            "{} is no JSON of `trainer retention`: {message}; `trainer retention --checkpoint RUN --out FILE` writes one",
            path.display()
        ))
    })
}

fn tell(args: &Report, reported: Reported) {
    if args.json {
        out!("{}", serde_json::to_string(&reported).unwrap_or_default());
    } else {
        out!("{}", reported.page.display());
    }
}

/// The n-gram models of the first run's text. A page without them is better than none, so what is in the way is a warning.
fn baseline(run: &Path, order: usize) -> Option<Baseline> {
    let made = || -> Result<Option<Baseline>> {
        let Some(config) = run_config(&folder::find(run)?)? else { return Ok(None) };
        let text = Text::load(&config, false)?;
        let vocabulary = config.model_config().vocabulary;
        let bits_per_byte = ngram::by_domain(&text.train, &*text.valid, &text.domains, order, vocabulary);
        Ok((!bits_per_byte.is_empty()).then_some(Baseline { order, bits_per_byte }))
    };
    made().unwrap_or_else(|error| {
        tracing::warn!("the page has no n-gram models to compare with: {error}");
        None
    })
}

//! `trainer report`: the page of one run again, or of several runs side by side.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::checkpoint::folder;
use crate::cli::Report;
use crate::error::{Error, Result};
use crate::evaluate::ngram;
use crate::evaluate::text::run_config;
use crate::output::out;
use crate::replace::replace_with;
use crate::report::{self, Baseline, RunReport};
use crate::train::text::Text;

/// The output of `--json`.
#[derive(Serialize)]
struct Reported {
    page: PathBuf,
    runs: usize,
    /// Bits per byte of the n-gram model of each domain; none where it was left out or its text is not here.
    ngram: Option<std::collections::BTreeMap<String, f64>>,
}

/// Writes the page.
pub fn run(args: &Report) -> Result<()> {
    if let ([run], None) = (&args.runs[..], &args.out) {
        let page = report::write(run)?;
        tell(args, Reported { page, runs: 1, ngram: None });
        return Ok(());
    }
    let Some(out) = &args.out else {
        return Err(Error::Usage(
            "the page of several runs belongs to none of them; name its file with --out".into(),
        ));
    };
    let runs: Vec<RunReport> =
        args.runs.iter().map(|run| RunReport::gather(run)).collect::<std::result::Result<_, _>>()?;
    let baseline = if args.ngram > 0 { baseline(&args.runs[0], usize::from(args.ngram)) } else { None };
    let page = report::render_runs(&runs, baseline.as_ref());
    replace_with(out, page.as_bytes()).map_err(Error::io("write", out))?;
    let ngram = baseline.map(|baseline| baseline.bits_per_byte);
    tell(args, Reported { page: out.clone(), runs: runs.len(), ngram });
    Ok(())
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

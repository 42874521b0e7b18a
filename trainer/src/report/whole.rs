//! Everything on one page: runs, what subsets of their experts retain, what the experts do.

use super::page::{document, run_sections};
use super::retention::{self, ModelRetention, Shown};
use super::{Baseline, RunReport, analysis, runs};
use crate::analysis::Analysis;

/// What the page shows.
#[derive(Debug, Default)]
pub struct Page<'a> {
    /// Runs, in the order shown.
    pub runs: &'a [RunReport],
    /// What each of them is called. Models of the same name have the same colour.
    pub names: Vec<String>,
    /// What the runs' validation is compared with.
    pub baseline: Option<&'a Baseline>,
    /// Retention of models.
    pub retention: &'a [ModelRetention],
    /// What the experts of one model do, or of two side by side.
    pub analyses: &'a [Analysis],
}

/// The page of several runs by their titles, in the order given.
#[must_use]
pub fn render_runs(runs: &[RunReport], baseline: Option<&Baseline>) -> String {
    let titles = runs.iter().map(|run| run.info.title.clone()).collect();
    Page { runs, names: numbered(titles), baseline, ..Page::default() }.render()
}

/// `names` with a number each where several are the same.
#[must_use]
pub fn numbered(names: Vec<String>) -> Vec<String> {
    let name = |(index, name): (usize, &String)| match names.iter().filter(|other| *other == name).count() {
        1 => name.clone(),
        _ => format!("{name} ({})", index + 1),
    };
    names.iter().enumerate().map(name).collect()
}

impl Page<'_> {
    /// The page. Every text in it is escaped; it loads nothing, and runs nothing but what filters the retention and the analyses.
    #[must_use]
    pub fn render(&self) -> String {
        let ([results, course], title) = match (self.runs, self.baseline) {
            ([run], None) => (run_sections(run), run.info.title.clone()),
            ([run], _) => (runs::sections(self.runs, &self.names, self.baseline), run.info.title.clone()),
            (many, _) => (
                runs::sections(many, &self.names, self.baseline),
                format!("{} runs side by side", many.len()),
            ),
        };
        let mut palette = self.names.clone();
        let mut colour = |name: &String| {
            palette.iter().position(|known| known == name).unwrap_or_else(|| {
                palette.push(name.clone());
                palette.len() - 1
            })
        };
        let (mut parts, mut css, mut end) = (Vec::new(), String::new(), String::new());
        if !self.retention.is_empty() {
            let names = numbered(self.retention.iter().map(|model| model.name.clone()).collect());
            let models = self.retention.iter().zip(&names);
            let models: Vec<Shown> =
                models.map(|(model, name)| Shown { name, colour: colour(name), measured: model }).collect();
            parts.push(("retention", "Subsets of experts", retention::section(&models)));
            css.push_str(retention::CSS);
            end.push_str(&retention::script());
        }
        if !self.analyses.is_empty() {
            let models: Vec<&Analysis> = self.analyses.iter().collect();
            let names = analysis::names(&models);
            let colours: Vec<usize> = names.iter().map(&mut colour).collect();
            let sections = analysis::sections(&models, &names, &colours);
            parts.push((
                "experts",
                "What the experts do",
                format!("<h2>What the experts do</h2>\n{sections}"),
            ));
            css.push_str(analysis::CSS);
            end.push_str(&analysis::script(&models));
        }
        if parts.is_empty() {
            return document(&title, "", &(results + &course), "");
        }
        parts.insert(0, ("results", "Results", results));
        parts.push(("course", "Course and settings of the runs", course));
        let links: String =
            parts.iter().map(|(id, name, _)| format!("<a href=\"#{id}\">{name}</a>")).collect();
        let parts: String =
            parts.iter().map(|(id, _, part)| format!("<div id=\"{id}\">\n{part}</div>\n")).collect();
        document(&title, &css, &format!("<nav>{links}</nav>\n{parts}"), &end)
    }
}

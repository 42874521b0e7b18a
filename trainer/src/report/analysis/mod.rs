//! The page of `analysis.json`: one model, or two side by side.
//!
//! What is drawn is embedded as JSON in `<script type="application/json" id="data">`, a list of one or two [`Analysis`]. The
//! script `explore.js` only filters, sorts and recolours what stands in the page already: without it, and on paper, all of it
//! can be read.

mod clusters;
mod coverage;
mod layers;
mod matrix;
mod numbers;

use super::html::escape;
use super::page::document;
use crate::analysis::Analysis;

/// The page of `analysis`, with `other` beside it where there is one. Every text in it is escaped; it loads nothing.
#[must_use]
pub fn render(analysis: &Analysis, other: Option<&Analysis>) -> String {
    let models: Vec<&Analysis> = std::iter::once(analysis).chain(other).collect();
    let names = names(&models);
    let mut body = sections(&models, &names, &[0, 1]);
    body.push_str(
        "<footer>Hover over a point, cell or word for its value. All numbers are in <code>analysis.json</code> beside this page, \
         and inside it.</footer>\n",
    );
    let title = format!("What the experts do: {}", names.join(" and "));
    document(&title, CSS, &body, &script(&models))
}

/// The style sheet of the sections.
pub(super) const CSS: &str = include_str!("explore.css");

/// All that is drawn of one model or two, called `names`; `colours` are those of their lines.
pub(super) fn sections(models: &[&Analysis], names: &[String], colours: &[usize]) -> String {
    [
        numbers::headline(models, names),
        layers::section(models, names, colours),
        coverage::section(models, names),
        matrix::similarity(models, names),
        matrix::redundancy(models, names),
        layers::training(models, names),
        clusters::section(models, names),
        numbers::section(models, names),
    ]
    .concat()
}

/// The models as JSON, and the script; they stand after the sections.
pub(super) fn script(models: &[&Analysis]) -> String {
    let data = serde_json::to_string(models).unwrap_or_else(|_| "[]".into());
    // Inside a script element only `<` could end it.
    let data = data.replace('<', "\\u003c");
    format!(
        "<script type=\"application/json\" id=\"data\">{data}</script>\n<script>{}</script>",
        include_str!("explore.js")
    )
}

/// Names of the models that differ even where both runs are called the same.
pub(super) fn names(models: &[&Analysis]) -> Vec<String> {
    match models {
        [a, b] if a.model == b.model => {
            let with_step =
                |model: &Analysis| model.step.map(|step| format!("{} (step {step})", model.model));
            match (with_step(a), with_step(b)) {
                (Some(a), Some(b)) if a != b => vec![a, b],
                _ => vec![format!("{} (this one)", a.model), format!("{} (the other)", b.model)],
            }
        }
        _ => models.iter().map(|model| model.model.clone()).collect(),
    }
}

/// One column a model, headed by its name where there are two.
fn columns(names: &[String], bodies: Vec<String>) -> String {
    if bodies.len() == 1 {
        return bodies.concat();
    }
    let each = names.iter().zip(bodies).map(|(name, body)| {
        format!("<div class=\"column\"><h4 class=\"model\">{}</h4>{body}</div>", escape(name))
    });
    format!("<div class=\"columns\">{}</div>", each.collect::<String>())
}

//! Retention curves: what is left of models in subsets of their experts, out of the files of `trainer retention`.
//!
//! Everything stands in the page; the script `curves.js` only hides what the reader does not ask for.

mod curves;
mod size;
mod tables;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;

use super::chart::colour_class;
use super::html::{escape, figure, fold};
use crate::evaluate::retention::Full;
use crate::subset::select::Method;
use curves::{Chart, Curve};
use size::Size;

/// What `trainer retention` measured of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRetention {
    /// The folder of its run, or of its checkpoint where that lies in none.
    pub name: String,
    found: Summary,
}

/// The summary that the command writes, as far as it is drawn.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Summary {
    checkpoint: PathBuf,
    full: Vec<Full>,
    means: Vec<Mean>,
    subsets: Vec<Subset>,
}

/// The mean of the domains.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Mean {
    method: Method,
    documents: usize,
    #[serde(flatten)]
    size: Size,
    mean: f64,
    worst: f64,
}

/// One domain.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Subset {
    method: Method,
    documents: usize,
    #[serde(flatten)]
    size: Size,
    chosen_for: String,
    domain: String,
    bits_per_byte: f64,
    rise: f64,
}

impl ModelRetention {
    /// Reads what `--out` writes, or what `--json` prints.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        // `--json` prints its progress before the summary, a line each.
        let last = text.trim_end().rsplit('\n').next().unwrap_or_default();
        let found: Summary = serde_json::from_str(text)
            .or_else(|whole| serde_json::from_str(last).map_err(|_| whole))
            .map_err(|error| error.to_string())?;
        if found.means.is_empty() {
            return Err("it has no subsets".into());
        }
        let sizes = found.means.iter().map(|mean| &mean.size);
        sizes.chain(found.subsets.iter().map(|subset| &subset.size)).try_for_each(Size::check)?;
        Ok(Self { name: name(&found.checkpoint), found })
    }
}

/// Of the run that a checkpoint lies in, as `trainer analyse` names models.
fn name(checkpoint: &Path) -> String {
    let run = checkpoint.parent().filter(|parent| parent.ends_with("checkpoints")).and_then(Path::parent);
    let named = run.unwrap_or(checkpoint).file_name();
    named.map_or("model".into(), |name| name.to_string_lossy().into_owned())
}

/// The style sheet of the section.
pub(super) const CSS: &str = include_str!("curves.css");

/// What stands after the section.
pub(super) fn script() -> String {
    format!("<script>{}</script>\n", include_str!("curves.js"))
}

/// A model with what it is called and the index of its colour.
pub(super) struct Shown<'a> {
    pub(super) name: &'a str,
    pub(super) colour: usize,
    pub(super) measured: &'a ModelRetention,
}

/// Curves, their numbers, and the same for every domain.
pub(super) fn section(models: &[Shown]) -> String {
    let means = Curve::all(models, None);
    let domains: BTreeSet<&str> = models
        .iter()
        .flat_map(|model| &model.measured.found.subsets)
        .filter(|subset| subset.domain == subset.chosen_for)
        .map(|subset| subset.domain.as_str())
        .collect();
    let by_domain: Vec<(&str, Vec<Curve>)> =
        domains.iter().map(|&domain| (domain, Curve::all(models, Some(domain)))).collect();
    let counts: BTreeSet<usize> = means.iter().filter_map(|curve| curve.documents).collect();
    let counts: Vec<usize> = counts.into_iter().collect();
    // Of one, five and a hundred documents: five.
    let first = counts.get(counts.len().saturating_sub(1) / 2).copied();

    let wide = Chart {
        title: "Rise of the loss by share of experts kept",
        first,
        size: (1040.0, 430.0),
        named: true,
    };
    let chart = wide.svg(&means, &means, &counts);
    let small = |(domain, curves): &(&str, Vec<Curve>)| {
        let title = format!("{domain}: rise of the loss by share of experts kept");
        let chart = Chart { title: &title, first, size: (340.0, 210.0), named: false };
        let svg = chart.svg(curves, by_domain.iter().flat_map(|(_, curves)| curves), &counts);
        format!("<div data-text=\"{0}\"><h4>{0}</h4>{svg}</div>", escape(domain))
    };
    let small: String = by_domain.iter().map(small).collect();
    let now = first.map_or(String::new(), |count| {
        format!(
            "<p class=\"readout\">Experts chosen by <span id=\"chosen-by\">{}</span>.</p>",
            documents(count)
        )
    });
    let caption = "How many more bits a byte of unseen text costs when only the experts run that were chosen for its domain, against \
                   the whole model; mean of the domains. To the left all experts run, to the right ever fewer of them. A model is \
                   modular where its line stays near 0%. A colour is a model, the strokes say how its experts were ranked; hover over \
                   a point for its value and the worst domain.";
    let mut out = String::from("<section><h2>What subsets of the experts retain</h2>\n");
    out.push_str(&controls(models, &means, &domains, &counts, first));
    out.push_str(&figure(
        "Rise of the loss by share of experts kept",
        caption,
        &format!("{}{now}{chart}", legend(models, &means)),
    ));
    let caption = "Rise of the bits per byte against the whole model, mean of the domains, and in small the worst domain's.";
    out.push_str(&figure("Numbers: rise of the loss", caption, &tables::means(models, &means)));
    let caption = "The same for every domain, all on one scale.";
    out.push_str(&figure("Domain by domain", caption, &format!("<div class=\"triple\">{small}</div>")));
    out.push_str(&fold("Numbers: every domain", &tables::domains(models, &by_domain)));
    out.push_str("</section>\n");
    out
}

fn documents(count: usize) -> String {
    if count == 1 { "1 document".into() } else { format!("{count} documents") }
}

/// The methods of the curves, in the order of the command line.
fn methods(curves: &[Curve]) -> impl Iterator<Item = Method> {
    let all = Method::value_variants().iter().copied();
    all.filter(|method| curves.iter().any(|curve| curve.method == *method))
}

/// What colours and strokes mean.
fn legend(models: &[Shown], curves: &[Curve]) -> String {
    let mut out = String::from("<p class=\"keys\">");
    for model in models {
        let colour = colour_class(model.colour);
        let _ =
            write!(out, "<span class=\"key-domain\"><i class=\"{colour}\"></i>{}</span>", escape(model.name));
    }
    out.push_str("</p><p class=\"keys\">");
    for method in methods(curves) {
        let help = method.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        let _ = write!(
            out,
            "<span class=\"key-domain\"><svg class=\"stroke\" viewBox=\"0 0 34 8\" width=\"34\" height=\"8\" aria-hidden=\"true\">\
             <path class=\"line by-{name}\" d=\"M1 4H33\"/></svg>{name}: {}</span>",
            escape(&help.unwrap_or_default()),
            name = method.name()
        );
    }
    out.push_str("</p>\n");
    out
}

/// Shown by the script, which makes them work.
fn controls(
    models: &[Shown],
    curves: &[Curve],
    domains: &BTreeSet<&str>,
    counts: &[usize],
    first: Option<usize>,
) -> String {
    let option = |value: &str, text: &str, chosen: bool| {
        let chosen = if chosen { " selected" } else { "" };
        format!("<option value=\"{}\"{chosen}>{}</option>", escape(value), escape(text))
    };
    let plain = |name: &str| option(name, name, false);
    let counts: String = counts
        .iter()
        .map(|&count| option(&count.to_string(), &documents(count), Some(count) == first))
        .collect();
    format!(
        "<form id=\"curves\" class=\"controls\" hidden>\
         <label>Chosen by <select name=\"documents\">{counts}</select></label>\
         <label>Ranked by <select name=\"method\">{}{}</select></label>\
         <label>Model <select name=\"model\">{}{}</select></label>\
         <label>Domain <select name=\"text\">{}{}</select></label><output id=\"shown\"></output></form>\n",
        option("", "every method", false),
        methods(curves).map(|method| plain(method.name())).collect::<String>(),
        option("", "all", false),
        models.iter().map(|model| plain(model.name)).collect::<String>(),
        option("", "all", false),
        domains.iter().map(|name| plain(name)).collect::<String>(),
    )
}

#[cfg(test)]
mod tests {
    use super::ModelRetention;

    fn summary(checkpoint: &str, kept: &str) -> String {
        format!(
            "{{\"event\":\"summary\",\"checkpoint\":\"{checkpoint}\",\"seconds\":1.5,\"full\":[],\"subsets\":[],\"means\":[\
             {{\"method\":\"easy-ep\",\"documents\":5,\"kept\":{kept},\"mean\":0.05,\"worst\":0.1}}]}}"
        )
    }

    #[test]
    fn a_model_is_called_after_its_run() {
        let name = |checkpoint| ModelRetention::parse(&summary(checkpoint, "[8,64]")).unwrap().name;
        assert_eq!(name("/runs/emo-0/checkpoints/step-00003000"), "emo-0");
        assert_eq!(name("downloads/olmoe"), "olmoe");
        assert_eq!(name("/"), "model");
    }

    #[test]
    fn what_is_printed_reads_as_what_is_written() {
        let written = summary("runs/a/checkpoints/step-1", "[8,64]");
        let printed = format!("{{\"event\":\"progress\",\"subsets\":1,\"of\":2}}\n{written}\n");
        assert_eq!(ModelRetention::parse(&printed), ModelRetention::parse(&written));
    }

    #[test]
    fn subsets_that_cannot_be_are_refused() {
        for kept in ["[0,64]", "[65,64]", "[0,0]", "[8,64],\"layers\":[8,65]"] {
            assert!(ModelRetention::parse(&summary("a", kept)).unwrap_err().contains("experts"), "{kept}");
        }
        assert!(ModelRetention::parse("{\"event\":\"summary\"}").unwrap_err().contains("checkpoint"));
        let none = "{\"checkpoint\":\"a\",\"full\":[],\"subsets\":[],\"means\":[]}";
        assert!(ModelRetention::parse(none).unwrap_err().contains("no subsets"));
    }
}

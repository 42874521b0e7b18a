//! Square tables as pictures: how alike domains are, and how alike experts.

use std::fmt::Write;

use super::columns;
use super::coverage::routing;
use crate::analysis::cka::Redundancy;
use crate::analysis::{Analysis, LayerAnalysis};
use crate::report::heatmap::SHARE_STEPS;
use crate::report::html::{escape, figure, px};

/// Experts drawn on a side at most.
const MOST_EXPERTS: usize = 160;
/// Colours from this one on are as far from the page's colour as its text.
const STRONG: usize = 6;

/// The step of the colour ramp for a value between 0 and 1.
fn step(value: f64) -> usize {
    (value.clamp(0.0, 1.0) * (SHARE_STEPS - 1) as f64).round() as usize
}

/// What the colours mean: from 0 to 1 of what is called `what`.
fn legend(what: &str) -> String {
    let mut out = String::from(
        "<svg class=\"legend\" viewBox=\"0 0 420 34\" width=\"420\" height=\"34\" role=\"img\" aria-label=\"Colour key\">\n",
    );
    for step in 0..SHARE_STEPS {
        let _ = write!(
            out,
            "<rect class=\"h{step}\" x=\"{}\" y=\"2\" width=\"20.3\" height=\"11\"/>",
            50 + 20 * step
        );
    }
    let _ = writeln!(
        out,
        "<text class=\"key mid\" x=\"60\" y=\"29\">0</text><text class=\"key mid\" x=\"160\" y=\"29\">{}</text>\
         <text class=\"key mid\" x=\"260\" y=\"29\">1</text></svg>",
        escape(what)
    );
    out
}

/// The pictures of every layer of every model; none where no layer has one.
fn per_layer(
    models: &[&Analysis],
    names: &[String],
    picture: impl Fn(usize, usize, &LayerAnalysis) -> Option<String>,
) -> Option<String> {
    let grid = if models.len() > 1 { "pair" } else { "triple" };
    let of_model = |(index, model): (usize, &&Analysis)| {
        let layers = model.layers.iter().enumerate();
        let pictures: String = layers.filter_map(|(ordinal, layer)| picture(index, ordinal, layer)).collect();
        (!pictures.is_empty()).then(|| format!("<div class=\"{grid}\">{pictures}</div>"))
    };
    let bodies: Vec<Option<String>> = models.iter().enumerate().map(of_model).collect();
    if bodies.iter().all(Option::is_none) {
        return None;
    }
    let said = |body: Option<String>| body.unwrap_or_else(|| "<p>not measured</p>".into());
    Some(columns(names, bodies.into_iter().map(said).collect()))
}

/// Cosine of every pair of domains.
pub(super) fn similarity(models: &[&Analysis], names: &[String]) -> String {
    let picture =
        |index: usize, _: usize, layer: &LayerAnalysis| Some(domains_svg(&models[index].domains(), layer));
    let Some(pictures) = per_layer(models, names, picture) else { return String::new() };
    let caption = "Every cell compares two kinds of text by the experts that they use: 1 means the same experts equally often, 0 no \
                   expert in common. Modular models are pale away from the diagonal; related kinds of text stay alike.";
    let body = format!("{}{pictures}", legend("cosine of experts' use"));
    format!(
        "<section><h2>Domains against each other</h2>\n{}</section>\n",
        figure("Similarity of domains", caption, &body)
    )
}

fn domains_svg(domains: &[String], layer: &LayerAnalysis) -> String {
    const SIZE: f64 = 340.0;
    let longest = domains.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let left = (12.0 + 7.3 * longest as f64).min(130.0);
    // The last name above leans out to the right.
    let cell = ((SIZE - left - 14.0) / domains.len().max(1) as f64).min(44.0);
    let top = 26.0 + 0.72 * left;
    let mut out = format!(
        "<svg class=\"chart heat\" viewBox=\"0 0 {SIZE} {}\" role=\"img\" aria-label=\"Layer {}: similarity of domains\">\n\
         <text class=\"name\" x=\"0\" y=\"13\">layer {}</text>\n",
        px(top + cell * domains.len() as f64 + 2.0),
        layer.layer,
        layer.layer
    );
    for (row, name) in domains.iter().enumerate() {
        let (at, middle) = (cell * row as f64, cell * (row as f64 + 0.5));
        let _ = writeln!(
            out,
            "<text class=\"tick y\" x=\"{0}\" y=\"{1}\" dy=\"0.32em\">{2}</text>\
             <text class=\"tick\" transform=\"translate({3} {4}) rotate(-45)\">{2}</text>",
            px(left - 6.0),
            px(top + middle),
            escape(name),
            px(left + middle),
            px(top - 6.0)
        );
        for (column, other) in domains.iter().enumerate() {
            let (cosine, l2) = (layer.similarity.cosine[row][column], layer.similarity.l2[row][column]);
            let x = left + cell * column as f64;
            let _ = write!(
                out,
                "<rect class=\"h{}\" x=\"{}\" y=\"{}\" width=\"{w}\" height=\"{w}\"><title>layer {}, {} and {}: cosine {cosine:.4}, \
                 distance {l2:.4}</title></rect>",
                step(cosine),
                px(x),
                px(top + at),
                layer.layer,
                escape(name),
                escape(other),
                w = px(cell - 1.5)
            );
            if cell >= 24.0 {
                let strong = if step(cosine) >= STRONG { " strong" } else { "" };
                let _ = write!(
                    out,
                    "<text class=\"cell{strong}\" x=\"{}\" y=\"{}\" dy=\"0.32em\">{}</text>",
                    px(x + (cell - 1.5) / 2.0),
                    px(top + middle - 0.75),
                    format!("{cosine:.2}").trim_start_matches('0')
                );
            }
        }
        out.push('\n');
    }
    out.push_str("</svg>\n");
    out
}

/// CKA of every pair of experts.
pub(super) fn redundancy(models: &[&Analysis], names: &[String]) -> String {
    let picture = |index: usize, ordinal: usize, layer: &LayerAnalysis| {
        let order = routing(models[index])[ordinal].reading_order();
        layer.redundancy.as_ref().map(|found| experts_svg(index, ordinal, layer.layer, found, &order))
    };
    let Some(pictures) = per_layer(models, names, picture) else { return String::new() };
    let tokens = models.iter().flat_map(|model| &model.layers).find_map(|layer| layer.redundancy.as_ref());
    let caption = format!(
        "Every cell compares what two experts compute of the same {} tokens, up to a rotation and a scale (linear CKA): 0 is \
         unrelated, 1 the same. Experts stand in the order of the heat maps above; those with a strong cell away from the diagonal \
         could stand in for each other.",
        tokens.map_or(0, |found| found.tokens)
    );
    let body = format!("{}{pictures}<p class=\"readout\" aria-live=\"polite\"></p>", legend("linear CKA"));
    format!(
        "<section><h2>Experts against each other</h2>\n{}</section>\n",
        figure("Redundancy of experts", &caption, &body)
    )
}

/// One path for each colour: a rectangle for each cell would make the page heavy.
fn experts_svg(model: usize, ordinal: usize, layer: usize, found: &Redundancy, order: &[usize]) -> String {
    const SIZE: f64 = 340.0;
    const TOP: f64 = 20.0;
    let order: Vec<usize> =
        order.iter().copied().step_by(order.len().div_ceil(MOST_EXPERTS).max(1)).collect();
    let cell = SIZE / order.len().max(1) as f64;
    let mut paths = vec![String::new(); SHARE_STEPS];
    for (row, &a) in order.iter().enumerate() {
        for (column, &b) in order.iter().enumerate() {
            let _ = write!(paths[step(found.cka[a][b])], "M{column} {row}h1v1h-1z");
        }
    }
    let listed: Vec<String> = order.iter().map(ToString::to_string).collect();
    let mut out = format!(
        "<svg class=\"chart experts\" viewBox=\"0 0 {SIZE} {}\" role=\"img\" aria-label=\"Layer {layer}: similarity of experts\" \
         data-model=\"{model}\" data-ordinal=\"{ordinal}\" data-order=\"{}\">\n<text class=\"name\" x=\"0\" y=\"13\">layer {layer}, \
         mean {:.3}</text>\n<g class=\"cells\" transform=\"translate(0 {TOP}) scale({cell:.4})\">",
        px(SIZE + TOP),
        listed.join(" "),
        found.mean
    );
    for (step, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let _ = write!(out, "<path class=\"h{step}\" d=\"{path}\"/>");
    }
    out.push_str("</g></svg>\n");
    out
}

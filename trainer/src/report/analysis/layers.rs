//! Charts over the layers, and over training.

use crate::analysis::{Analysis, LayerAnalysis};
use crate::report::chart::{LineChart, Look, Series};
use crate::report::html::figure;
use crate::report::scale::Scale;

/// A statistic over the layers, with what it is to be held against.
struct Statistic {
    heading: &'static str,
    unit: &'static str,
    caption: &'static str,
    value: fn(&LayerAnalysis) -> Option<f64>,
    against: Option<(&'static str, fn(&LayerAnalysis) -> f64)>,
}

const STATISTICS: [Statistic; 6] = [
    Statistic {
        heading: "Domain information",
        unit: "bits",
        caption: "How much knowing the kind of text tells about the experts that read it. The pale line is what the same documents \
                  give when their kinds are drawn by lot: only what lies above it counts.",
        value: |layer| Some(layer.information.bits),
        against: Some(("by lot", |layer| layer.information.by_lot)),
    },
    Statistic {
        heading: "Domain similarity",
        unit: "cosine",
        caption: "How alike two kinds of text use the experts, on average: 1 is the same, 0 nothing in common.",
        value: |layer| layer.similarity.mean_cosine(),
        against: None,
    },
    Statistic {
        heading: "Effective experts of a document",
        unit: "experts",
        caption: "How many experts a document spreads its tokens over. The pale line is how many there are.",
        value: |layer| Some(layer.effective_experts.mean),
        against: Some(("all", |layer| layer.experts as f64)),
    },
    Statistic {
        heading: "Jitter",
        unit: "share of experts",
        caption: "How many of a token's experts are not those of the token before. The pale line is the same with the words of each \
                  document in random order.",
        value: |layer| Some(layer.jitter.mean),
        against: Some(("shuffled", |layer| layer.jitter.shuffled)),
    },
    Statistic {
        heading: "Redundancy of experts",
        unit: "CKA, unbiased",
        caption: "Whether two experts compute the same of the same tokens, on average: 0 is unrelated, 1 the same.",
        value: |layer| layer.redundancy.as_ref().map(|found| found.mean_unbiased),
        against: None,
    },
    Statistic {
        heading: "Breadth of a domain",
        unit: "share of experts",
        caption: "How many of the experts take more than an even share of a kind of text, on average over the kinds.",
        value: |layer| {
            let above =
                layer.coverage.breadth.iter().map(|breadth| breadth.above_uniform as f64).sum::<f64>();
            let cells = layer.coverage.breadth.len() * layer.experts;
            (cells > 0).then(|| above / cells as f64)
        },
        against: None,
    },
];

/// One chart a statistic, a line a model.
pub(super) fn section(models: &[&Analysis], names: &[String], colours: &[usize]) -> String {
    let charts = STATISTICS.iter().filter_map(|statistic| {
        let series = series(statistic, models, names, colours);
        let measured = series.iter().any(|series| series.points.iter().any(|(_, y)| y.is_finite()));
        let chart = LineChart {
            title: format!("{} by layer", statistic.heading),
            x_label: "layer".into(),
            y_label: statistic.unit.into(),
            y_scale: Scale::Linear,
            from_zero: true,
            decimals: 4,
            size: (340.0, 230.0),
            series,
        };
        measured.then(|| figure(statistic.heading, statistic.caption, &chart.svg()))
    });
    format!(
        "<section><h2>Layer by layer</h2>\n<div class=\"triple\">{}</div></section>\n",
        charts.collect::<String>()
    )
}

fn series(statistic: &Statistic, models: &[&Analysis], names: &[String], colours: &[usize]) -> Vec<Series> {
    let mut series = Vec::new();
    for ((model, name), &colour) in models.iter().zip(names).zip(colours) {
        let points = |value: &dyn Fn(&LayerAnalysis) -> f64| {
            model.layers.iter().map(|layer| (layer.layer as f64, value(layer))).collect()
        };
        if let Some((what, value)) = &statistic.against {
            series.push(Series { name: (*what).into(), points: points(value), colour, look: Look::Faint });
        }
        let points = points(&|layer| (statistic.value)(layer).unwrap_or(f64::NAN));
        let name = if models.len() > 1 { short(name) } else { "measured".into() };
        series.push(Series { name, points, colour, look: Look::Dots });
    }
    series
}

/// A name that fits at the end of a line.
fn short(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= 14 { name.into() } else { letters[..13].iter().collect::<String>() + "…" }
}

/// Stability from checkpoint to checkpoint, and the balance of the experts over training.
pub(super) fn training(models: &[&Analysis], names: &[String]) -> String {
    let figures: Vec<String> = models
        .iter()
        .zip(names)
        .flat_map(|(model, name)| {
            let of = if models.len() > 1 { format!(": {name}") } else { String::new() };
            [
                saturation(model, &of),
                balance(model, &of, "Busiest expert", "times the mean", |load| load.max, "The most used expert of each layer, as a \
                    multiple of an even share, while the model learned. 1 is perfect balance."),
                balance(model, &of, "Evenness of the load", "entropy, 1 is even", |load| load.entropy, "How evenly the layer's \
                    tokens were spread over its experts while the model learned: 1 is perfectly even, 0 is one expert for everything."),
            ]
        })
        .flatten()
        .collect();
    if figures.is_empty() {
        return String::new();
    }
    format!("<section><h2>Over training</h2>\n<div class=\"triple\">{}</div></section>\n", figures.concat())
}

fn over_steps(heading: &str, unit: &str, series: Vec<Series>) -> String {
    LineChart {
        title: heading.into(),
        x_label: "step".into(),
        y_label: unit.into(),
        y_scale: Scale::Linear,
        from_zero: true,
        decimals: 4,
        size: (340.0, 230.0),
        series,
    }
    .svg()
}

fn layer_name(layer: usize) -> String {
    format!("layer {layer}")
}

fn saturation(model: &Analysis, of: &str) -> Option<String> {
    let last = model.step? as f64;
    if model.stability.is_empty() {
        return None;
    }
    let series = model.layers.iter().enumerate().map(|(ordinal, layer)| {
        let earlier = model.stability.iter().map(|row| (row.step as f64, row.with_last[ordinal]));
        let points = earlier.chain([(last, 1.0)]).collect();
        Series { name: layer_name(layer.layer), points, colour: ordinal, look: Look::Dots }
    });
    let chance =
        model.layers.iter().map(|layer| layer.top_k as f64 / layer.experts.max(1) as f64).fold(0.0, f64::max);
    let caption = format!(
        "How many of a token's experts at an earlier step are those of the last: 1 is all of them, chance gives {chance:.2}. A curve \
         that is high early means that routing settled early."
    );
    let heading = format!("Router saturation{of}");
    Some(figure(&heading, &caption, &over_steps(&heading, "share in common", series.collect())))
}

fn balance(
    model: &Analysis,
    of: &str,
    heading: &str,
    unit: &str,
    value: fn(&crate::metrics::LoadSummary) -> f64,
    caption: &str,
) -> Option<String> {
    let layers = model.load.first()?.layers.len();
    let series = (0..layers).map(|ordinal| {
        let points = model
            .load
            .iter()
            .filter_map(|point| Some((point.step as f64, value(point.layers.get(ordinal)?))));
        let layer = model.layers.get(ordinal).map_or(ordinal, |layer| layer.layer);
        Series { name: layer_name(layer), points: points.collect(), colour: ordinal, look: Look::Line }
    });
    let heading = format!("{heading}{of}");
    Some(figure(&heading, caption, &over_steps(&heading, unit, series.collect())))
}

//! Heat maps of domains by experts, layer by layer.

use super::columns;
use crate::analysis::Analysis;
use crate::report::heatmap::{self, Measure};
use crate::report::html::{figure, fold};
use crate::report::routing::LayerRouting;

/// The slots of every layer, as the heat maps read them.
pub(super) fn routing(model: &Analysis) -> Vec<LayerRouting> {
    let layers = model.layers.iter();
    layers.map(|layer| LayerRouting { layer: layer.layer, counts: layer.coverage.slots.clone() }).collect()
}

/// Which experts read which domain: against an even spread, and folded away as plain shares.
pub(super) fn section(models: &[&Analysis], names: &[String]) -> String {
    let routings: Vec<Vec<LayerRouting>> = models.iter().map(|model| routing(model)).collect();
    let all = || routings.iter().flatten();
    let most = all()
        .flat_map(|layer| {
            (0..layer.counts.len())
                .flat_map(move |domain| (0..layer.experts()).map(move |e| layer.share(domain, e)))
        })
        .fold(0.0, f64::max);
    // Two models stand in columns of their own; one model's layers do while their columns of experts stay wide enough.
    let narrow = models.len() == 1 && all().all(|layer| layer.experts() <= 64);
    let (grid, width) = match (models.len(), narrow) {
        (1, true) => ("pair", 510.0),
        (1, false) => ("stack", 1040.0),
        _ => ("stack", 510.0),
    };
    let maps = |measure: Measure| {
        let bodies = models.iter().zip(&routings).map(|(model, layers)| {
            let domains = model.domains();
            let maps = layers
                .iter()
                .map(|layer| heatmap::svg(&domains, layer, &layer.reading_order(), measure, width));
            format!("<div class=\"{grid}\">{}</div>", maps.collect::<String>())
        });
        format!("{}{}", heatmap::legend(measure), columns(names, bodies.collect()))
    };
    let ratio = figure(
        "Which experts read which domain, against an even spread",
        "Every column is one expert and every row one kind of text: warm cells are experts that a domain uses more than its even \
         share, cool cells less. Columns are sorted by the domain that favours them, so specialists show as blocks; if experts \
         cared only about single words, rows would look alike.",
        &maps(Measure::Ratio),
    );
    let share = figure(
        "Share of each domain's routed slots",
        "The darker (in dark mode: brighter) a cell, the larger the part of the domain's tokens that the expert reads; each row \
         adds up to 100%.",
        &maps(Measure::Share { most }),
    );
    format!(
        "<section><h2>Domains and experts</h2>\n{ratio}{}</section>\n",
        fold("The same as plain shares", &share)
    )
}

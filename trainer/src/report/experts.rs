//! The page's section on experts: who reads what, and how the work is spread.

use std::fmt::Write;

use super::heatmap::{self, Measure};
use super::html::{escape, figure, fold, px, table};
use super::routing::{LayerRouting, RoutingCounts};
use crate::metrics::LoadSummary;

/// Heat maps and load of every MoE layer.
pub(super) fn section(routing: &RoutingCounts) -> String {
    if routing.layers.is_empty() || routing.domains.is_empty() {
        return String::new();
    }
    let wide = routing.layers.iter().any(|layer| layer.experts() > 64);
    let (grid, width) = if wide { ("stack", 1040.0) } else { ("pair", 510.0) };
    let most = routing
        .layers
        .iter()
        .flat_map(|layer| {
            (0..layer.counts.len())
                .flat_map(move |domain| (0..layer.experts()).map(move |e| layer.share(domain, e)))
        })
        .fold(0.0, f64::max);
    let maps = |measure: Measure| {
        let layers: String = routing
            .layers
            .iter()
            .map(|layer| heatmap::svg(&routing.domains, layer, &layer.reading_order(), measure, width))
            .collect();
        format!("{}<div class=\"{grid}\">{layers}</div>", heatmap::legend(measure))
    };
    let mut out = String::from("<section><h2>Experts</h2>\n");
    out.push_str(&figure(
        "Which experts read which domain, against an even spread",
        "Every column is one expert and every row one kind of text: warm cells are experts that a domain uses more than its \
         even share, cool cells less. Columns are sorted by the domain that favours them, so specialists show as blocks; \
         if experts cared only about single words, rows would look alike. Measured on validation text, routed without pools.",
        &maps(Measure::Ratio),
    ));
    out.push_str(&fold(
        "The same as plain shares",
        &figure(
            "Share of each domain's routed slots",
            "The darker (in dark mode: brighter) a cell, the larger the part of the domain's tokens that the expert reads; each row adds up to 100%.",
            &maps(Measure::Share { most }),
        ),
    ));
    let loads: String = routing.layers.iter().map(|layer| load_svg(layer, width)).collect();
    out.push_str(&figure(
        "Expert load",
        "Each bar is the part of all validation tokens that one expert reads, most used first; the dashed line is a perfectly \
         even spread. Bars of equal height mean that no expert is idle and none is a bottleneck.",
        &format!("<div class=\"{grid}\">{loads}</div>"),
    ));
    out.push_str(&fold("Numbers: load", &load_table(routing)));
    out.push_str(&fold("Numbers: routed slots by domain and expert", &counts_tables(routing)));
    out.push_str("</section>\n");
    out
}

fn load_svg(layer: &LayerRouting, width: f64) -> String {
    let (left, top, bottom) = (40.0, 24.0, 112.0);
    let load = layer.load();
    let total = load.iter().sum::<u64>().max(1) as f64;
    let mut order: Vec<usize> = (0..load.len()).collect();
    order.sort_by(|&a, &b| load[b].cmp(&load[a]).then(a.cmp(&b)));
    let even = 1.0 / load.len().max(1) as f64;
    let most = order.first().map_or(even, |&expert| load[expert] as f64 / total).max(even) * 1.05;
    let column = (width - left) / load.len().max(1) as f64;
    let y = |share: f64| bottom - share / most * (bottom - top);
    let mut out = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {} 122\" role=\"img\" aria-label=\"Layer {}: load of experts\">\n\
         <text class=\"name\" x=\"{}\" y=\"13\">layer {}</text>\n",
        px(width),
        layer.layer,
        px(left),
        layer.layer
    );
    for (place, &expert) in order.iter().enumerate() {
        let share = load[expert] as f64 / total;
        let _ = writeln!(
            out,
            "<rect class=\"bar s0\" x=\"{:.2}\" y=\"{}\" width=\"{:.2}\" height=\"{}\"><title>layer {}, expert {expert}: {} \
             slots = {:.2}% ({:.2}x even)</title></rect>",
            left + column * place as f64,
            px(y(share)),
            column * 0.82,
            px((bottom - y(share)).max(0.4)),
            layer.layer,
            load[expert],
            100.0 * share,
            share / even
        );
    }
    let (line, zero) = (px(y(even)), px(bottom));
    let _ = writeln!(
        out,
        "<line class=\"even\" x1=\"{0}\" x2=\"{1}\" y1=\"{line}\" y2=\"{line}\"/>\
         <line class=\"axis\" x1=\"{0}\" x2=\"{1}\" y1=\"{zero}\" y2=\"{zero}\"/>\
         <text class=\"tick y\" x=\"{2}\" y=\"{line}\" dy=\"0.32em\">{3:.1}%</text>\
         <text class=\"tick y\" x=\"{2}\" y=\"{zero}\" dy=\"0.1em\">0</text></svg>",
        px(left),
        px(width),
        px(left - 6.0),
        100.0 * even
    );
    out
}

fn load_table(routing: &RoutingCounts) -> String {
    let head = ["layer", "routed experts", "most used (x even)", "least used (x even)", "entropy (1 = even)"];
    let rows: Vec<Vec<String>> = routing
        .layers
        .iter()
        .map(|layer| {
            let load = LoadSummary::of_counts(&layer.load());
            vec![
                layer.layer.to_string(),
                layer.experts().to_string(),
                format!("{:.2}", load.max),
                format!("{:.2}", load.min),
                format!("{:.4}", load.entropy),
            ]
        })
        .collect();
    table(&head.map(str::to_owned), &rows)
}

fn counts_tables(routing: &RoutingCounts) -> String {
    let mut out = String::new();
    for layer in &routing.layers {
        let head: Vec<String> =
            std::iter::once("expert".to_owned()).chain(routing.domains.iter().cloned()).collect();
        let rows: Vec<Vec<String>> = (0..layer.experts())
            .map(|expert| {
                std::iter::once(expert.to_string())
                    .chain(layer.counts.iter().map(|counts| counts[expert].to_string()))
                    .collect()
            })
            .collect();
        let _ = write!(out, "<h4>{}</h4>{}", escape(&format!("layer {}", layer.layer)), table(&head, &rows));
    }
    out
}

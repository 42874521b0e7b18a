//! The page's sections on the run itself: headline figures, loss, validation, the optimiser's course, configuration.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::RunReport;
use super::bars::{BarGroup, GroupedBars};
use super::chart::{LineChart, Look, Series, smooth};
use super::html::{escape, figure, fold, table};
use super::scale::Scale;
use crate::metrics::StepRecord;
use crate::progress::{duration, si};

/// Most rows of a table of steps: the file beside the report has them all.
const TABLE_ROWS: usize = 24;

/// The colour of what is only there to compare with.
pub(super) const GREY: usize = 7;

/// The figures that answer "how did it go?".
pub(super) fn headline(report: &RunReport) -> String {
    let Some(last) = report.steps.last() else {
        return "<p class=\"lead\">No step has been recorded yet.</p>\n".into();
    };
    let first = &report.steps[0];
    let mean_speed = {
        let seconds = last.elapsed_s;
        if seconds > 0.0 { last.tokens as f64 / seconds } else { last.tokens_per_s }
    };
    let mut tiles = vec![
        ("training loss", format!("{:.3}", last.loss), format!("nats a token, from {:.3}", first.loss)),
        ("steps", last.step.to_string(), format!("{} tokens read", si(last.tokens as f64).trim_end())),
        ("speed", format!("{}tok/s", si(mean_speed)), "mean of the whole run".to_owned()),
        ("time", duration(last.elapsed_s), "of training".to_owned()),
    ];
    if let Some(valid) = report.validations.last() {
        let bits = format!("{:.3}", valid.bits_per_byte());
        tiles.insert(1, ("validation", bits, "bits per byte, over all domains".to_owned()));
    }
    let mut out = String::from("<div class=\"tiles\">");
    for (name, value, note) in tiles {
        let _ = write!(
            out,
            "<div class=\"tile\"><span>{}</span><strong>{}</strong><small>{}</small></div>",
            escape(name),
            escape(&value),
            escape(&note)
        );
    }
    out.push_str("</div>\n");
    out
}

pub(super) fn over_steps(report: &RunReport, value: impl Fn(&StepRecord) -> f64) -> Vec<(f64, f64)> {
    report.steps.iter().map(|record| (record.step as f64, value(record))).collect()
}

/// Steps after which a smoothed line's weights halve: a hundredth of the run.
pub(super) fn half_life(report: &RunReport) -> f64 {
    (report.steps.len() as f64 / 100.0).clamp(1.0, 200.0)
}

/// Loss: every step and smoothed.
pub(super) fn loss(report: &RunReport) -> String {
    let raw = over_steps(report, |record| record.loss);
    let smoothed = smooth(&raw, half_life(report));
    let chart = LineChart {
        title: "Training loss by step".into(),
        x_label: "step".into(),
        y_label: "loss (nats a token)".into(),
        y_scale: Scale::Linear,
        from_zero: false,
        decimals: 4,
        size: (1040.0, 340.0),
        series: vec![
            Series { name: "each step".into(), points: raw, colour: 0, look: Look::Faint },
            Series { name: "smoothed".into(), points: smoothed, colour: 0, look: Look::Line },
        ],
    };
    let caption = "How surprised the model is by the next token, on average, while it learns: lower is better. The pale line is every \
                   step, the strong one a running mean. Tokens are routed as in training, inside document pools where those are \
                   on, so compare models by their validation instead.";
    let mut out = String::from("<section><h2>Learning</h2>\n");
    out.push_str(&figure("Training loss", caption, &chart.svg()));
    out.push_str(&fold("Numbers: steps", &steps_table(&report.steps)));
    out.push_str("</section>\n");
    out
}

fn steps_table(steps: &[StepRecord]) -> String {
    let parts: BTreeSet<&String> = steps.iter().flat_map(|record| record.aux.keys()).collect();
    let mut head: Vec<String> = ["step", "tokens", "loss", "cross-entropy"].map(str::to_owned).to_vec();
    head.extend(parts.iter().map(|&name| name.clone()));
    head.extend(["learning rate", "gradient norm", "tokens/s"].map(str::to_owned));
    let rows: Vec<Vec<String>> = sample(steps, TABLE_ROWS)
        .map(|record| {
            let mut row = vec![record.step.to_string(), record.tokens.to_string()];
            row.extend([record.loss, record.ce].map(|value| format!("{value:.4}")));
            row.extend(
                parts
                    .iter()
                    .map(|&name| record.aux.get(name).map_or("".into(), |value| format!("{value:.6}"))),
            );
            row.push(format!("{:.3e}", record.lr));
            row.push(format!("{:.4}", record.grad_norm));
            row.push(format!("{:.0}", record.tokens_per_s));
            row
        })
        .collect();
    table(&head, &rows)
}

/// At most `count` evenly spaced items, the first and the last among them.
fn sample<T>(items: &[T], count: usize) -> impl Iterator<Item = &T> {
    let kept = items.len().min(count);
    (0..kept).map(move |place| &items[if kept < 2 { 0 } else { place * (items.len() - 1) / (kept - 1) }])
}

/// Validation: the course of every domain, first against last, and all numbers.
pub(super) fn validation(report: &RunReport) -> String {
    let (Some(first), Some(last)) = (report.validations.first(), report.validations.last()) else {
        return String::new();
    };
    let names: BTreeSet<&String> =
        report.validations.iter().flat_map(|record| record.domains.keys()).collect();
    let bits = |record: &crate::metrics::ValidRecord, name: &String| {
        record.domains.get(name).map_or(f64::NAN, |domain| domain.bits_per_byte)
    };
    let series = names
        .iter()
        .enumerate()
        .map(|(colour, &name)| Series {
            name: name.clone(),
            points: report
                .validations
                .iter()
                .map(|record| (record.step as f64, bits(record, name)))
                .collect(),
            colour,
            look: Look::Dots,
        })
        .collect();
    let curve = LineChart {
        title: "Validation bits per byte by domain and step".into(),
        x_label: "step".into(),
        y_label: "bits per byte".into(),
        y_scale: Scale::Linear,
        from_zero: false,
        decimals: 4,
        size: (610.0, 340.0),
        series,
    };
    let mut measured = vec![(format!("step {}", first.step), GREY)];
    if first.step != last.step {
        measured.push((format!("step {}", last.step), 0));
    }
    let bars = GroupedBars {
        title: "Validation bits per byte: first and last measurement".into(),
        value_label: "bits per byte".into(),
        groups: names
            .iter()
            .map(|&name| {
                let mut values = vec![bits(first, name), bits(last, name)];
                values.truncate(measured.len());
                BarGroup { name: name.clone(), values }
            })
            .collect(),
        series: measured,
        decimals: 3,
        width: 410.0,
    };
    let mut out = String::from("<section><h2>Validation</h2>\n<div class=\"wide-narrow\">");
    out.push_str(&figure(
        "Bits per byte by domain",
        "Text the model never trained on: how many bits it would need to store each byte of it. Random bytes need 8; lower is better.",
        &curve.svg(),
    ));
    out.push_str(&figure(
        "First against last",
        "What training has gained on every kind of text, from the first to the last measurement.",
        &bars.svg(),
    ));
    out.push_str("</div>\n");
    let head = ["domain", "bits per byte", "nats per token", "tokens", "bytes"].map(str::to_owned);
    let rows: Vec<Vec<String>> = last
        .domains
        .iter()
        .map(|(name, domain)| {
            vec![
                name.clone(),
                format!("{:.4}", domain.bits_per_byte),
                format!("{:.4}", domain.nats_per_token),
                domain.tokens.to_string(),
                domain.bytes.to_string(),
            ]
        })
        .chain([vec![
            "all".into(),
            format!("{:.4}", last.bits_per_byte()),
            String::new(),
            String::new(),
            String::new(),
        ]])
        .collect();
    let caption =
        format!("At the end (step {}); \u{201c}all\u{201d} weighs every domain by its bytes.", last.step);
    out.push_str(&figure("Final validation", &caption, &table(&head, &rows)));
    let head: Vec<String> =
        std::iter::once("step".to_owned()).chain(names.iter().map(|&name| name.clone())).collect();
    let rows: Vec<Vec<String>> = sample(&report.validations, TABLE_ROWS)
        .map(|record| {
            std::iter::once(record.step.to_string())
                .chain(names.iter().map(|&name| format!("{:.4}", bits(record, name))))
                .collect()
        })
        .collect();
    out.push_str(&fold("Numbers: bits per byte by step", &table(&head, &rows)));
    out.push_str("</section>\n");
    out
}

/// Learning rate, gradient norm and speed, side by side.
pub(super) fn course(report: &RunReport) -> String {
    let small = |title: &str, y_label: &str, y_scale, decimals, series| LineChart {
        title: title.into(),
        x_label: "step".into(),
        y_label: y_label.into(),
        y_scale,
        from_zero: y_scale == Scale::Linear,
        decimals,
        size: (340.0, 220.0),
        series,
    };
    let line =
        |name: &str, colour, points| vec![Series { name: name.into(), points, colour, look: Look::Line }];
    let norm = smooth(&over_steps(report, |record| record.grad_norm), half_life(report) / 2.0);
    let speed = smooth(&over_steps(report, |record| record.tokens_per_s), half_life(report) / 2.0);
    let charts = [
        (
            small(
                "Learning rate by step",
                "learning rate",
                Scale::Linear,
                8,
                line("learning rate", 1, over_steps(report, |record| record.lr)),
            ),
            "Learning rate",
            "How large the steps are that the optimiser takes: a short warm-up, then a slow fade.",
        ),
        (
            small(
                "Gradient norm by step",
                "L2 norm, log scale",
                Scale::Log,
                4,
                line("gradient norm", 4, norm),
            ),
            "Gradient norm",
            "How strongly the model wants to change, before clipping, smoothed: lone spikes are harmless, lasting growth is not.",
        ),
        (
            small(
                "Tokens a second by step",
                "tokens a second",
                Scale::Linear,
                0,
                line("tokens a second", 2, speed),
            ),
            "Speed",
            "Tokens of text learned from each second, smoothed; dips are other work on the machine.",
        ),
    ];
    let figures: String =
        charts.iter().map(|(chart, heading, caption)| figure(heading, caption, &chart.svg())).collect();
    format!("<section><h2>Optimiser and speed</h2>\n<div class=\"triple\">{figures}</div></section>\n")
}

/// What the run was asked to do.
pub(super) fn configuration(report: &RunReport) -> String {
    if report.info.config.is_empty() {
        return String::new();
    }
    let mut out = String::from("<section><h2>Configuration</h2>\n<dl class=\"config\">");
    for (name, value) in report.info.config.iter().chain(&report.info.environment) {
        let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    out.push_str("</dl></section>\n");
    out
}

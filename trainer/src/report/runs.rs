//! Several runs on one page: learning, validation by domain against an n-gram model, speed, configuration, environment.

use std::collections::{BTreeMap, BTreeSet};

use super::RunReport;
use super::bars::{BarGroup, GroupedBars};
use super::chart::{LineChart, Look, Series, smooth};
use super::html::{figure, fold, table};
use super::scale::Scale;
use super::sections::{GREY, half_life, over_steps};
use crate::metrics::{StepRecord, ValidRecord};
use crate::progress::{duration, si};

/// What a table of counts reaches on the same text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Baseline {
    /// Tokens of context.
    pub order: usize,
    /// Bits per byte of each domain, see [`crate::evaluate::ngram`].
    pub bits_per_byte: BTreeMap<String, f64>,
}

/// The sections of several runs, called `names`: how good they are, and how they came to be.
pub(super) fn sections(runs: &[RunReport], names: &[String], baseline: Option<&Baseline>) -> [String; 2] {
    let results = [results(runs, names), learning(runs, names), validation(runs, names, baseline)];
    [results.concat(), course(runs, names) + &settings(runs, names)]
}

/// One line a run, the figures that answer "which is better?".
fn results(runs: &[RunReport], names: &[String]) -> String {
    let head = ["run", "steps", "tokens", "training loss", "validation (bits/byte)", "tokens/s", "time"];
    let row = |(run, name): (&RunReport, &String)| {
        let (step, valid) = (run.steps.last(), run.validations.last());
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".into());
        let speed = |step: &StepRecord| {
            if step.elapsed_s > 0.0 { step.tokens as f64 / step.elapsed_s } else { step.tokens_per_s }
        };
        vec![
            name.clone(),
            or_none(step.map(|step| step.step.to_string())),
            or_none(step.map(|step| si(step.tokens as f64).trim_end().to_owned())),
            or_none(step.map(|step| format!("{:.4}", step.loss))),
            or_none(valid.map(|valid| format!("{:.4}", valid.bits_per_byte()))),
            or_none(step.map(|step| si(speed(step)).trim_end().to_owned())),
            or_none(step.map(|step| duration(step.elapsed_s))),
        ]
    };
    let rows: Vec<Vec<String>> = runs.iter().zip(names).map(row).collect();
    let caption = "At the end of each run. Validation text was never trained on and is routed without document pools, so it compares \
                   models; training losses compare only runs that are trained alike.";
    format!("<section>{}</section>\n", figure("Results", caption, &table(&head.map(str::to_owned), &rows)))
}

/// A chart of one line a run over its steps.
fn chart(
    heading: &str,
    unit: &str,
    y_scale: Scale,
    from_zero: bool,
    size: (f64, f64),
    lines: Vec<(String, Vec<(f64, f64)>)>,
    look: Look,
) -> String {
    let line =
        |(colour, (name, points)): (usize, (String, Vec<(f64, f64)>))| Series { name, points, colour, look };
    LineChart {
        title: format!("{heading} by step"),
        x_label: "step".into(),
        y_label: unit.into(),
        y_scale,
        from_zero,
        decimals: 4,
        size,
        series: lines.into_iter().enumerate().map(line).collect(),
    }
    .svg()
}

fn each(
    runs: &[RunReport],
    names: &[String],
    points: impl Fn(&RunReport) -> Vec<(f64, f64)>,
) -> Vec<(String, Vec<(f64, f64)>)> {
    names.iter().cloned().zip(runs.iter().map(points)).collect()
}

fn learning(runs: &[RunReport], names: &[String]) -> String {
    let loss = each(runs, names, |run| smooth(&over_steps(run, |record| record.loss), half_life(run)));
    let valid = each(runs, names, |run| {
        let point = |record: &ValidRecord| (record.step as f64, record.bits_per_byte());
        run.validations.iter().map(point).collect()
    });
    let wide = (1040.0, 320.0);
    let loss = chart("Training loss", "loss (nats a token)", Scale::Linear, false, wide, loss, Look::Line);
    let valid = chart("Validation", "bits per byte", Scale::Linear, false, wide, valid, Look::Dots);
    format!(
        "<section><h2>Learning</h2>\n{}{}</section>\n",
        figure(
            "Validation",
            "Bits per byte of text that was never trained on, all domains together: lower is better.",
            &valid
        ),
        figure(
            "Training loss",
            "Nats a token while the model learns, smoothed, with all parts of the objective.",
            &loss
        )
    )
}

fn validation(runs: &[RunReport], names: &[String], baseline: Option<&Baseline>) -> String {
    let lasts: Vec<Option<&ValidRecord>> = runs.iter().map(|run| run.validations.last()).collect();
    let domains: BTreeSet<&String> =
        lasts.iter().flatten().flat_map(|record| record.domains.keys()).collect();
    if domains.is_empty() {
        return String::new();
    }
    let bits = |last: &Option<&ValidRecord>, name: &String| {
        last.and_then(|record| record.domains.get(name)).map_or(f64::NAN, |domain| domain.bits_per_byte)
    };
    let of_counts = |name: &String| baseline.and_then(|baseline| baseline.bits_per_byte.get(name)).copied();
    let mut series: Vec<(String, usize)> =
        names.iter().cloned().enumerate().map(|(index, name)| (name, index)).collect();
    let mut head: Vec<String> = std::iter::once("domain".to_owned()).chain(names.iter().cloned()).collect();
    if let Some(baseline) = baseline {
        let name = format!("{}-gram counts", baseline.order + 1);
        series.push((name.clone(), GREY));
        head.push(name);
    }
    let values = |name: &String| {
        let counts = baseline.map(|_| of_counts(name).unwrap_or(f64::NAN));
        lasts.iter().map(|last| bits(last, name)).chain(counts).collect::<Vec<f64>>()
    };
    let groups = domains.iter().map(|&name| BarGroup { name: name.clone(), values: values(name) }).collect();
    let bars = GroupedBars {
        title: "Validation bits per byte by domain".into(),
        value_label: "bits per byte".into(),
        series,
        groups,
        decimals: 3,
        width: 1040.0,
    };
    let number = |value: f64| if value.is_finite() { format!("{value:.4}") } else { "–".into() };
    let rows: Vec<Vec<String>> = domains
        .iter()
        .map(|&name| std::iter::once(name.clone()).chain(values(name).into_iter().map(number)).collect())
        .collect();
    let counts = baseline.map_or(String::new(), |baseline| {
        format!(
            " The grey bars are what counting gives: a model of {} tokens of context and smoothed counts (Witten and Bell), made of up \
             to a million tokens of the same kind of text. A model that has learned more than short sequences by heart lies below them.",
            baseline.order
        )
    });
    let caption = format!(
        "How many bits each byte of unseen text costs at the end of training: lower is better.{counts}"
    );
    format!(
        "<section><h2>Validation by domain</h2>\n{}{}</section>\n",
        figure("Bits per byte by domain", &caption, &bars.svg()),
        fold("Numbers: validation by domain", &table(&head, &rows))
    )
}

fn course(runs: &[RunReport], names: &[String]) -> String {
    let small = (510.0, 220.0);
    let lines = |value: fn(&StepRecord) -> f64, smoothed: bool| {
        each(runs, names, |run| {
            let raw = over_steps(run, value);
            if smoothed { smooth(&raw, half_life(run) / 2.0) } else { raw }
        })
    };
    let mut figures = vec![
        figure(
            "Learning rate",
            "How large the steps are that the optimiser takes.",
            &chart(
                "Learning rate",
                "learning rate",
                Scale::Linear,
                true,
                small,
                lines(|r| r.lr, false),
                Look::Line,
            ),
        ),
        figure(
            "Gradient norm",
            "How strongly the model wants to change, before clipping, smoothed.",
            &chart(
                "Gradient norm",
                "L2 norm, log scale",
                Scale::Log,
                false,
                small,
                lines(|r| r.grad_norm, true),
                Look::Line,
            ),
        ),
        figure(
            "Speed",
            "Tokens of text learned from each second, smoothed; dips are other work on the machine.",
            &chart(
                "Speed",
                "tokens a second",
                Scale::Linear,
                true,
                small,
                lines(|r| r.tokens_per_s, true),
                Look::Line,
            ),
        ),
    ];
    let busiest =
        |record: &StepRecord| record.expert_load.iter().map(|load| load.max).fold(f64::NAN, f64::max);
    if runs.iter().any(|run| run.steps.iter().any(|record| !record.expert_load.is_empty())) {
        figures.push(figure(
            "Busiest expert",
            "The most used expert of any layer, as a multiple of an even share, smoothed: 1 is perfect balance.",
            &chart("Busiest expert", "times the mean", Scale::Linear, true, small, lines(busiest, true), Look::Line),
        ));
    }
    format!(
        "<section><h2>Optimiser, speed and balance</h2>\n<div class=\"pair\">{}</div></section>\n",
        figures.concat()
    )
}

/// Where the runs differ, then everything.
fn settings(runs: &[RunReport], names: &[String]) -> String {
    let head: Vec<String> = std::iter::once("setting".to_owned()).chain(names.iter().cloned()).collect();
    let rows = |of: fn(&RunReport) -> &[(String, String)]| -> Vec<Vec<String>> {
        let mut keys: Vec<&String> = Vec::new();
        for (key, _) in runs.iter().flat_map(of) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let value = |run: &RunReport, key: &String| {
            of(run).iter().find(|(name, _)| name == key).map_or("–".into(), |(_, value)| value.clone())
        };
        keys.into_iter()
            .map(|key| std::iter::once(key.clone()).chain(runs.iter().map(|run| value(run, key))).collect())
            .collect()
    };
    let all = rows(|run| &run.info.config);
    let differs = |row: &&Vec<String>| row[1..].iter().any(|value| *value != row[1]);
    let different: Vec<Vec<String>> = all.iter().filter(differs).cloned().collect();
    let mut out = String::from("<section><h2>Configuration and environment</h2>\n");
    if !different.is_empty() {
        out.push_str(&figure(
            "Where the runs differ",
            "All other settings are the same.",
            &table(&head, &different),
        ));
    }
    let environment = rows(|run| &run.info.environment);
    if !environment.is_empty() {
        out.push_str(&figure("Environment", "What the runs were made with.", &table(&head, &environment)));
    }
    out.push_str(&fold("All settings", &table(&head, &all)));
    out.push_str("</section>\n");
    out
}

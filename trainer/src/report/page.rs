//! The page around the sections, and its style sheet.

use std::fmt::Write;

use super::colour::{Lch, ramp};
use super::heatmap::{RATIO_STEPS, SHARE_STEPS};
use super::html::escape;
use super::{RunReport, experts, sections};

/// Colours of series before they repeat.
pub(super) const COLOURS: usize = 8;

/// Hues of the series, chosen to stay apart for colour-blind readers together with the labels at the lines' ends.
const LIGHT: [Lch; COLOURS] = [
    Lch(0.55, 0.17, 262.0),
    Lch(0.66, 0.16, 55.0),
    Lch(0.60, 0.13, 150.0),
    Lch(0.53, 0.18, 305.0),
    Lch(0.57, 0.19, 15.0),
    Lch(0.65, 0.10, 200.0),
    Lch(0.55, 0.09, 90.0),
    Lch(0.68, 0.02, 260.0),
];

/// The page of `report`. Every text in it is escaped; it loads nothing and runs nothing.
#[must_use]
pub fn render(report: &RunReport) -> String {
    document(&report.info.title, "", &run_sections(report).concat(), "")
}

/// The sections of one run: how good it is, and how it came to be.
pub(super) fn run_sections(report: &RunReport) -> [String; 2] {
    let mut results = sections::headline(report);
    results.push_str(&sections::loss(report));
    results.push_str(&sections::validation(report));
    if let Some(routing) = report.routing.as_ref().filter(|routing| routing.check().is_ok()) {
        results.push_str(&experts::section(routing));
    }
    let mut course = sections::course(report);
    course.push_str(&sections::configuration(report));
    course.push_str(
        "<footer>Hover over a point, bar or cell for its value. Every step is in <code>metrics.jsonl</code>, routing counts in \
         <code>routing.json</code>, beside this page.</footer>\n",
    );
    [results, course]
}

/// A whole page: `css` follows the common style sheet, `end` stands after the text.
pub(super) fn document(title: &str, css: &str, body: &str, end: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{}{css}</style></head>\n\
         <body><main>\n<header><h1>{title}</h1></header>\n{body}</main>{end}</body></html>\n",
        style()
    )
}

fn style() -> String {
    let mut css = String::from(":root{color-scheme:light dark;");
    variables(&mut css, false);
    css.push_str("}\n@media screen and (prefers-color-scheme:dark){:root{");
    variables(&mut css, true);
    css.push_str("}}\n");
    for colour in 0..COLOURS {
        let _ = writeln!(css, ".s{colour}{{--c:var(--s{colour})}}");
    }
    for (class, steps) in [('h', SHARE_STEPS), ('d', RATIO_STEPS)] {
        for step in 0..steps {
            let _ = write!(css, ".{class}{step}{{fill:var(--{class}{step})}}");
        }
        css.push('\n');
    }
    css.push_str(include_str!("page.css"));
    css
}

/// Colours of everything, for a light or a dark page.
fn variables(css: &mut String, dark: bool) {
    let plain: [(&str, &str, &str); 6] = [
        ("page", "#fbfbfa", "#15171b"),
        ("card", "#ffffff", "#1c1f24"),
        ("text", "#1d2126", "#e5e7ea"),
        ("quiet", "#626a75", "#9aa3ae"),
        ("rule", "#e3e5e8", "#30353d"),
        ("axis", "#9aa1ab", "#626b77"),
    ];
    for (name, light, night) in plain {
        let _ = write!(css, "--{name}:{};", if dark { night } else { light });
    }
    for (index, colour) in LIGHT.iter().enumerate() {
        // The same hue, lighter and a little calmer on a dark page.
        let colour =
            if dark { Lch(colour.0 + 0.9 * (0.75 - colour.0), colour.1 * 0.75, colour.2) } else { *colour };
        let _ = write!(css, "--s{index}:{};", ramp(&[colour], 1)[0]);
    }
    let (share, ratio) = if dark {
        (
            vec![Lch(0.25, 0.012, 260.0), Lch(0.55, 0.14, 262.0), Lch(0.93, 0.07, 220.0)],
            vec![
                Lch(0.78, 0.11, 235.0),
                Lch(0.52, 0.12, 250.0),
                Lch(0.27, 0.012, 260.0),
                Lch(0.60, 0.15, 40.0),
                Lch(0.87, 0.12, 75.0),
            ],
        )
    } else {
        (
            vec![Lch(0.965, 0.008, 250.0), Lch(0.68, 0.13, 250.0), Lch(0.33, 0.12, 265.0)],
            vec![
                Lch(0.42, 0.12, 258.0),
                Lch(0.72, 0.10, 245.0),
                Lch(0.955, 0.004, 90.0),
                Lch(0.74, 0.14, 55.0),
                Lch(0.46, 0.15, 30.0),
            ],
        )
    };
    for (class, stops, steps) in [('h', share, SHARE_STEPS), ('d', ratio, RATIO_STEPS)] {
        for (step, colour) in ramp(&stops, steps).into_iter().enumerate() {
            let _ = write!(css, "--{class}{step}:{colour};");
        }
    }
}

//! The report: what it shows equals what was measured, and nothing in it can break the page.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use trainer::metrics::{DomainValid, MetricsWriter, Record, StepRecord, ValidRecord};
use trainer::report::{
    self, BarGroup, GroupedBars, LayerRouting, LineChart, Look, ReportError, RoutingCounts, RunInfo,
    RunReport, Scale, Series, escape, render,
};

const DOMAINS: [&str; 6] = ["c", "licences", "manifests", "markdown", "rust", "tests"];

/// A made-up run that looks like a real one; all of it from formulas, so that every test sees the same.
fn synthetic(steps: u64, layers: usize, experts: usize) -> RunReport {
    let noise = |seed: u64| {
        let mixed = trainer::data::hash::stable_hash(&[&seed.to_le_bytes()]);
        mixed as f64 / u64::MAX as f64 - 0.5
    };
    let progress = |step: u64| step as f64 / steps as f64;
    let course = |step: u64| 1.5 + 4.2 * (-7.0 * progress(step)).exp() + 0.4 * (-1.5 * progress(step)).exp();
    let records = (1..=steps)
        .map(|step| {
            let ce = course(step) + 0.22 * noise(step);
            let aux = BTreeMap::from([("load_balance".to_owned(), 0.101), ("router_z".to_owned(), 0.0042)]);
            let warm = (step as f64 / 40.0).min(1.0);
            StepRecord {
                step,
                tokens: step * 2048,
                loss: ce + 0.1052,
                ce,
                aux,
                lr: 3e-3 * warm * (0.55 + 0.45 * (std::f64::consts::PI * progress(step)).cos()),
                grad_norm: (1.2 * noise(step + 1_000_000)).exp()
                    * (0.4 + 3.0 * (-9.0 * progress(step)).exp()),
                tokens_per_s: 3900.0 + 260.0 * noise(step + 2_000_000)
                    - if step % 97 < 6 { 1500.0 } else { 0.0 },
                flops_per_s: 9.1e10,
                peak_share: Some(0.386),
                elapsed_s: step as f64 * 0.53,
                ..StepRecord::default()
            }
        })
        .collect();
    let validations = (0..=8)
        .map(|round| {
            let step = round * steps / 8;
            let domains = DOMAINS.iter().enumerate().map(|(index, &name)| {
                let hard = [1.08, 0.62, 0.8, 1.25, 1.0, 0.97][index];
                let nats = 0.92 * hard * course(step.max(1)) * 0.8 * 50_000.0;
                (name.to_owned(), DomainValid::of_sum(nats, 50_000, 50_000))
            });
            ValidRecord { step, tokens: step * 2048, domains: domains.collect() }
        })
        .collect();
    let layers = (0..layers).map(|layer| LayerRouting {
        layer,
        counts: (0..DOMAINS.len())
            .map(|domain| {
                (0..experts)
                    .map(|expert| {
                        let own = (expert * 7 + layer) % DOMAINS.len() == domain;
                        let pull = if own { 2.2 * layer as f64 / layers as f64 } else { 0.0 };
                        let seed = (layer * 10_000 + domain * 500 + expert) as u64;
                        (1000.0 * (pull + 1.3 * noise(seed) + 0.8 * noise(expert as u64)).exp()) as u64
                    })
                    .collect()
            })
            .collect(),
    });
    let config = [
        ("preset", "quickstart"),
        ("parameters", "6.1 M, 2.3 M active"),
        ("layers", "4"),
        ("width", "192"),
        ("experts", "32 routed + 1 shared, top-4"),
        ("document pool", "uniform on 4..32"),
        ("sequence", "256"),
        ("batch", "8 rows"),
        ("optimiser", "AdamW 0.9 / 0.95, decay 0.1"),
        ("learning rate", "3e-3, 40 warm-up steps, cosine to 10%"),
        ("seed", "0"),
        ("threads", "2"),
    ];
    RunReport {
        info: RunInfo {
            title: "EMO quickstart".into(),
            config: config.map(|(name, value)| (name.into(), value.into())).to_vec(),
            environment: vec![("processor cores".into(), "2".into())],
        },
        steps: records,
        validations,
        routing: Some(RoutingCounts {
            domains: DOMAINS.map(str::to_owned).to_vec(),
            layers: layers.collect(),
        }),
    }
}

fn save(folder: &Path, run: &RunReport) {
    let metrics = folder.join("metrics.jsonl");
    let mut writer = MetricsWriter::create(&metrics).unwrap();
    run.steps.iter().for_each(|record| writer.append(&Record::Step(record.clone())).unwrap());
    run.validations.iter().for_each(|record| writer.append(&Record::Valid(record.clone())).unwrap());
    fs::write(folder.join("run.json"), serde_json::to_vec(&run.info).unwrap()).unwrap();
    fs::write(folder.join("routing.json"), serde_json::to_vec(&run.routing).unwrap()).unwrap();
}

/// Every text between `open` and the next `close`.
fn between<'t>(text: &'t str, open: &str, close: &str) -> Vec<&'t str> {
    text.split(open).skip(1).filter_map(|rest| rest.split(close).next()).collect()
}

#[test]
fn a_folder_becomes_the_page_of_its_own_numbers() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let run = synthetic(600, 4, 32);
    save(&folder, &run);
    assert_eq!(RunReport::gather(&folder).unwrap(), run);
    let path = report::write(&folder).unwrap();
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(page, render(&run));
    assert!(!folder.join("report.html.partial").exists());
}

#[test]
fn the_page_needs_nothing_from_outside_and_runs_nothing() {
    let page = render(&synthetic(50, 2, 8));
    for forbidden in ["<script", "http:", "https:", "src=", "href=", "@import", "url(", "onload"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("prefers-color-scheme:dark"));
    // Tags that must be closed are.
    for tag in ["svg", "figure", "section", "table", "details", "div", "title", "text", "figcaption"] {
        let opened = between(&page, &format!("<{tag}"), ">").len();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "only numbers are drawn");
}

#[test]
fn numbers_in_titles_and_tables_are_the_measured_ones() {
    let run = synthetic(600, 3, 16);
    let page = render(&run);
    let titles = between(&page, "<title>", "</title>");
    for record in &run.validations {
        for (name, domain) in &record.domains {
            let title = format!("{name}, step {}: {:.4}", record.step, domain.bits_per_byte);
            assert!(titles.contains(&title.as_str()), "{title}");
        }
    }
    let last = run.validations.last().unwrap();
    for (name, domain) in &last.domains {
        let row = format!(
            "<th scope=\"row\">{name}</th><td>{:.4}</td><td>{:.4}</td><td>{}</td><td>{}</td>",
            domain.bits_per_byte, domain.nats_per_token, domain.tokens, domain.bytes
        );
        assert!(page.contains(&row), "{row}");
    }
    let step = run.steps.last().unwrap();
    assert!(page.contains(&format!(
        "<th scope=\"row\">{}</th><td>{}</td><td>{:.4}</td>",
        step.step, step.tokens, step.loss
    )));

    // Each cell of the two heat maps carries the exact count; together they carry all of them.
    let routing = run.routing.as_ref().unwrap();
    for layer in &routing.layers {
        for (domain, name) in routing.domains.iter().enumerate() {
            let total: u64 = layer.counts[domain].iter().sum();
            for (expert, count) in layer.counts[domain].iter().enumerate() {
                let percent = 100.0 * *count as f64 / total as f64;
                let title = format!(
                    "layer {}, {name}, expert {expert}: {count} of {total} slots = {percent:.2}% ({:.2}x even)",
                    layer.layer,
                    percent / 100.0 * 16.0
                );
                assert_eq!(titles.iter().filter(|&&found| found == title).count(), 2, "{title}");
            }
        }
    }
}

#[test]
fn hostile_text_is_escaped_everywhere() {
    let nasty = "<script>alert('\"x\" & y')</script>";
    let mut run = synthetic(20, 1, 4);
    run.info.title = nasty.into();
    run.info.config = vec![(nasty.into(), nasty.into())];
    run.steps[3].aux.insert(nasty.into(), 1.0);
    for record in &mut run.validations {
        record.domains.insert(nasty.into(), DomainValid::of_sum(1.0, 1, 1));
    }
    let routing = run.routing.as_mut().unwrap();
    routing.domains[0] = nasty.into();
    let page = render(&run);
    assert!(!page.contains("<script") && !page.contains("alert('"));
    assert!(page.matches(&escape(nasty)).count() > 10);
    assert_eq!(escape(nasty), "&lt;script&gt;alert(&#39;&quot;x&quot; &amp; y&#39;)&lt;/script&gt;");
}

#[test]
fn runs_that_have_hardly_begun_make_a_page_too() {
    assert!(render(&RunReport::default()).contains("No step has been recorded yet"));
    let mut run = synthetic(1, 1, 1);
    run.validations.truncate(1);
    run.steps[0].loss = f64::NAN;
    run.steps[0].grad_norm = 0.0;
    let page = render(&run);
    assert!(page.contains("nothing measured yet"));
    let ragged = RoutingCounts {
        domains: vec!["a".into(), "b".into()],
        layers: vec![LayerRouting { layer: 7, counts: vec![vec![1], vec![1, 2]] }],
    };
    assert!(ragged.check().unwrap_err().contains("layer 7"));
    run.routing = Some(ragged);
    assert!(!render(&run).contains("Expert load"));
}

#[test]
fn broken_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = report::write(folder.path()).unwrap_err();
    assert!(missing.to_string().contains("metrics.jsonl"), "{missing}");
    save(folder.path(), &synthetic(5, 1, 4));
    fs::write(folder.path().join("routing.json"), "{").unwrap();
    let broken = report::write(folder.path()).unwrap_err();
    assert!(
        matches!(broken, ReportError::Invalid { .. }) && broken.to_string().contains("routing.json"),
        "{broken}"
    );
}

#[test]
fn experts_of_one_domain_stand_together() {
    let layer = LayerRouting { layer: 0, counts: vec![vec![1, 50, 2, 47], vec![60, 3, 30, 7]] };
    assert_eq!(layer.reading_order(), [1, 3, 0, 2]);
    assert_eq!(layer.load(), [61, 53, 32, 54]);
    assert_eq!(layer.share(1, 0), 0.6);
    assert_eq!(layer.ratio(1, 0), 2.4);
    assert_eq!((layer.share(9, 0), layer.share(0, 9)), (0.0, 0.0));
}

#[test]
fn a_log_axis_leaves_out_what_it_cannot_show() {
    let chart = LineChart {
        title: "t".into(),
        x_label: "step".into(),
        y_label: "y".into(),
        y_scale: Scale::Log,
        from_zero: false,
        decimals: 2,
        size: (300.0, 200.0),
        series: vec![Series {
            name: "norm".into(),
            points: vec![(0.0, 0.1), (1.0, 1.0), (2.0, 0.0), (3.0, 10.0)],
            colour: 0,
            look: Look::Dots,
        }],
    };
    let svg = chart.svg();
    assert_eq!(svg.matches("<circle").count(), 3);
    let path = between(&svg, " d=\"", "\"")[0];
    assert_eq!(path.matches('M').count(), 2, "the line is interrupted: {path}");
    let heights: Vec<f64> = between(&svg, " cy=\"", "\"").iter().map(|y| y.parse().unwrap()).collect();
    assert!(
        ((heights[0] - heights[1]) - (heights[1] - heights[2])).abs() < 0.2,
        "equal ratios, equal distances"
    );
}

#[test]
fn bars_are_as_long_as_their_values() {
    let bars = GroupedBars {
        title: "t".into(),
        value_label: "v".into(),
        series: vec![("first".into(), 7), ("last".into(), 0)],
        groups: vec![
            BarGroup { name: "g".into(), values: vec![4.0, 1.0] },
            BarGroup { name: "h".into(), values: vec![f64::NAN, 2.0] },
        ],
        decimals: 3,
        width: 400.0,
    };
    let svg = bars.svg();
    let drawn: Vec<&str> =
        between(&svg, "<rect ", "</rect>").into_iter().filter(|bar| bar.contains("<title>")).collect();
    let widths: Vec<f64> =
        drawn.iter().map(|bar| between(bar, "width=\"", "\"")[0].parse().unwrap()).collect();
    assert_eq!(widths.len(), 3);
    assert!((widths[0] / widths[1] - 4.0).abs() < 0.01 && (widths[2] / widths[1] - 2.0).abs() < 0.01);
    assert!(svg.contains("<title>g, first: 4.000</title>"));
}

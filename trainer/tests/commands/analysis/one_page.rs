//! Runs, retention curves and analyses on one page, which shows what the JSON files say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{analyse, searched, shows_the_experts, shows_the_numbers};
use crate::browser;
use crate::support::{Place, fail, succeed, summary};
use serde_json::Value;
use trainer::analysis::Analysis;

const RUNS: [&str; 2] = ["emo", "standard"];

/// Two runs, `trainer retention` and `trainer analyse` of each, and one page of everything.
fn everything(place: &Place) -> (Vec<Value>, Vec<Analysis>, PathBuf) {
    succeed(&mut place.pretrain("emo", &["--steps", "12"]));
    succeed(&mut place.pretrain("standard", &["--steps", "12", "--set", "router.pool='none'"]));
    let retention = RUNS.map(|run| {
        let mut command = place.trainer();
        command.args(["retention", "--json", "--keep", "50%", "--keep", "3", "--documents", "1,4"]);
        command.args(["--method", "mass,random", "--checkpoint"]).arg(place.path(run));
        let out = place.path(&format!("{run}.json"));
        summary(&succeed(command.arg("--out").arg(&out)));
        serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap()
    });
    let analyses = RUNS.map(|run| analyse(place, run, &format!("{run}-analysis"), &[]));
    let out = place.path("everything.html");
    let mut report = place.trainer();
    report.args(["report", "emo", "standard", "--json", "--retention", "emo.json", "standard.json"]);
    report.args(["--analysis", "emo-analysis/analysis.json", "standard-analysis/analysis.json", "--out"]);
    let said = summary(&succeed(report.arg(&out)));
    assert_eq!((&said["runs"], &said["retention"], &said["analyses"]), (&2.into(), &2.into(), &2.into()));
    (retention.to_vec(), analyses.to_vec(), out)
}

/// A curve (model, method, documents) with its (experts kept, mean rise, worst rise), worked out anew from the subsets.
type Curves = BTreeMap<(String, String, String), Vec<(u64, f64, f64)>>;

fn curves(retention: &[Value]) -> Curves {
    let mut curves = Curves::new();
    for (run, found) in RUNS.iter().zip(retention) {
        let mut rises: BTreeMap<(String, String, u64), Vec<f64>> = BTreeMap::new();
        for subset in found["subsets"].as_array().unwrap() {
            let method = subset["method"].as_str().unwrap().to_owned();
            let documents = if method == "random" { String::new() } else { subset["documents"].to_string() };
            let kept = subset["kept"][0].as_u64().unwrap();
            let rise = 100.0 * subset["rise"].as_f64().unwrap();
            rises.entry((method, documents, kept)).or_default().push(rise);
        }
        for ((method, documents, kept), rises) in rises {
            assert_eq!(rises.len(), 2, "domains");
            let (mean, worst) = (rises.iter().sum::<f64>() / 2.0, rises[0].max(rises[1]));
            curves.entry(((*run).into(), method, documents)).or_default().push((kept, mean, worst));
        }
    }
    curves
}

/// How a number of documents stands in a title.
fn chosen(documents: &str) -> String {
    match documents {
        "" => String::new(),
        "1" => ", 1 document".into(),
        more => format!(", {more} documents"),
    }
}

fn percent(kept: u64) -> &'static str {
    if kept == 4 { "50%" } else { "37.5%" }
}

/// Every point of every curve has its value, in the chart of the means, those of the domains, and the tables.
fn shows_the_curves(page: &str, retention: &[Value]) {
    let titles = browser::between(page, "<title>", "</title>");
    let has = |title: &str| assert!(titles.contains(&title), "{title}");
    let table = browser::between(page, "<table class=\"means\">", "</table>")[0];
    for ((run, method, documents), points) in &curves(retention) {
        let chosen = chosen(documents);
        let row = table
            .split("<tr ")
            .find(|row| {
                let says = |name: &str, value: &str| row.contains(&format!("data-{name}=\"{value}\""));
                let same = documents.is_empty() || says("documents", documents);
                says("model", run) && says("method", method) && same
            })
            .unwrap();
        for (kept, mean, worst) in points {
            let share = percent(*kept);
            has(&format!(
                "{run}, {method}{chosen}, {kept} of 8 experts ({share}): {mean:+.2}%, worst domain {worst:+.2}%"
            ));
            let cell = format!("<td>{mean:+.2}%<small>{worst:+.2}%</small></td>");
            assert!(row.contains(&cell), "{cell} in {row}");
        }
    }
    for (run, found) in RUNS.iter().zip(retention) {
        for subset in found["subsets"].as_array().unwrap() {
            let (method, kept) = (subset["method"].as_str().unwrap(), subset["kept"][0].as_u64().unwrap());
            let documents =
                if method == "random" { String::new() } else { chosen(&subset["documents"].to_string()) };
            let (rise, bits) =
                (100.0 * subset["rise"].as_f64().unwrap(), subset["bits_per_byte"].as_f64().unwrap());
            has(&format!(
                "{}, {run}, {method}{documents}, {kept} of 8 experts ({}): {rise:+.2}%, {bits:.4} bits per byte",
                subset["domain"].as_str().unwrap(),
                percent(kept)
            ));
        }
    }
}

/// `(model, method, documents)` of the lines that are drawn, in all charts together and sorted.
fn drawn(page: &str) -> Vec<(String, String, String)> {
    let value = |tag: &str, name: &str| {
        browser::between(tag, &format!("data-{name}=\""), "\"")
            .first()
            .map_or(String::new(), |v| (*v).to_owned())
    };
    let tags = browser::between(page, "<g class=\"curve ", ">");
    let shown = tags.into_iter().filter(|tag| !tag.contains("hidden"));
    let mut shown: Vec<_> =
        shown.map(|tag| (value(tag, "model"), value(tag, "method"), value(tag, "documents"))).collect();
    shown.sort();
    shown.dedup();
    shown
}

#[test]
fn one_page_holds_runs_retention_and_analyses_and_loads_nothing() {
    let place = Place::new();
    let (retention, analyses, path) = everything(&place);
    let page = std::fs::read_to_string(path).unwrap();
    let plain = page.replace("&quot;", "\"").replace("&#39;", "'");
    shows_the_curves(&page, &retention);
    shows_the_numbers(&plain, &[&analyses[0], &analyses[1]]);
    for run in RUNS {
        assert!(page.contains(&format!("<th scope=\"row\">{run}</th><td>12</td>")), "{run} in the results");
    }
    // Of one and four documents, one is shown at first; without scripts the table has the rest.
    let shown: Vec<_> = drawn(&page).into_iter().map(|(_, _, documents)| documents).collect();
    assert_eq!(shown, ["1", "", "1", ""]);
    for forbidden in ["http:", "https:", " src=", "@import", "url(", "fetch(", "XMLHttp", "import("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    // Links lead to parts of the page.
    for target in browser::between(&page, " href=\"", "\"") {
        assert!(page.contains(&format!("id=\"{}\"", target.strip_prefix('#').unwrap())), "{target}");
    }
    for form in ["curves", "controls"] {
        let tag = format!("<form id=\"{form}\"");
        assert!(browser::between(&page, &tag, ">")[0].contains("hidden"), "of no use without scripts");
    }
    // One run's own page holds the same beside what it has alone.
    succeed(place.trainer().args(["report", "emo", "--retention", "emo.json", "standard.json"]));
    let own = std::fs::read_to_string(place.path("emo/report.html")).unwrap();
    shows_the_curves(&own, &retention);
    assert!(own.contains("Expert load") && !own.contains("id=\"experts\""));
}

#[test]
fn a_browser_draws_and_filters_the_one_page() {
    let Some(chromium) = browser::find("a_browser_draws_and_filters_the_one_page") else { return };
    let place = Place::new();
    let (retention, analyses, path) = everything(&place);
    let all = curves(&retention).len();
    assert_eq!(all, 6, "a draw, and one and four documents, of two models");
    let dom = |fragment: &str| browser::dom(&chromium, &path, fragment);
    let curve = |run: &str, method: &str, documents: &str| (run.into(), method.into(), documents.into());

    let page = dom("");
    shows_the_curves(&page, &retention);
    shows_the_numbers(&page, &[&analyses[0], &analyses[1]]);
    assert!(page.contains(&format!(">4 of {all} curves")), "the script has run");
    let controls = browser::between(&page, "<form id=\"curves\"", ">");
    assert!(!controls[0].contains("hidden"));

    // Another number of documents, one way to rank; a draw looks at no documents.
    let page = dom("#documents=4");
    let random = |run| curve(run, "random", "");
    let expected =
        [curve("emo", "mass", "4"), random("emo"), curve("standard", "mass", "4"), random("standard")];
    assert_eq!(drawn(&page), expected);
    assert!(page.contains("Experts chosen by <span id=\"chosen-by\">4 documents</span>"));
    let page = dom("#documents=4&method=mass&model=standard&text=code");
    assert_eq!(drawn(&page), [curve("standard", "mass", "4")]);
    assert!(page.contains(&format!(">1 of {all} curves")));
    let domains = browser::between(&page, "<div data-text=\"", ">");
    let hidden: Vec<bool> = domains.iter().map(|tag| tag.contains("hidden")).collect();
    assert_eq!((domains.len(), hidden), (2, vec![false, true]), "code and prose");
    // What the page does not have is not asked for.
    assert!(dom("#documents=77&method=none").contains(&format!(">4 of {all} curves")));

    // The cluster explorer works on the same page, from the same link.
    let word = "router";
    let page = dom(&format!("#q={word}&layer=0&method=random"));
    assert!(page.contains(&format!(">2 of {all} curves")));
    let clusters = || analyses.iter().flat_map(|model| &model.clusters.as_ref().unwrap().clusters);
    let found = clusters().filter(|cluster| searched(cluster).contains(word)).count();
    assert!(page.contains(&format!("{found} of {} clusters", clusters().count())));
    for (number, model) in analyses.iter().enumerate() {
        shows_the_experts(&page, model, number, 0);
    }
    super::pictures(&chromium, &path);
}

#[test]
fn a_file_of_another_kind_is_told_which_command_writes_the_right_one() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    let other = place.path("other.json");
    std::fs::write(&other, "{\"event\":\"summary\",\"checkpoint\":\"run\"}").unwrap();
    let own = std::fs::read(place.path("run/report.html")).unwrap();
    let refused = |more: &[&str]| fail(place.trainer().args(["report", "run"]).args(more), 2);
    let said = refused(&["--retention", "other.json"]);
    assert!(
        said.contains("other.json") && said.contains("trainer retention --checkpoint RUN --out FILE"),
        "{said}"
    );
    let said = refused(&["--analysis", "other.json"]);
    assert!(
        said.contains("other.json") && said.contains("trainer analyse --checkpoint RUN --out DIR"),
        "{said}"
    );
    let said = refused(&["--analysis", "a", "b", "c"]);
    assert!(said.contains("at most 2") && said.contains("found 3"), "{said}");
    let said = fail(place.trainer().args(["report", "run", "--retention", "missing.json"]), 1);
    assert!(said.contains("missing.json"), "{said}");
    assert!(
        std::fs::read(place.path("run/report.html")).unwrap() == own,
        "refused before anything is written"
    );
}

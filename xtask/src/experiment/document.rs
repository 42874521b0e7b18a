//! docs/experiment.md: every result as it came out.

use std::fmt::Write;

use super::arms::Arm;
use super::modules::Touch;
use super::pair::Pair;
use super::runs::{KEEP, Measured};
use super::statistics::{self, Kind, Spread, full, over, rise, rises, words};
use super::text::Text;

/// An arm and its runs, one a seed.
pub type Results = [(&'static Arm, Vec<Measured>)];

/// How the experiment was run.
pub struct Setting<'a> {
    pub command: &'a str,
    pub machine: &'a str,
    pub text: &'a Text,
}

/// The page.
pub fn page(results: &Results, setting: &Setting<'_>, models: Option<&Pair>) -> String {
    let mut page = format!(
        "# Does modularity pay? The experiment, as it came out\n\n\
         Written by `{}` on {}. Model, data and training: preset `modularity`; every arm sees the same documents in the same \
         order with the same masking, optimiser and active parameters, and differs in what its row says; load balance has the weight that suits each kind of mixture \
         ([sweep.md](sweep.md)). Text: the corpus of \
         `cargo xtask corpus` in parts without a common document: trained on, chosen by (100 documents a domain), tuned on, \
         validated on, tested on. All losses are bits per byte of the test part. Where an arm has several seeds, `±` is the \
         largest distance from the mean.\n\n",
        setting.command, setting.machine
    );
    page += &arms(results);
    page += &verdicts(results);
    page += &table_a(results, &setting.text.domains);
    page += &table_b(results);
    page += &table_c(results);
    page += &table_d(results);
    page += &table_e(results);
    page += &models.map_or_else(String::new, pair);
    page
}

/// A row of a table.
pub fn row(out: &mut String, cells: impl IntoIterator<Item = String>) {
    let _ = writeln!(out, "| {} |", cells.into_iter().collect::<Vec<_>>().join(" | "));
}

/// The head of a table: words to the left, numbers to the right.
pub fn head(out: &mut String, cells: &[&str]) {
    row(out, cells.iter().map(|cell| (*cell).to_owned()));
    row(out, cells.iter().enumerate().map(|(at, _)| if at == 0 { "---".into() } else { "---:".into() }));
}

/// The runs of an arm.
pub fn runs_of<'a>(results: &'a Results, name: &str) -> &'a [Measured] {
    results.iter().find(|(arm, _)| arm.name == name).map_or(&[], |(_, runs)| runs)
}

fn arms(results: &Results) -> String {
    let mut out = "## Arms\n\n".to_owned();
    head(&mut out, &["arm", "what it is", "seeds", "tokens", "seconds"]);
    for (arm, runs) in results {
        let tokens = runs.first().map_or(0, |run| run.training.1);
        let seconds = over(runs, |run| Some(run.training.0));
        row(
            &mut out,
            [
                format!("`{}`", arm.name),
                arm.about.to_owned(),
                runs.len().to_string(),
                format!("{:.1} M", tokens as f64 / 1e6),
                words(seconds, 1.0, 0),
            ],
        );
    }
    out + "\n"
}

/// How experts are chosen where several seeds are looked at: from five documents, in the way of the release and in the best
/// of the others.
const METHODS: [&str; 2] = ["layerwise", "easy-ep"];

/// The kind that the aims speak of: one eighth of the experts.
fn aimed(method: &str) -> Kind {
    Kind { method: method.into(), documents: 5, kept: 8 }
}

/// The aims, each with its number.
fn verdicts(results: &Results) -> String {
    let (emo, standard) = (runs_of(results, "emo"), runs_of(results, "standard"));
    let Some(behind) = behind(emo, standard) else { return String::new() };
    let judge = |reached: bool| if reached { "reached" } else { "**not reached**" };
    let mut out = "## The aims\n\n".to_owned();
    head(&mut out, &["aim", "measured", "verdict"]);
    let mut line = |aim: &str, measured: String, reached: bool| {
        row(&mut out, [aim.to_owned(), measured, judge(reached).to_owned()]);
    };
    for method in METHODS {
        let kind = aimed(method);
        let (Some(ours), Some(theirs)) = (rise(emo, &kind), rise(standard, &kind)) else { continue };
        line(
            &format!("12.5 % kept, chosen by {method}: EMO's loss rises by at most 2 %"),
            format!("{} %", ours.words(100.0, 2)),
            ours.mean <= 0.02,
        );
        let ratio = theirs.mean / ours.mean;
        let times = if ours.mean > 0.0 { format!("{ratio:.1} times") } else { "EMO's does not rise".into() };
        line(
            &format!(
                "12.5 % kept, chosen by {method}: the standard mixture's rises at least ten times as much"
            ),
            format!("{} %, {times}", theirs.words(100.0, 2)),
            ours.mean <= 0.0 || ratio >= 10.0,
        );
    }
    line(
        "whole EMO without pools within 1 % of the standard mixture",
        format!("{:+.2} %", 100.0 * behind),
        behind <= 0.01,
    );
    for (size, cost) in emo.first().map(statistics::pool_costs).unwrap_or_default() {
        let with_pools = (1.0 + behind) * (1.0 + cost) - 1.0;
        line(
            &format!("the same with pools of {size} chosen by a document's first 64 tokens"),
            format!("{:+.2} %", 100.0 * with_pools),
            with_pools <= 0.01,
        );
    }
    out + "\n"
}

/// How far an arm's whole model stands behind another's.
pub fn behind(runs: &[Measured], other: &[Measured]) -> Option<f64> {
    let mean = |runs: &[Measured]| over(runs, |run| Some(full(run, None)));
    Some(mean(runs)?.mean / mean(other)?.mean - 1.0)
}

fn table_a(results: &Results, domains: &[String]) -> String {
    let mut out = "## A. Whole models: bits per byte\n\n".to_owned();
    let names: Vec<String> = results.iter().map(|(arm, _)| format!("`{}`", arm.name)).collect();
    let mut cells = vec!["domain"];
    cells.extend(names.iter().map(String::as_str));
    head(&mut out, &cells);
    for domain in domains.iter().map(|domain| Some(domain.as_str())).chain([None]) {
        let loss = |runs: &[Measured]| words(over(runs, |run| Some(full(run, domain))), 1.0, 3);
        let name = domain.map_or("**mean**".to_owned(), str::to_owned);
        row(&mut out, std::iter::once(name).chain(results.iter().map(|(_, runs)| loss(runs))));
    }
    let standard = runs_of(results, "standard");
    let against = |runs: &[Measured]| {
        behind(runs, standard).map_or("-".into(), |behind| format!("{:+.2} %", 100.0 * behind))
    };
    let versus = results.iter().map(|(_, runs)| against(runs));
    row(&mut out, std::iter::once("against `standard`".to_owned()).chain(versus));
    out + "\n"
}

fn table_b(results: &Results) -> String {
    let mut out = "## B. Subsets: rise of the loss, percent, mean over domains\n\n\
        Chosen from five documents of the domain that is measured; the picture is of layer-wise selection.\n\n\
        ![retention](experiment.svg)\n\n"
        .to_owned();
    let mut cells = vec!["arm", "chosen by"];
    cells.extend(KEEP);
    head(&mut out, &cells);
    for (arm, runs) in results {
        let all: Vec<Kind> =
            runs.first().map(|run| rises(&run.retention)).unwrap_or_default().into_keys().collect();
        for method in METHODS {
            let of = |kind: &&Kind| kind.method == method && kind.documents == 5;
            let mut kinds: Vec<&Kind> = all.iter().filter(of).collect();
            kinds.sort_by_key(|kind| std::cmp::Reverse(kind.kept));
            if !kinds.is_empty() {
                let cells = kinds.iter().map(|kind| words(rise(runs, kind), 100.0, 2));
                row(&mut out, [format!("`{}`", arm.name), method.to_owned()].into_iter().chain(cells));
            }
        }
    }
    out += "\nEvery method, first seed:\n\n";
    let mut cells = vec!["arm", "method", "documents"];
    cells.extend(KEEP);
    head(&mut out, &cells);
    for (arm, runs) in results {
        let all = runs.first().map(|run| rises(&run.retention)).unwrap_or_default();
        let mut rankings: Vec<(&str, u64)> =
            all.keys().map(|kind| (kind.method.as_str(), kind.documents)).collect();
        rankings.dedup();
        if rankings.len() < 2 {
            continue;
        }
        for (method, documents) in rankings {
            let of = |kind: &Kind| kind.method == method && kind.documents == documents;
            // Kinds ascend in what is kept.
            let rises = all
                .iter()
                .rev()
                .filter(|(kind, _)| of(kind))
                .map(|(_, rise)| format!("{:+.2}", 100.0 * rise));
            let documents = if method == "random" { "-".to_owned() } else { documents.to_string() };
            let name = [format!("`{}`", arm.name), method.to_owned(), documents];
            row(&mut out, name.into_iter().chain(rises));
        }
    }
    out += "\nTuned on 250 kB of the domain, first seed, bits per byte, mean over domains:\n\n";
    head(&mut out, &["arm", "kept", "before", "after"]);
    for (arm, runs) in results {
        let Some(run) = runs.first() else { continue };
        for keep in KEEP {
            let of = |value: fn(&(String, String, f64, f64)) -> f64| {
                let values: Vec<f64> = run.tuned.iter().filter(|tuned| tuned.1 == keep).map(value).collect();
                Spread::of(&values)
            };
            if let (Some(before), Some(after)) = (of(|tuned| tuned.2), of(|tuned| tuned.3)) {
                let loss = |spread: Spread| format!("{:.3}", spread.mean);
                row(&mut out, [format!("`{}`", arm.name), keep.to_owned(), loss(before), loss(after)]);
            }
        }
    }
    out + "\n"
}

fn table_c(results: &Results) -> String {
    let mut out = "## C. What routing looks like\n\n\
        Means over layers. Jitter: share of a token's experts that its successor does not use. Similarity: cosine of the use of \
        experts in two domains, mean over pairs. Information: bits that an expert says about the domain, and how many where \
        domains are drawn by lot. Then of 32 clusters of tokens: purity, entropy of the domains in a cluster, silhouette, \
        Calinski-Harabasz and Davies-Bouldin index (a low one is good).\n\n"
        .to_owned();
    let columns: [(&str, &str, usize); 10] = [
        ("jitter", "jitter", 3),
        ("similarity", "domain_similarity", 3),
        ("information, bits", "information_bits", 3),
        ("by lot", "information_by_lot", 3),
        ("effective experts a document", "effective_experts", 1),
        ("purity", "purity", 3),
        ("entropy, bits", "source_entropy_bits", 2),
        ("silhouette", "silhouette", 3),
        ("Calinski-Harabasz", "calinski_harabasz", 0),
        ("Davies-Bouldin", "davies_bouldin", 2),
    ];
    let names: Vec<&str> = std::iter::once("arm").chain(columns.map(|(name, ..)| name)).collect();
    head(&mut out, &names);
    for (arm, runs) in results.iter().filter(|(_, runs)| runs.iter().any(|run| !run.analysis.is_null())) {
        let value = |(_, key, digits): (&str, &str, usize)| {
            words(over(runs, |run| run.analysis[key].as_f64()), 1.0, digits)
        };
        row(&mut out, std::iter::once(format!("`{}`", arm.name)).chain(columns.map(value)));
    }
    out + "\n"
}

fn table_d(results: &Results) -> String {
    let mut out =
        "## D. What a subset costs to run\n\nOne thread, f32, 128 tokens after a short prompt. Memory is what model and text \
         take, in resident pages; the program and its tokenizer are not in it.\n\n"
            .to_owned();
    head(&mut out, &["arm", "kept", "ms a token", "memory, MB", "file, MB"]);
    for (arm, runs) in results {
        for cost in runs.first().map(|run| run.costs.as_slice()).unwrap_or_default() {
            let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
            let cells = [
                format!("`{}`", arm.name),
                cost.keep.clone(),
                cost.ms_per_token.map_or("-".into(), |ms| format!("{ms:.2}")),
                cost.memory_bytes.map_or("-".into(), megabytes),
                megabytes(cost.file_bytes),
            ];
            row(&mut out, cells);
        }
    }
    out + "\n"
}

fn table_e(results: &Results) -> String {
    let mut out = "## E. Are the experts of a domain a module?\n\n\
        Change of the whole model's loss, percent, after one domain's experts (an eighth, chosen from five documents) were tuned on \
        250 kB of new text of the domain, after everything was tuned on it, and without these experts. Means over domains; the worst \
        is that of any other domain.\n\n"
        .to_owned();
    head(&mut out, &["arm", "what was done", "the domain", "all others", "worst of the others"]);
    for (arm, runs) in results {
        let effects = runs.first().map(|run| run.effects.as_slice()).unwrap_or_default();
        for touch in Touch::ALL {
            let of = || effects.iter().filter(|effect| effect.touch == touch);
            let own: Vec<f64> = of().map(|effect| effect.own).collect();
            let others: Vec<f64> = of().flat_map(|effect| effect.others.iter().copied()).collect();
            let (Some(own), Some(mean)) = (Spread::of(&own), Spread::of(&others)) else { continue };
            let worst = others.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let percent = |value: f64| format!("{:+.2}", 100.0 * value);
            let cells = [own.mean, mean.mean, worst].map(percent);
            row(&mut out, [format!("`{}`", arm.name), touch.words().to_owned()].into_iter().chain(cells));
        }
    }
    out + "\n"
}

fn pair(pair: &Pair) -> String {
    let mut out = "## The pair\n\n\
        The first seeds of `emo` and `standard` in bf16, with their tokenizer: for trying out what this page speaks of.\n\n"
        .to_owned();
    head(&mut out, &["model", "file, MB"]);
    for (name, bytes) in &pair.models {
        row(&mut out, [format!("`{name}`"), format!("{:.1}", *bytes as f64 / 1e6)]);
    }
    let all: u64 = pair.models.iter().map(|(_, bytes)| bytes).sum();
    row(&mut out, ["both".into(), format!("{:.1}", all as f64 / 1e6)]);
    out + "\n"
}

//! Table B: what subsets of the experts keep.

use super::document::{Results, head, row, runs_of};
use super::runs::{KEEP, KEPT, METHODS, Measured};
use super::statistics::{Kind, Spread, domain_loss, rise, rises, subset_losses, words};

/// The section.
pub fn section(results: &Results, domains: &[String]) -> String {
    "## B. Subsets\n\n".to_owned() + &curves(results) + &methods(results) + &by_domain(results, domains)
}

fn curves(results: &Results) -> String {
    let mut out = "Rise of the loss, percent, mean over domains. Chosen from five documents of the domain that is measured; the picture is of \
        layer-wise selection.\n\n![retention](experiment.svg)\n\n"
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
    out + "\n"
}

fn methods(results: &Results) -> String {
    let mut out = "Every method, first seed:\n\n".to_owned();
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
    out + "\n"
}

/// Bits per byte of both mixtures' subsets, untuned and tuned.
fn by_domain(results: &Results, domains: &[String]) -> String {
    let mut out = "Bits per byte by domain, first seed, of subsets chosen layer-wise from five documents. Tuned is the whole pruned model, nothing \
        frozen, on 250 kB of the domain. Left out are tuned subsets of other methods, other numbers of documents, other seeds and other \
        arms: they were not made.\n\n"
        .to_owned();
    let mut cells = vec!["arm", "kept", "tuned"];
    cells.extend(domains.iter().map(String::as_str).chain(["**mean**"]));
    head(&mut out, &cells);
    for name in ["standard", "emo"] {
        let Some(run) = runs_of(results, name).first() else { continue };
        let mut line = |kept: &str, tuned: &str, loss: &dyn Fn(&str) -> Option<f64>| {
            let losses: Vec<Option<f64>> = domains.iter().map(|domain| loss(domain)).collect();
            let mean = losses.iter().copied().collect::<Option<Vec<f64>>>().and_then(|all| Spread::of(&all));
            // A share that was not measured has no row.
            if losses.iter().any(Option::is_some) {
                let all = losses.into_iter().chain([mean.map(|mean| mean.mean)]);
                let cells = all.map(|loss| loss.map_or("-".to_owned(), |loss| format!("{loss:.3}")));
                let names = [format!("`{name}`"), kept.to_owned(), tuned.to_owned()];
                row(&mut out, names.into_iter().chain(cells));
            }
        };
        line("100%", "no", &|domain| domain_loss(&run.full, domain).ok());
        for (keep, kept) in KEEP.into_iter().zip(KEPT) {
            let before = subset_losses(&run.retention, &Kind::of_five("layerwise", kept));
            line(keep, "no", &|domain| before.get(domain).copied());
            line(keep, "yes", &|domain| tuned(run, domain, keep));
        }
    }
    out + "\n"
}

/// The loss of a domain's tuned subset.
fn tuned(run: &Measured, domain: &str, keep: &str) -> Option<f64> {
    run.tuned.iter().find(|tuned| tuned.0 == domain && tuned.1 == keep).map(|tuned| tuned.3)
}

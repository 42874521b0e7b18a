//! docs/experiment.md: every result as it came out.

use std::fmt::Write;

use super::arms::Arm;
use super::modules::Touch;
use super::pair::Pair;
use super::runs::Measured;
use super::statistics::{Spread, behind, full, over, words};
use super::tool::Times;
use super::{subsets, verdicts};

/// An arm and its runs, one a seed.
pub type Results = [(&'static Arm, Vec<Measured>)];

/// How the experiment was run.
pub struct Setting<'a> {
    pub command: &'a str,
    pub machine: &'a str,
    /// Where runs and models lie, as the command puts them.
    pub folder: &'a str,
    pub domains: &'a [String],
}

/// The page.
pub fn page(results: &Results, setting: &Setting<'_>, models: Option<&Pair>) -> String {
    let mut page = format!(
        "# Does modularity pay? The experiment, as it came out\n\n\
         Written by `{}` on {}. Model, data and training: preset `modularity`; every arm sees the same documents in the same \
         order with the same masking, optimiser and active parameters, and differs in what its row says; load balance has the weight that suits each kind of mixture \
         ([sweep.md](sweep.md)). Text: the corpus of \
         `cargo xtask corpus` in parts without a common document: trained on, chosen by (100 documents a domain), tuned on, \
         validated on, tested on. All losses are bits per byte of the test part. No recipe is chosen by it, but figures on an \
         earlier version of it had been seen when the length of training, EASY-EP, the loss on experts that compute alike and the corpus' \
         filter of languages were decided; each was confirmed on the text to validate on. Where an arm has several seeds, `±` is the \
         largest distance from the mean.\n\n",
        setting.command, setting.machine
    );
    page += &arms(results);
    page += &times(results, setting.folder);
    page += &verdicts::section(results);
    page += &table_a(results, setting.domains);
    page += &subsets::section(results, setting.domains);
    page += &table_c(results);
    page += &table_d(results);
    page += &table_e(results);
    page += &models.map_or_else(String::new, |models| pair(models, setting.folder));
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

/// What all of it took, and where single measurements are told.
fn times(results: &Results, folder: &str) -> String {
    let runs = || results.iter().flat_map(|(_, runs)| runs);
    let training: f64 = runs().map(|run| run.training.0).sum();
    let measuring: Times = runs().map(|run| run.measuring).sum();
    let mut out = format!(
        "{} runs, one after another: {} of training, {} of measuring. The command of each figure, with its seconds, lies beside the \
         measurement in `{folder}/runs/*/measured/*.command.json`, that of a run's training in `training.json` of its folder (`OUT` stands \
         for the folder of `--out`).",
        runs().count(),
        duration(training),
        duration(measuring.seconds)
    );
    if measuring.untimed > 0 {
        let _ = write!(
            out,
            " {} of {} measurements were made by an earlier version, which kept neither; their time is not counted.",
            measuring.untimed, measuring.measurements
        );
    }
    out + "\n\n"
}

/// `2 h 31 min`.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    if minutes < 60 { format!("{minutes} min") } else { format!("{} h {} min", minutes / 60, minutes % 60) }
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
    let against = |runs: &[Measured]| behind(runs, standard).map_or("-".into(), |behind| behind.percent());
    let versus = results.iter().map(|(_, runs)| against(runs));
    row(&mut out, std::iter::once("against `standard`, seed by seed".to_owned()).chain(versus));
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

fn pair(pair: &Pair, folder: &str) -> String {
    let mut out = format!(
        "## The pair\n\n\
         The first seeds of `emo` and `standard` in bf16, with their tokenizer, in `{folder}/pair`: for trying out what this page \
         speaks of.\n\n\
         ```sh\ntrainer generate --checkpoint {folder}/pair/emo --prompt \"The king\" --tokens 64\n```\n\n"
    );
    head(&mut out, &["model", "file, MB"]);
    for (name, bytes) in &pair.models {
        row(&mut out, [format!("`{name}`"), format!("{:.1}", *bytes as f64 / 1e6)]);
    }
    let all: u64 = pair.models.iter().map(|(_, bytes)| bytes).sum();
    row(&mut out, ["both".into(), format!("{:.1}", all as f64 / 1e6)]);
    out + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::experiment::arms::ARMS;

    fn eval(maths: f64, poetry: f64) -> serde_json::Value {
        let domains = json!({"maths": {"bits_per_byte": maths}, "poetry": {"bits_per_byte": poetry}});
        json!({ "mean_bits_per_byte": f64::midpoint(maths, poetry), "domains": domains })
    }

    /// A run whose eighth loses `lost` bits, all of it regained by tuning.
    fn run(maths: f64, poetry: f64, lost: f64) -> Measured {
        let subset = |domain: &str, loss: f64| {
            json!({"method": "layerwise", "documents": 5, "kept": [8, 64], "chosen_for": domain, "domain": domain,
                   "bits_per_byte": loss})
        };
        let mean = json!({"method": "layerwise", "documents": 5, "kept": [8, 64], "mean": lost / maths});
        let tuned = |domain: &str, loss: f64| (domain.to_owned(), "12.5%".to_owned(), loss + lost, loss);
        Measured {
            full: eval(maths, poetry),
            retention: json!({
                "means": [mean],
                "subsets": [subset("maths", maths + lost), subset("poetry", poetry + lost)],
            }),
            tuned: vec![tuned("maths", maths), tuned("poetry", poetry)],
            training: (1800.0, 12_000_000),
            measuring: Times { seconds: 600.0, measurements: 4, untimed: 0 },
            ..Measured::default()
        }
    }

    fn made(runs: Vec<(&str, Vec<Measured>)>) -> String {
        let arm = |name: &str| ARMS.iter().find(|arm| arm.name == name).unwrap();
        let results: Vec<_> = runs.into_iter().map(|(name, runs)| (arm(name), runs)).collect();
        let domains = ["maths".to_owned(), "poetry".to_owned()];
        let setting = Setting {
            command: "cargo xtask experiment modularity --write",
            machine: "2 cores",
            folder: "target/experiment/whole",
            domains: &domains,
        };
        let models = Pair { models: vec![("emo".into(), 9_000_000), ("standard".into(), 9_100_000)] };
        page(&results, &setting, Some(&models))
    }

    #[test]
    fn the_page_has_every_loss_by_domain_before_and_after_tuning() {
        let page = made(vec![("standard", vec![run(1.5, 2.5, 1.0)]), ("emo", vec![run(1.6, 2.4, 0.1)])]);
        for row in [
            "| `standard` | 100% | no | 1.500 | 2.500 | 2.000 |",
            "| `standard` | 12.5% | no | 2.500 | 3.500 | 3.000 |",
            "| `standard` | 12.5% | yes | 1.500 | 2.500 | 2.000 |",
            "| `emo` | 12.5% | no | 1.700 | 2.500 | 2.100 |",
            "| `emo` | 12.5% | yes | 1.600 | 2.400 | 2.000 |",
            "| poetry | 2.500 | 2.400 |",
            "| against `standard`, seed by seed | +0.00 % | +0.00 % |",
        ] {
            assert!(page.lines().any(|line| line == row), "no {row} in {page}");
        }
        assert!(!page.contains("| `emo` | 25% |"), "a share that nobody measured has a row");
    }

    #[test]
    fn the_page_tells_how_it_was_made_and_what_it_took() {
        let runs = vec![run(1.5, 2.5, 1.0), run(1.7, 2.5, 1.0)];
        let page = made(vec![("standard", runs), ("emo", vec![run(1.6, 2.4, 0.1)])]);
        assert!(page.contains("Written by `cargo xtask experiment modularity --write` on 2 cores"));
        assert!(page.contains("3 runs, one after another: 1 h 30 min of training, 30 min of measuring. The"));
        assert!(page.contains("trainer generate --checkpoint target/experiment/whole/pair/emo --prompt"));
        assert!(page.contains("| maths | 1.600 ± 0.100 | 1.600 |"), "{page}");
    }

    #[test]
    fn measurements_without_times_are_told_as_missing() {
        let old = Measured {
            measuring: Times { measurements: 5, untimed: 5, ..Times::default() },
            ..run(1.5, 2.5, 1.0)
        };
        let page = made(vec![("standard", vec![run(1.5, 2.5, 1.0)]), ("emo", vec![old])]);
        assert!(page.contains("10 min of measuring."), "{page}");
        assert!(page.contains(" 5 of 9 measurements were made by an earlier version"), "{page}");
    }
}

//! What the experiment was made to find out, each with its number: the aims, the memory of a subset, the published claim.

use super::document::{Results, head, row, runs_of};
use super::runs::{KEPT, METHODS, Measured};
use super::statistics::{
    Kind, Spread, behind, behind_with_pools, full, over, pool_sizes, rise, subset_losses, words,
};

/// Experts of the subset that the aims speak of: an eighth.
const AIMED: u64 = KEPT[2];

/// The section.
pub fn section(results: &Results) -> String {
    let (emo, standard) = (runs_of(results, "emo"), runs_of(results, "standard"));
    let Some(whole) = behind(emo, standard) else { return String::new() };
    let mut out = "## The aims\n\n\
        Of several seeds the mean is judged; models are compared seed by seed. Pools are chosen by a document's first 64 tokens, and the standard mixture is \
        measured without pools on the tokens after these.\n\n"
        .to_owned();
    head(&mut out, &["aim", "measured", "verdict"]);
    let mut line = |aim: &str, measured: String, reached: bool| {
        let verdict = if reached { "reached" } else { "**not reached**" };
        row(&mut out, [aim.to_owned(), measured, verdict.to_owned()]);
    };
    for method in METHODS {
        let kind = Kind::of_five(method, AIMED);
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
    let near = |spread: Spread| (spread.percent(), spread.mean <= 0.01);
    let (measured, reached) = near(whole);
    line("whole EMO without pools within 1 % of the standard mixture", measured, reached);
    for size in emo.first().map(pool_sizes).unwrap_or_default() {
        let Some((measured, reached)) = behind_with_pools(emo, standard, size).map(near) else { continue };
        line(&format!("the same with EMO in pools of {size}"), measured, reached);
    }
    out + "\n" + &memory(emo, runs_of(results, "standard-8")) + &claim(emo, standard)
}

/// EMO's subsets against a mixture that was trained with as many experts.
fn memory(emo: &[Measured], small: &[Measured]) -> String {
    let Some(trained) = over(small, |run| Some(full(run, None))) else { return String::new() };
    let mut out = format!(
        "A standard mixture trained at the memory of that subset (`standard-8`, {}) against EMO's subsets of 8 experts, chosen from \
         five documents of the domain that is measured; bits per byte, mean over domains:\n\n",
        if small.len() == 1 { "one seed".into() } else { format!("{} seeds", small.len()) }
    );
    head(&mut out, &["model", "bits per byte", "above `standard-8`"]);
    let mut line = |model: String, loss: Option<Spread>| {
        let Some(loss) = loss else { return };
        let above = format!("{:+.3}", loss.mean - trained.mean);
        row(&mut out, [model, loss.words(1.0, 3), above]);
    };
    line("`standard-8`".into(), Some(trained));
    for method in METHODS {
        let kind = Kind::of_five(method, AIMED);
        let mean = |run: &Measured| Some(subset_mean(run, &kind)?.mean);
        line(format!("`emo`, 12.5 % by {method}"), over(emo, mean));
    }
    if let Some((first, after)) = emo.first().and_then(|run| Some((run, tuned_mean(run, "12.5%")?))) {
        let kind = Kind::of_five("layerwise", AIMED);
        line("`emo`, 12.5 % by layerwise, first seed".into(), subset_mean(first, &kind));
        line("the same, tuned on 250 kB of the domain".into(), Some(after));
    }
    out + "\n"
}

/// Over domains, without a distance.
fn domains_mean(losses: &[f64]) -> Option<Spread> {
    Spread::of(losses).and_then(|spread| Spread::of(&[spread.mean]))
}

fn subset_mean(run: &Measured, kind: &Kind) -> Option<Spread> {
    domains_mean(&subset_losses(&run.retention, kind).into_values().collect::<Vec<_>>())
}

fn tuned_mean(run: &Measured, keep: &str) -> Option<Spread> {
    let after = run.tuned.iter().filter(|tuned| tuned.1 == keep).map(|tuned| tuned.3);
    domains_mean(&after.collect::<Vec<_>>())
}

/// The published claim and what stands beside it here.
fn claim(emo: &[Measured], standard: &[Measured]) -> String {
    let rises = |runs| {
        let [quarter, eighth] =
            [KEPT[1], AIMED].map(|kept| words(rise(runs, &Kind::of_five("layerwise", kept)), 100.0, 2));
        format!("{quarter} % ({eighth} %)")
    };
    format!(
        "The published claim speaks of accuracy: keeping 25 % (12.5 %) of the experts costs EMO about 1 (3) points, a standard \
         mixture 10 (15). This page measures the loss, because models of this size stand near chance on multiple choice, where points can \
         hardly be lost. Beside the claim stand, with experts chosen layer-wise from five documents: EMO's loss rises by {}, the \
         standard mixture's by {}.\n\n",
        rises(emo),
        rises(standard)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::experiment::arms::{ARMS, Arm};

    /// A run with losses of the whole model and of an eighth, which two domains share, and with pools of 15.
    fn run(whole: f64, eighth: f64, pools: f64) -> Measured {
        let subset = |domain: &str, loss: f64| {
            json!({"method": "layerwise", "documents": 5, "kept": [8, 64], "chosen_for": domain, "domain": domain,
                   "bits_per_byte": loss})
        };
        let mean = |kept: u64, rise: f64| json!({"method": "layerwise", "documents": 5, "kept": [kept, 64], "mean": rise});
        let sizes = json!([
            {"pool_size": 15, "mean_bits_per_byte": pools},
            {"pool_size": null, "mean_bits_per_byte": whole}
        ]);
        Measured {
            full: json!({ "mean_bits_per_byte": whole }),
            pools: json!({ "sizes": sizes }),
            retention: json!({
                "means": [mean(16, (eighth / whole - 1.0) / 2.0), mean(8, eighth / whole - 1.0)],
                "subsets": [subset("maths", eighth - 0.5), subset("poetry", eighth + 0.5)]
            }),
            ..Measured::default()
        }
    }

    fn results(of: Vec<(&str, Vec<Measured>)>) -> Vec<(&'static Arm, Vec<Measured>)> {
        let arm = |name: &str| ARMS.iter().find(|arm| arm.name == name).unwrap();
        of.into_iter().map(|(name, runs)| (arm(name), runs)).collect()
    }

    /// The row of the table that begins so.
    fn line<'a>(page: &'a str, aim: &str) -> &'a str {
        page.lines()
            .find(|line| line.starts_with(&format!("| {aim}")))
            .unwrap_or_else(|| panic!("no {aim}: {page}"))
    }

    #[test]
    fn aims_that_are_reached_are_told_with_mean_and_spread() {
        let emo = vec![run(2.0, 2.02, 2.0), run(2.02, 2.0402, 2.03)];
        let page =
            section(&results(vec![("standard", vec![run(2.0, 3.0, 9.0), run(2.0, 3.2, 9.0)]), ("emo", emo)]));
        let rise = line(&page, "12.5 % kept, chosen by layerwise: EMO's");
        assert!(rise.ends_with("| 1.00 ± 0.00 % | reached |"), "{rise}");
        let ratio = line(&page, "12.5 % kept, chosen by layerwise: the standard");
        assert!(ratio.ends_with("| 55.00 ± 5.00 %, 55.0 times | reached |"), "{ratio}");
        let whole = line(&page, "whole EMO");
        assert!(whole.ends_with("| +0.50 ± 0.50 % | reached |"), "{whole}");
        let pools = line(&page, "the same with EMO in pools of 15");
        assert!(pools.ends_with("| +0.75 ± 0.75 % | reached |"), "{pools}");
        assert!(
            page.contains("EMO's loss rises by 0.50 ± 0.00 % (1.00 ± 0.00 %), the standard mixture's by")
        );
        assert!(!page.contains("easy-ep"), "a method that nobody measured is judged");
    }

    #[test]
    fn aims_that_are_missed_are_told_too() {
        let results =
            results(vec![("standard", vec![run(2.0, 2.4, 9.0)]), ("emo", vec![run(2.1, 2.1 * 1.025, 2.2)])]);
        let page = section(&results);
        for (aim, measured) in [
            ("12.5 % kept, chosen by layerwise: EMO's", "2.50 %"),
            ("12.5 % kept, chosen by layerwise: the standard", "20.00 %, 8.0 times"),
            ("whole EMO", "+5.00 %"),
            ("the same with EMO in pools of 15", "+10.00 %"),
        ] {
            let line = line(&page, aim);
            assert!(line.ends_with(&format!("| {measured} | **not reached** |")), "{line}");
        }
    }

    #[test]
    fn a_subset_is_held_against_a_mixture_of_its_size_before_and_after_tuning() {
        let mut emo = run(2.0, 2.1, 2.0);
        let tuned = |domain: &str, after: f64| (domain.to_owned(), "12.5%".to_owned(), 2.1, after);
        emo.tuned = vec![tuned("maths", 1.4), tuned("poetry", 2.4)];
        let small = Measured {
            full: json!({"mean_bits_per_byte": 2.0}),
            retention: Value::Null,
            ..run(2.0, 2.0, 2.0)
        };
        let page = section(&results(vec![
            ("standard", vec![run(2.0, 3.0, 2.0)]),
            ("emo", vec![emo, run(2.0, 2.3, 2.0)]),
            ("standard-8", vec![small]),
        ]));
        assert!(line(&page, "`standard-8`").ends_with("| 2.000 | +0.000 |"));
        assert!(
            line(&page, "`emo`, 12.5 % by layerwise |").ends_with("| 2.200 ± 0.100 | +0.200 |"),
            "{page}"
        );
        assert!(
            line(&page, "`emo`, 12.5 % by layerwise, first seed").ends_with("| 2.100 | +0.100 |"),
            "{page}"
        );
        assert!(line(&page, "the same, tuned").ends_with("| 1.900 | -0.100 |"), "{page}");
    }

    #[test]
    fn nothing_is_judged_before_both_mixtures_are_there() {
        assert_eq!(section(&results(vec![("emo", vec![run(2.0, 2.1, 2.0)])])), "");
    }
}

//! docs/sweep.md: recipes in short runs, on the text to validate on.

use super::arms::{Arm, LONG};
use super::document::{Results, Setting, behind, head, row, runs_of};
use super::runs::KEEP;
use super::statistics::{Kind, full, over, pool_costs, rise, rises, words};

/// The arm that another is held against: the ordinary mixture of as many steps.
fn base(arm: &Arm) -> &'static str {
    if arm.set.contains(&LONG) { "standard-long" } else { "standard" }
}

/// The page.
pub fn page(results: &Results, setting: &Setting<'_>) -> String {
    let mut out = format!(
        "# The sweep behind the experiment\n\n\
         Written by `{}` on {}: preset `modularity`, one seed, 1500 steps where no other number is named, \
         measured on the text to validate on (the experiment's text to test on was not looked at). `full` is the whole model without pools, in bits per byte, and against \
         `standard`, or `standard-long` after as many steps; `pools of 31` the same with pools chosen by a \
         document's first 64 tokens; then the rise of the loss with a share of the experts kept, layer-wise from five documents, percent; last the eighth of the experts against the same \
         whole mixture. One seed each: a few tenths of a percent are no difference.\n\n",
        setting.command, setting.machine
    );
    let mut cells = vec!["arm", "what it is", "full", "against `standard`", "pools of 31"];
    cells.extend(KEEP);
    cells.push("12.5% against `standard`");
    head(&mut out, &cells);
    for (arm, runs) in results {
        let behind = behind(runs, runs_of(results, base(arm)));
        let percent =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{:+.2}", 100.0 * value));
        let pools = runs.first().map(pool_costs).unwrap_or_default();
        let pools = pools.iter().find(|(size, _)| *size == 31).map(|(_, cost)| cost);
        let with = |cost: &f64| behind.map(|behind| (1.0 + behind) * (1.0 + cost) - 1.0);
        let mut kinds: Vec<Kind> =
            runs.first().map(|run| rises(&run.retention)).unwrap_or_default().into_keys().collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.kept));
        let rise = |kind: &Kind| rise(runs, kind).map(|spread| spread.mean);
        let eighth = kinds.get(2).and_then(rise).zip(behind);
        let mut cells = vec![
            format!("`{}`", arm.name),
            arm.about.to_owned(),
            words(over(runs, |run| Some(full(run, None))), 1.0, 4),
            percent(behind),
            percent(pools.and_then(with)),
        ];
        cells.extend(kinds.iter().map(|kind| percent(rise(kind))));
        cells.push(percent(eighth.map(|(rise, behind)| (1.0 + rise) * (1.0 + behind) - 1.0)));
        row(&mut out, cells);
    }
    out
}

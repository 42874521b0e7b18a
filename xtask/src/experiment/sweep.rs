//! docs/sweep.md: recipes in short runs, on the text to validate on.

use super::arms::{Arm, LONG};
use super::document::{Results, Setting, head, row, runs_of};
use super::runs::KEEP;
use super::statistics::{Kind, behind, behind_with_pools, full, over, rise, rises, words};

/// The levers that were looked at, and those that were not.
const LEVERS: &str = "\
Swept are tokens seen (1500 and 3000 steps), the draw of pool sizes (uniform, log-uniform), final steps and a share of the documents without pools, \
the weight of load balance, the weights of chosen experts divided by their sum or not, the experts' width and the loss on experts that compute \
alike. A fixed pool size and load balance per micro-batch are arms of the experiment. Not swept are the learning rate, shared experts, a first layer \
without pools, pool sizes by coverage, and load balance that ignores pools. Tried beside this table, at 3000 steps on the corpus as it is now, one seed: \
a ramp of pool sizes over the first 1000 steps (`router.pool_ramp=1000`) and load balance 0.03 (`losses.load_balance=0.03`). Both moved the whole model \
by less than 0.2 %, and an eighth of the experts, chosen layer-wise, cost 3.9 and 3.4 % with them, 2.6 % without.\n\n";

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
         document's first 64 tokens, against that mixture without pools on the tokens after these; then the rise of the loss with a share of the experts kept, layer-wise from five documents, percent; last the eighth of the experts against the same \
         whole mixture. One seed each: a few tenths of a percent are no difference.\n\n",
        setting.command, setting.machine
    );
    out += LEVERS;
    let mut cells = vec!["arm", "what it is", "full", "against `standard`", "pools of 31"];
    cells.extend(KEEP);
    cells.push("12.5% against `standard`");
    head(&mut out, &cells);
    for (arm, runs) in results {
        let base = runs_of(results, base(arm));
        let behind = behind(runs, base).map(|behind| behind.mean);
        let percent =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{:+.2}", 100.0 * value));
        let pools = behind_with_pools(runs, base, 31).map(|behind| behind.mean);
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
            percent(pools),
        ];
        cells.extend(kinds.iter().map(|kind| percent(rise(kind))));
        cells.push(percent(eighth.map(|(rise, behind)| (1.0 + rise) * (1.0 + behind) - 1.0)));
        row(&mut out, cells);
    }
    out
}

//! What touching the experts of one domain does to that domain and to all others: the experts tuned with all else frozen,
//! everything tuned, and the experts taken away.

use serde_json::Value;

use super::runs::{Purpose, Run};
use super::statistics::domain_loss;
use super::text::Text;
use super::tool::Tool;

/// The share of the experts that counts as a domain's own.
pub const OWN: &str = "12.5%";
/// Every so many-th domain is looked at with `--quick`.
const QUICK_STRIDE: usize = 4;

/// What is done to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// The domain's own experts are tuned on its text, all else is frozen.
    TuneOwn,
    /// Everything is tuned on the domain's text.
    TuneAll,
    /// The domain's own experts are taken away.
    Remove,
}

impl Touch {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TuneOwn, Self::TuneAll, Self::Remove];

    /// For tables.
    pub const fn words(self) -> &'static str {
        match self {
            Self::TuneOwn => "its experts tuned, all else frozen",
            Self::TuneAll => "everything tuned",
            Self::Remove => "its experts taken away",
        }
    }
}

/// Relative changes of the loss of the whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    pub touch: Touch,
    pub domain: String,
    /// Of the touched domain.
    pub own: f64,
    /// Of each other domain.
    pub others: Vec<f64>,
}

/// Every touch of every domain (quickly: of some), against the losses `full` of the untouched model.
pub fn effects(
    run: &Run<'_>,
    tool: &Tool,
    text: &Text,
    full: &Value,
    purpose: Purpose,
) -> Result<Vec<Effect>, String> {
    let stride = if purpose == Purpose::Whole { 1 } else { QUICK_STRIDE };
    let mut found = Vec::new();
    for domain in text.domains.iter().step_by(stride) {
        for touch in Touch::ALL {
            let losses = touched(run, tool, text, domain, touch)?;
            let change =
                |of: &String| Ok::<f64, String>(domain_loss(&losses, of)? / domain_loss(full, of)? - 1.0);
            let others = text.domains.iter().filter(|other| *other != domain).map(change);
            found.push(Effect {
                touch,
                domain: domain.clone(),
                own: change(domain)?,
                others: others.collect::<Result<_, _>>()?,
            });
        }
    }
    Ok(found)
}

/// The losses of all domains after a touch.
fn touched(run: &Run<'_>, tool: &Tool, text: &Text, domain: &str, touch: Touch) -> Result<Value, String> {
    let subset = run.select(tool, text, domain, OWN)?.display().to_string();
    let checkpoint = run.folder().display().to_string();
    let path = |what: &str| run.path(&format!("{domain}-{what}"));
    if touch == Touch::Remove {
        let rest = path("without.subset.json").display().to_string();
        tool.measure(&path("complement.json"), &["subset", "complement", &subset, "--out", &rest])?;
        let arguments = ["--checkpoint", &checkpoint, "--experts", &rest];
        return run.losses(tool, text, &path("without.json"), &arguments);
    }
    let own = touch == Touch::TuneOwn;
    let name = if own { "own" } else { "all" };
    let out = path(name).display().to_string();
    let mut arguments = vec!["--checkpoint", &checkpoint, "--domain", domain, "--out", &out];
    if own {
        arguments.extend(["--experts", &subset]);
    }
    run.finetune(tool, text, &path(&format!("{name}.tune.json")), &arguments)?;
    run.losses(tool, text, &path(&format!("{name}.json")), &["--checkpoint", &out])
}

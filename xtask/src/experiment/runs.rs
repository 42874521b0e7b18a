//! One run: training, resumed where it was stopped, and everything that is measured on it, each once.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::arms::{Arm, PLAIN, Subsets};
use super::modules::{self, Effect};
use super::statistics::domain_loss;
use super::text::Text;
use super::tool::{self, Times, Tool};

/// Shares of the experts that are kept.
pub const KEEP: [&str; 4] = ["50%", "25%", "12.5%", "6.25%"];
/// As many of the preset's 64 experts.
pub const KEPT: [u64; 4] = [32, 16, 8, 4];
/// How experts are chosen on every seed: as in the release, and by EASY-EP scores.
pub const METHODS: [&str; 2] = ["layerwise", "easy-ep"];
/// Pool sizes at which the whole model is measured, chosen by a document's first tokens.
const POOL_SIZES: &str = "7,15,31,47";
/// Those tokens.
const POOL_PROMPT: &str = "64";

/// What runs are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The experiment.
    Whole,
    /// The same with one seed and three arms.
    Quick,
    /// Looking for a better recipe, on the text to validate on: what the experiment measures on stays unseen.
    Sweep,
}

impl Purpose {
    /// The part of the text that losses are measured on.
    pub const fn part(self) -> &'static str {
        if matches!(self, Self::Sweep) { "valid" } else { "test" }
    }

    /// Settings of all arms, before their own.
    const fn set(self) -> &'static [&'static str] {
        if matches!(self, Self::Sweep) { &[PLAIN] } else { &[] }
    }

    /// Shares at which subsets are tuned.
    const fn tuned(self) -> &'static [&'static str] {
        if matches!(self, Self::Whole) { &KEEP } else { &["12.5%"] }
    }
}

/// One arm with one seed.
pub struct Run<'a> {
    /// The arm.
    pub arm: &'a Arm,
    /// The seed of weights, order and pools.
    pub seed: u64,
    folder: PathBuf,
    /// `Subsets::All` only for the first seed.
    subsets: Subsets,
    purpose: Purpose,
}

/// What was measured on a run; null where it was not.
#[derive(Clone, Default)]
pub struct Measured {
    /// `trainer eval` on the test text.
    pub full: Value,
    /// The same with pools from a prefix.
    pub pools: Value,
    /// `trainer retention`.
    pub retention: Value,
    /// `(domain, share kept, before, after)`: bits per byte before and after tuning.
    pub tuned: Vec<(String, String, f64, f64)>,
    /// What touching one domain's experts does.
    pub effects: Vec<Effect>,
    /// `trainer analyse`.
    pub analysis: Value,
    /// What a subset costs to run.
    pub costs: Vec<Cost>,
    /// Seconds of training, all parts together, and tokens.
    pub training: (f64, u64),
    /// What measuring took.
    pub measuring: Times,
}

/// What it costs to continue a text with some of the experts.
#[derive(Debug, Clone)]
pub struct Cost {
    /// The share that is kept.
    pub keep: String,
    pub ms_per_token: Option<f64>,
    /// The most memory that model and text took, tokenizer and program left out.
    pub memory_bytes: Option<u64>,
    pub file_bytes: u64,
}

impl<'a> Run<'a> {
    /// A run below `out`.
    pub fn new(arm: &'a Arm, seed: u64, out: &Path, purpose: Purpose) -> Self {
        let subsets = if seed > 0 && arm.subsets == Subsets::All { Subsets::Curve } else { arm.subsets };
        Self { arm, seed, folder: out.join("runs").join(format!("{}-{seed}", arm.name)), subsets, purpose }
    }

    /// Its name.
    pub fn name(&self) -> String {
        format!("{}-{}", self.arm.name, self.seed)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file or folder of a measurement.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join("measured").join(name)
    }

    /// Whether the trainer accepts the arm's settings: asked of all arms before the first is trained.
    pub fn check(&self, tool: &Tool) -> Result<(), String> {
        let mut arguments = vec!["plan", "modularity"];
        self.purpose
            .set()
            .iter()
            .chain(self.arm.set)
            .for_each(|setting| arguments.extend(["--set", setting]));
        tool.check(&arguments).map_err(|message| format!("{}: {message}", self.name()))
    }

    /// What it is trained by.
    fn training_arguments(&self, text: &Text, steps: Option<u64>) -> Vec<String> {
        let (seed, out) = (self.seed.to_string(), self.folder.display().to_string());
        let mut arguments: Vec<String> =
            ["pretrain", "modularity", "--out", &out, "--seed", &seed, "--force"].map(Into::into).into();
        let paths = [
            format!("data.path={:?}", text.part("train").display().to_string()),
            format!("data.valid_path={:?}", text.part("valid").display().to_string()),
        ];
        let steps = steps.map(|steps| format!("train.steps={steps}"));
        let given = self.purpose.set().iter().chain(self.arm.set).map(|&setting| setting.to_owned());
        for setting in paths.into_iter().chain(steps).chain(given) {
            arguments.extend(["--set".into(), setting]);
        }
        arguments
    }

    /// Trains, or continues, unless it is done; refuses what was trained by other arguments or on other text.
    pub fn train(&self, tool: &Tool, text: &Text, steps: Option<u64>) -> Result<(), String> {
        let arguments = self.training_arguments(text, steps);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let asked = json!({ "arguments": tool.kept(&arguments), "corpus": text.source });
        // Arguments lie in the run's folder while it trains, and with the measurements when it has ended.
        let (begun, done) = (self.folder.join("training.json"), self.path("trained"));
        if done.exists() {
            return self.refuse_other(&done, &asked);
        }
        // The folder of checkpoints is there from the first step on.
        let saved = fs::read_dir(self.folder.join("checkpoints")).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
        });
        if saved {
            self.refuse_other(&begun, &asked)?;
            tool.run(&["pretrain", "--resume", "--out", &self.folder.display().to_string()])?;
        } else {
            tool::keep(&begun, &asked.to_string())?;
            tool.run(&arguments)?;
        }
        let record = tool::read(&begun)?.map_or_else(String::new, |record| record.to_string());
        tool::keep(&done, &record)
    }

    /// Compares what was trained with what is asked for. Earlier versions kept no arguments, and none of the text's corpus.
    fn refuse_other(&self, record: &Path, asked: &Value) -> Result<(), String> {
        let Some(found) = tool::read(record)? else { return Ok(()) };
        if found["arguments"] != asked["arguments"] {
            return Err(tool::stale(&self.folder, &self.folder, &found["arguments"], &asked["arguments"]));
        }
        let (before, now) = (&found["corpus"], &asked["corpus"]);
        if before == now || before.is_null() || now.is_null() {
            return Ok(());
        }
        let folder = self.folder.display();
        Err(format!(
            "{folder} was trained on another corpus; remove this folder to train it anew, or name another with --out"
        ))
    }

    /// Measures what has not been measured yet.
    pub fn measure(&self, tool: &Tool, text: &Text) -> Result<Measured, String> {
        let found = self.measured(tool, text)?;
        Ok(Measured { measuring: Times::of(&self.folder.join("measured"))?, ..found })
    }

    fn measured(&self, tool: &Tool, text: &Text) -> Result<Measured, String> {
        let checkpoint = self.folder.display().to_string();
        let part = |name: &str| text.part(name).display().to_string();
        let test = part(self.purpose.part());
        let mut found = Measured { training: self.training()?, ..Measured::default() };
        let full = ["eval", "--checkpoint", &checkpoint, "--data", &test, "--batch", "8"];
        found.full = tool.measure(&self.path("full.json"), &full)?;
        if self.subsets == Subsets::None {
            return Ok(found);
        }
        let mut pools = full.to_vec();
        pools.extend(["--pool", "prompt", "--pool-prompt", POOL_PROMPT, "--pool-sizes", POOL_SIZES]);
        found.pools = tool.measure(&self.path("pools.json"), &pools)?;
        found.retention = self.retention(tool, text)?;
        if self.purpose == Purpose::Sweep {
            return Ok(found);
        }
        let out = self.path("analysis").display().to_string();
        let analyse = ["analyse", "--checkpoint", &checkpoint, "--data", &test, "--out", &out];
        found.analysis = tool.measure(&self.path("analysis.json"), &analyse)?;
        if self.subsets == Subsets::All {
            found.tuned = self.tune(tool, text)?;
            found.effects = modules::effects(self, tool, text, &found.full, self.purpose)?;
            found.costs = self.costs(tool, text)?;
        }
        Ok(found)
    }

    /// What subsets cost, by every method that is asked for.
    fn retention(&self, tool: &Tool, text: &Text) -> Result<Value, String> {
        let part = |name: &str| text.part(name).display().to_string();
        let (checkpoint, test, select) =
            (self.folder.display().to_string(), part(self.purpose.part()), part("select"));
        let mut common =
            vec!["retention", "--checkpoint", &checkpoint, "--data", &test, "--select-data", &select];
        KEEP.iter().for_each(|keep| common.extend(["--keep", keep]));
        let methods = METHODS.join(",");
        let (name, more): (_, &[&str]) = match (self.subsets, self.purpose) {
            (Subsets::All, _) => {
                ("retention.json", &["--method", "layerwise,mass,easy-ep,random", "--documents", "1,5,100"])
            }
            (_, Purpose::Sweep) => ("retention.json", &[]),
            _ => ("curves.json", &["--method", &methods]),
        };
        tool.measure(&self.path(name), &[&common, more].concat())
    }

    /// Selects a domain's experts from five documents; returns the file of the subset.
    pub fn select(&self, tool: &Tool, text: &Text, domain: &str, keep: &str) -> Result<PathBuf, String> {
        let name = format!("{domain}-{}", keep.trim_end_matches('%'));
        let subset = self.path(&format!("{name}.subset.json"));
        let (checkpoint, out) = (self.folder.display().to_string(), subset.display().to_string());
        let select_text = text.part("select").display().to_string();
        let arguments = ["select", "--checkpoint", &checkpoint, "--data", &select_text, "--domain", domain];
        let arguments = [&arguments[..], &["--keep", keep, "--out", &out]].concat();
        tool.measure(&self.path(&format!("{name}.select.json")), &arguments)?;
        Ok(subset)
    }

    /// The same, and writes the smaller model; returns its folder.
    fn prune(&self, tool: &Tool, text: &Text, domain: &str, keep: &str) -> Result<PathBuf, String> {
        let subset = self.select(tool, text, domain, keep)?.display().to_string();
        let name = format!("{domain}-{}", keep.trim_end_matches('%'));
        let model = self.path(&name);
        let (checkpoint, out) = (self.folder.display().to_string(), model.display().to_string());
        let arguments =
            ["prune", "--checkpoint", &checkpoint, "--experts", &subset, "--out", &out, "--force"];
        tool.measure(&self.path(&format!("{name}.prune.json")), &arguments)?;
        Ok(model)
    }

    /// Tunes on the part for tuning, with what `arguments` add.
    pub fn finetune(
        &self,
        tool: &Tool,
        text: &Text,
        record: &Path,
        arguments: &[&str],
    ) -> Result<(), String> {
        let (tune, valid) =
            (text.part("tune").display().to_string(), text.part("valid").display().to_string());
        let common = ["finetune", "--data", &tune, "--valid", &valid, "--force", "--lr", "3e-4"];
        let batch = ["--set", "data.sequence=256", "--batch", "8"];
        tool.measure(record, &[&common[..], &batch, arguments].concat()).map(drop)
    }

    /// Losses of all domains on the part to test on, of the checkpoint that `arguments` name.
    pub fn losses(
        &self,
        tool: &Tool,
        text: &Text,
        record: &Path,
        arguments: &[&str],
    ) -> Result<Value, String> {
        let test = text.part("test").display().to_string();
        let common = ["eval", "--data", &test, "--batch", "8", "--sequence", "256"];
        tool.measure(record, &[&common[..], arguments].concat())
    }

    fn tune(&self, tool: &Tool, text: &Text) -> Result<Vec<(String, String, f64, f64)>, String> {
        let mut found = Vec::new();
        for &keep in self.purpose.tuned() {
            for domain in &text.domains {
                let model = self.prune(tool, text, domain, keep)?;
                let name = format!("{domain}-{}", keep.trim_end_matches('%'));
                let (before, tuned) = (model.display().to_string(), self.path(&format!("{name}-tuned")));
                let after = tuned.display().to_string();
                let record = self.path(&format!("{name}.tune.json"));
                let arguments = ["--checkpoint", &before, "--domain", domain, "--out", &after];
                self.finetune(tool, text, &record, &arguments)?;
                let loss = |name: String, checkpoint: &str| {
                    let arguments = ["--checkpoint", checkpoint];
                    domain_loss(&self.losses(tool, text, &self.path(&name), &arguments)?, domain)
                };
                let before = loss(format!("{name}.before.json"), &before)?;
                let after = loss(format!("{name}.after.json"), &after)?;
                found.push((domain.clone(), keep.to_owned(), before, after));
            }
        }
        Ok(found)
    }

    fn costs(&self, tool: &Tool, text: &Text) -> Result<Vec<Cost>, String> {
        let domain = &text.domains[0];
        let mut found = Vec::new();
        for keep in std::iter::once("100%").chain(KEEP) {
            let model = self.prune(tool, text, domain, keep)?;
            let path = model.display().to_string();
            let generated = tool.measure(
                &self.path(&format!("{}.cost.json", keep.trim_end_matches('%'))),
                &["generate", "--checkpoint", &path, "--prompt", "The", "--tokens", "128", "--threads", "1"],
            )?;
            let weights = model.join("model.safetensors");
            let file_bytes =
                fs::metadata(&weights).map_err(|error| format!("{}: {error}", weights.display()))?.len();
            found.push(Cost {
                keep: keep.to_owned(),
                ms_per_token: generated["ms_per_token"].as_f64(),
                memory_bytes: generated["peak_memory_bytes"].as_u64(),
                file_bytes,
            });
        }
        Ok(found)
    }

    /// Seconds and tokens of training, from metrics.jsonl.
    fn training(&self) -> Result<(f64, u64), String> {
        let path = self.folder.join("metrics.jsonl");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let step =
            |line: &str| serde_json::from_str::<Value>(line).ok().filter(|json| json["kind"] == "step");
        let last =
            text.lines().rev().find_map(step).ok_or_else(|| format!("{}: no steps", path.display()))?;
        Ok((last["elapsed_s"].as_f64().unwrap_or(f64::NAN), last["tokens"].as_u64().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::arms::ARMS;
    use crate::experiment::scratch;

    /// EMO below `out`, its text, and the program `binary` for the trainer.
    fn emo<'a>(out: &Path, binary: &str, corpus: &str) -> (Run<'a>, Text, Tool) {
        let arm = ARMS.iter().find(|arm| arm.name == "emo").unwrap();
        let text = Text::made_up(&out.join("text"), json!(corpus));
        (Run::new(arm, 0, out, Purpose::Whole), text, Tool::stand_in(binary, out))
    }

    #[test]
    fn a_run_of_other_arguments_or_text_is_refused_and_the_same_is_not_trained_again() {
        let out = scratch("trained");
        let (run, text, tool) = emo(&out, "true", "one");
        run.train(&tool, &text, Some(10)).unwrap();
        let (run, text, tool) = emo(&out, "false", "one");
        assert_eq!(run.train(&tool, &text, Some(10)), Ok(()));
        let folder = run.folder().display().to_string();
        let refused = run.train(&tool, &text, Some(20)).unwrap_err();
        assert!(
            refused.contains("train.steps=20") && refused.contains(&format!("remove the folder {folder}"))
        );
        let (run, other, tool) = emo(&out, "false", "two");
        let refused = run.train(&tool, &other, Some(10)).unwrap_err();
        assert!(refused.contains("another corpus") && refused.contains(&folder), "{refused}");
        fs::remove_dir_all(out).unwrap();
    }

    #[test]
    fn a_run_that_was_begun_by_other_arguments_is_not_resumed() {
        let out = scratch("begun");
        let (run, text, tool) = emo(&out, "false", "one");
        assert!(run.train(&tool, &text, Some(10)).is_err());
        fs::create_dir_all(run.folder().join("checkpoints/step-00000005")).unwrap();
        let (run, text, tool) = emo(&out, "true", "one");
        assert!(run.train(&tool, &text, Some(20)).unwrap_err().contains("train.steps=20"));
        assert_eq!(run.train(&tool, &text, Some(10)), Ok(()));
        assert!(fs::read_to_string(run.path("trained")).unwrap().contains("train.steps=10"));
        fs::remove_dir_all(out).unwrap();
    }

    #[test]
    fn a_run_of_an_earlier_version_is_taken_as_it_is() {
        let out = scratch("trained-before");
        let (run, text, tool) = emo(&out, "false", "one");
        tool::keep(&run.path("trained"), "").unwrap();
        assert_eq!(run.train(&tool, &text, None), Ok(()));
        fs::remove_dir_all(out).unwrap();
    }
}

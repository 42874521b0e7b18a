//! `trainer analyse`: what the experts of a model do, as `analysis.json` and a page.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use emo::Backend;
use serde::Serialize;

use super::device::{self, Start, Work};
use crate::analysis::cka::Redundancy;
use crate::analysis::clusters::Settings;
use crate::analysis::gather::{self, Gathered, Watched};
use crate::analysis::kmeans::Search;
use crate::analysis::overlap::overlap;
use crate::analysis::sample::{Sample, spread};
use crate::analysis::{
    Analysis, Clusters, DomainSample, FORMAT, LayerAnalysis, LoadPoint, SampleSummary, Stability, load,
};
use crate::checkpoint::state::{STATE, State};
use crate::checkpoint::{folder, hf, tokenizer};
use crate::cli::Analyse;
use crate::data::Tokenizer;
use crate::data::shard::ShardStore;
use crate::data::shard::manifest::MANIFEST;
use crate::error::{Error, Result};
use crate::evaluate::text::{EvaluationText, run_config, sequence};
use crate::evaluate::tokens::check_run;
use crate::metrics::{Record, read_records};
use crate::model::{Capacity, Model, ModelConfig};
use crate::output::out;
use crate::progress::{self, Mode};
use crate::replace::replace_with;
use crate::report;
use crate::small;

/// Points of the load over time.
const LOAD_POINTS: usize = 200;

/// The last line of `--json`.
#[derive(Serialize)]
struct Analysed {
    event: &'static str,
    checkpoint: PathBuf,
    analysis: PathBuf,
    page: PathBuf,
    documents: usize,
    tokens: usize,
    seconds: f64,
    /// Means over the layers.
    information_bits: f64,
    /// The same where the domains of documents are drawn by lot: what of it is chance.
    information_by_lot: f64,
    effective_experts: f64,
    jitter: f64,
    /// Cosine of the experts' use in two domains, mean over pairs; none with one domain.
    domain_similarity: Option<f64>,
    /// Of the clusters; none without.
    silhouette: Option<f64>,
    calinski_harabasz: Option<f64>,
    davies_bouldin: Option<f64>,
    purity: Option<f64>,
    source_entropy_bits: Option<f64>,
}

/// One line of `--json` on the way.
#[derive(Serialize)]
#[serde(tag = "event", rename = "progress")]
struct Event<'a> {
    doing: &'a str,
    done: usize,
    of: usize,
}

/// Analyses.
pub fn run(args: &Analyse) -> Result<()> {
    for (name, value) in
        [("--documents", args.documents), ("--batch", args.batch), ("--sequence", args.sequence.unwrap_or(1))]
    {
        if value == 0 {
            return Err(Error::Usage(format!("{name} must be positive")));
        }
    }
    device::run(args.compute, Analysing(args))
}

struct Analysing<'a>(&'a Analyse);

impl Work for Analysing<'_> {
    const PEAK: bool = false;

    fn on<B: Backend>(self, backend: B, start: Start) -> Result<()> {
        start.note.iter().for_each(|note| tracing::warn!("{note}"));
        analyse(&Arc::new(backend), self.0)
    }
}

/// What is read, and what its tokens mean.
struct Text {
    from: String,
    text: EvaluationText,
    tokenizer: Tokenizer,
    sequence: usize,
}

impl Text {
    fn open(args: &Analyse, checkpoint: &Path, model: &ModelConfig) -> Result<Self> {
        let run = run_config(checkpoint)?;
        let sequence = sequence(args.sequence, run.as_ref(), model);
        let (from, text, tokenizer) = match (&args.data, &run) {
            (Some(path), _) => {
                let text = EvaluationText::open_for(path, model, checkpoint)?;
                let shards = path.join(MANIFEST).exists();
                // Text files are only read for models whose tokens are bytes.
                let tokenizer = if shards { ShardStore::tokenizer(path)? } else { Tokenizer::bytes() };
                (path.display().to_string(), text, tokenizer)
            }
            (None, Some(run)) => {
                check_run(&run.data, model, checkpoint)?;
                let tokenizer = tokenizer::of(checkpoint, None, model)?;
                ("what the run held out".into(), EvaluationText::of_run(run)?, tokenizer)
            }
            (None, None) => {
                return Err(Error::Usage(format!(
                    "{} comes from no run of this program, so what it held out is unknown; give text with --data",
                    checkpoint.display()
                )));
            }
        };
        Ok(Self { from, text, tokenizer, sequence })
    }
}

/// Progress of passes over the sample.
struct Passes {
    work: progress::Work,
    tokens: usize,
    of: usize,
    before: usize,
}

impl Passes {
    /// What goes on between the passes.
    fn say(&mut self, doing: &str) {
        let (done, of) = (self.before, self.of);
        self.work.advance(done as u64, doing, &Event { doing, done, of });
    }

    fn hear<'a>(&'a mut self, doing: &'a str) -> impl FnMut(usize) + 'a {
        let before = self.before;
        self.before += self.tokens;
        move |done| {
            let (done, of) = (before + done, self.of);
            let line = format!("{doing}: {done} of {of} tokens");
            self.work.advance(done as u64, &line, &Event { doing, done, of });
        }
    }
}

fn analyse<B: Backend>(backend: &Arc<B>, args: &Analyse) -> Result<()> {
    let start = Instant::now();
    let other = args.compare.as_deref().map(read).transpose()?;
    let checkpoint = folder::find(&args.checkpoint)?;
    let (config, _) = hf::read_config(&checkpoint)?;
    if config.moe_layers().next().is_none() {
        let message = "is a dense model: it has no experts to look at";
        return Err(Error::Usage(format!("{} {message}", checkpoint.display())));
    }
    let text = Text::open(args, &checkpoint, &config)?;
    let sample = Sample::take(&*text.text.documents, &text.text.domains, args.documents, text.sequence);
    if sample.passages.is_empty() {
        return Err(Error::Usage("there is no text to look at".into()));
    }
    let clustered = if args.clusters > 0 { args.cluster_tokens } else { 0 };
    let watched = Watched::of(&sample, args.prefix, clustered, args.probe);
    let run = run_of(&checkpoint);
    let earlier = earlier(run.as_deref(), &checkpoint, args.earlier)?;

    let tokens = sample.tokens();
    let of = tokens * (1 + earlier.len());
    let work = progress::Work::counting(Mode::choose(args.json), of as u64);
    let mut passes = Passes { work, tokens, of, before: 0 };
    let capacity = gather::capacity(&sample, args.batch.saturating_mul(text.sequence).min(sample.tokens()));
    let mut model = hf::load(&checkpoint, Arc::clone(backend), capacity)?;
    let gathered = gather::gather(&mut model, &sample, &watched, passes.hear("routing"))?;
    let layers = layers(&model, &gathered, &sample, args, &mut passes)?;
    drop(model);
    let stability = stability(backend, &earlier, &gathered, &sample, capacity, &mut passes)?;

    let search = Search::of_the_paper(args.clusters, args.seed);
    let settings = Settings { search, prefix: args.prefix, contexts: 8 };
    passes.say("clustering tokens");
    let clusters = Clusters::of(&gathered, &sample, &watched, &text.tokenizer, &settings);
    let named = run.as_deref().unwrap_or(&checkpoint);
    let analysis = Analysis {
        format: FORMAT.into(),
        model: named.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned()),
        step: step(&checkpoint),
        sample: SampleSummary {
            text: text.from,
            sequence: text.sequence,
            seed: args.seed,
            domains: summaries(&sample),
        },
        layers,
        stability,
        load: load_of(run.as_deref())?,
        clusters,
    };
    let (json, page) = save(&args.out, &analysis, other.as_ref())?;
    let seconds = start.elapsed().as_secs_f64();
    let mean = |of: fn(&LayerAnalysis) -> f64| {
        analysis.layers.iter().map(of).sum::<f64>() / analysis.layers.len() as f64
    };
    let clusters = analysis.clusters.as_ref();
    let summary = Analysed {
        event: "summary",
        checkpoint,
        documents: sample.passages.len(),
        tokens,
        seconds,
        information_bits: mean(|layer| layer.information.bits),
        information_by_lot: mean(|layer| layer.information.by_lot),
        effective_experts: mean(|layer| layer.effective_experts.mean),
        jitter: mean(|layer| layer.jitter.mean),
        domain_similarity: analysis.mean(|layer| layer.similarity.mean_cosine()),
        silhouette: clusters.map(|clusters| clusters.silhouette),
        calinski_harabasz: clusters.and_then(|clusters| clusters.calinski_harabasz),
        davies_bouldin: clusters.and_then(|clusters| clusters.davies_bouldin),
        purity: clusters.map(|clusters| clusters.purity),
        source_entropy_bits: clusters.and_then(|clusters| clusters.source_entropy_bits),
        analysis: json,
        page,
    };
    if !args.json {
        out!("{}", table(&analysis));
    }
    let said = format!(
        "{} passages, {tokens} tokens in {seconds:.1} s: {} and {}",
        summary.documents,
        summary.analysis.display(),
        summary.page.display()
    );
    passes.work.finish(&summary, &said);
    Ok(())
}

/// An analysis of this or another model.
pub(super) fn read(path: &Path) -> Result<Analysis> {
    let text = small::text(path).map_err(Error::io("read", path))?;
    Analysis::parse(&text).map_err(|message| {
        Error::Usage(format!(
            "{} is no analysis.json of `trainer analyse`: {message}; `trainer analyse --checkpoint RUN --out DIR` writes one",
            path.display()
        ))
    })
}

fn save(out: &Path, analysis: &Analysis, other: Option<&Analysis>) -> Result<(PathBuf, PathBuf)> {
    std::fs::create_dir_all(out).map_err(Error::io("create the folder", out))?;
    let (json, page) = (out.join("analysis.json"), out.join("analysis.html"));
    let text = serde_json::to_string(analysis).map_err(|error| Error::Usage(error.to_string()))?;
    replace_with(&json, text.as_bytes()).map_err(Error::io("write", &json))?;
    let html = report::render_analysis(analysis, other);
    replace_with(&page, html.as_bytes()).map_err(Error::io("write", &page))?;
    Ok((json, page))
}

fn summaries(sample: &Sample) -> Vec<DomainSample> {
    let summary = |(index, name): (usize, &String)| {
        let (documents, tokens) = sample.of_domain(index as u32);
        DomainSample { name: name.clone(), documents, tokens }
    };
    sample.domains.iter().enumerate().map(summary).collect()
}

fn layers<B: Backend>(
    model: &Model<B>,
    gathered: &Gathered,
    sample: &Sample,
    args: &Analyse,
    passes: &mut Passes,
) -> Result<Vec<LayerAnalysis>> {
    let width = model.config().width;
    let each = gathered.layers.iter().enumerate().map(|(ordinal, tally)| {
        passes.say(&format!("comparing the experts of layer {}", tally.layer));
        let mut layer = LayerAnalysis::of(tally, sample, args.seed);
        if !tally.inputs.is_empty() {
            let output = |expert| -> Result<Vec<f64>> {
                Ok(model.expert_output(ordinal, expert, &tally.inputs)?.unwrap_or_default())
            };
            layer.redundancy = Some(Redundancy::of_experts(tally.experts, width, output)?);
        }
        Ok(layer)
    });
    each.collect()
}

/// The run that a checkpoint lies in.
fn run_of(checkpoint: &Path) -> Option<PathBuf> {
    let parent = checkpoint.parent()?;
    (parent.file_name()? == "checkpoints").then(|| parent.parent().map(Path::to_path_buf))?
}

fn step(checkpoint: &Path) -> Option<u64> {
    // Another program's checkpoint has no such file.
    if checkpoint.join(STATE).exists() { State::read(checkpoint).ok().map(|state| state.step) } else { None }
}

/// At most `most` checkpoints of the run before this one, evenly spaced, the oldest first.
fn earlier(run: Option<&Path>, checkpoint: &Path, most: usize) -> Result<Vec<(u64, PathBuf)>> {
    let (Some(run), Some(last)) = (run, step(checkpoint)) else { return Ok(Vec::new()) };
    let mut found = folder::list(&run.join("checkpoints"))?;
    found.retain(|&(step, _)| step < last);
    found.reverse();
    Ok(spread(found.len(), most).into_iter().map(|at| found[at].clone()).collect())
}

fn stability<B: Backend>(
    backend: &Arc<B>,
    earlier: &[(u64, PathBuf)],
    last: &Gathered,
    sample: &Sample,
    capacity: Capacity,
    passes: &mut Passes,
) -> Result<Vec<Stability>> {
    let mut chosen = Vec::with_capacity(earlier.len());
    for (step, path) in earlier {
        folder::verify(path)?;
        let mut model = hf::load(path, Arc::clone(backend), capacity)?;
        let found = gather::chosen(&mut model, sample, passes.hear(&format!("routing at step {step}")))?;
        chosen.push(found);
    }
    let lasts: Vec<Vec<u32>> = last.layers.iter().map(|layer| layer.chosen.clone()).collect();
    let each = |a: &[Vec<u32>], b: &[Vec<u32>]| -> Vec<f64> {
        let layers = last.layers.iter().zip(a.iter().zip(b));
        layers.map(|(layer, (a, b))| overlap(a, b, layer.top_k).unwrap_or(0.0)).collect()
    };
    let rows = earlier.iter().enumerate().map(|(index, &(step, _))| Stability {
        step,
        with_last: each(&chosen[index], &lasts),
        with_next: each(&chosen[index], chosen.get(index + 1).unwrap_or(&lasts)),
    });
    Ok(rows.collect())
}

fn load_of(run: Option<&Path>) -> Result<Vec<LoadPoint>> {
    let Some(path) = run.map(|run| run.join("metrics.jsonl")).filter(|path| path.exists()) else {
        return Ok(Vec::new());
    };
    let steps: Vec<_> = read_records(&path)?
        .into_iter()
        .filter_map(|record| match record {
            Record::Step(step) => Some(step),
            Record::Valid(_) => None,
        })
        .collect();
    Ok(load::over_time(&steps, LOAD_POINTS))
}

fn table(analysis: &Analysis) -> String {
    let mut out = format!(
        "{:<6} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "layer", "info bits", "by lot", "effective", "jitter", "domain cos", "CKA"
    );
    for layer in &analysis.layers {
        let or_none = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
        out += &format!(
            "\n{:<6} {:>10.3} {:>10.3} {:>10.1} {:>10.3} {:>10} {:>10}",
            layer.layer,
            layer.information.bits,
            layer.information.by_lot,
            layer.effective_experts.mean,
            layer.jitter.mean,
            or_none(layer.similarity.mean_cosine()),
            or_none(layer.redundancy.as_ref().map(|found| found.mean_unbiased)),
        );
    }
    if let Some(found) = &analysis.clusters {
        let or_none =
            |value: Option<f64>, decimals| value.map_or("-".into(), |value| format!("{value:.decimals$}"));
        out += &format!(
            "\n{} clusters of {} tokens: silhouette {:.3}, Calinski-Harabasz {}, Davies-Bouldin {}\ndomain purity {:.3} (one \
             cluster: {:.3}), source entropy {} bits",
            found.clusters.len(),
            found.tokens,
            found.silhouette,
            or_none(found.calinski_harabasz, 1),
            or_none(found.davies_bouldin, 3),
            found.purity,
            found.purity_of_one,
            or_none(found.source_entropy_bits, 3)
        );
    }
    out
}

//! Every reader of bytes from outside: which file it reads, and what is done with whatever stands in that file's place.
//!
//! The same table drives the seeded run of `fuzz_readers.rs` and the targets of cargo-fuzz in `fuzz/`. The other files around the
//! one that is fed are valid and made by the program's own writers ([`whole`]), so that damage is met as deep as it reaches.

pub mod whole;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trainer::analysis::{Analysis, load};
use trainer::checkpoint::safetensors::Reader as Tensors;
use trainer::checkpoint::{folder, hf, state::State, tokenizer};
use trainer::cluster::{self, Fit, Job};
use trainer::config::Config;
use trainer::data::read::{Keys, Raw, Reading, discover};
use trainer::data::shard::{Manifest, Shard, ShardStore};
use trainer::data::tokenizer::Eos;
use trainer::data::{Documents, Limits, Tokenizer, folder as tree};
use trainer::evaluate::requests::{Benchmark, read::discover as requests_of};
use trainer::evaluate::text::run_config;
use trainer::metrics::{MetricsWriter, read_records};
use trainer::model::{Capacity, Layout};
use trainer::report::{self, RunReport};
use trainer::subset::ExpertSubset;
pub use whole::one_core as backend;

/// Whatever is read, it ends with a value or with a message.
pub type Outcome = Result<(), String>;

/// The memory of small models.
pub const CAPACITY: Capacity =
    Capacity { tokens: 8, longest: 8, domains: 0, redundancy: false, backward: false };

/// One kind of file.
pub struct Reader {
    /// Of the fuzz target too.
    pub name: &'static str,
    /// Valid files of the kind, below the folder that [`whole::fill`] fills.
    pub files: &'static [&'static str],
    /// Reads the file of this path, in that folder.
    pub read: fn(&Path, &Path) -> Outcome,
}

/// All of them.
pub const READERS: &[Reader] = &[
    Reader { name: "jsonl", files: &["text/x.jsonl"], read: records },
    Reader { name: "jsonl_gz", files: &["text/x.jsonl.gz"], read: records },
    Reader { name: "jsonl_zst", files: &["text/x.jsonl.zst"], read: records },
    #[cfg(feature = "parquet")]
    Reader { name: "parquet", files: &["text/x.parquet"], read: records },
    Reader { name: "npy", files: &["text/x.npy"], read: records },
    Reader { name: "text_gz", files: &["text/x.txt.gz"], read: records },
    Reader { name: "text_tree", files: &["tree/a/0.txt"], read: text_tree },
    Reader { name: "tokenizer", files: &["tokenizer/tokenizer.json"], read: tokenizer_file },
    Reader { name: "shard", files: &["shards/shard-00000.tokens"], read: shard },
    Reader {
        name: "shard_manifest",
        files: &["shards/manifest.json", "spelled/manifest.json"],
        read: shard_manifest,
    },
    Reader { name: "safetensors", files: &["model/model.safetensors"], read: tensors },
    Reader { name: "weights_index", files: &["several/model.safetensors.index.json"], read: model },
    Reader {
        name: "model_config",
        files: &[
            "model/config.json",
            "extended/config.json",
            "pruned/config.json",
            "mixtral/config.json",
            "qwen3_moe/config.json",
        ],
        read: model_config,
    },
    Reader {
        name: "checkpoint_manifest",
        files: &["run/checkpoints/step-00000001/manifest.json"],
        read: checkpoint,
    },
    Reader { name: "state", files: &["run/checkpoints/step-00000001/state.json"], read: state },
    Reader {
        name: "saved_config",
        files: &["run/checkpoints/step-00000001/config.toml"],
        read: saved_config,
    },
    Reader { name: "run_config", files: &["run.toml", "based.toml"], read: configuration },
    Reader { name: "cluster", files: &["cluster.toml"], read: devices },
    Reader { name: "subset", files: &["subset.json"], read: subset },
    Reader { name: "requests", files: &["requests/requests.jsonl"], read: requests },
    Reader { name: "task_config", files: &["requests/config.json"], read: task_config },
    Reader { name: "metrics", files: &["run/metrics.jsonl"], read: run },
    Reader { name: "routing", files: &["run/routing.json"], read: run },
    Reader { name: "run_info", files: &["run/run.json"], read: run },
    Reader { name: "analysis", files: &["analysis.json"], read: analysis },
    Reader { name: "retention", files: &["retention.json"], read: retention },
];

/// A folder of valid files in which one at a time is replaced.
pub struct Whole {
    folder: tempfile::TempDir,
}

impl Whole {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        whole::fill(folder.path());
        Self { folder }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// What `reader` makes of `bytes` in the place of `file`, which is whole again afterwards. A message must name the file, or
    /// the key, argument or tensor in it.
    pub fn feed(&self, reader: &Reader, file: &str, bytes: &[u8]) -> Outcome {
        let path = self.path(file);
        let valid = std::fs::read(&path).expect("a file");
        std::fs::write(&path, bytes).expect("written");
        let outcome = (reader.read)(self.folder.path(), &path);
        std::fs::write(&path, valid).expect("written");
        if let Err(message) = &outcome {
            // A file that does not fit another one may be said of either.
            let folder = self.folder.path().to_string_lossy();
            let named = message.contains(&*folder) || message.contains('`') || message.contains("model: ");
            assert!(
                named,
                "{}: the message names neither the file nor what is wrong: {message}",
                reader.name
            );
        }
        outcome
    }
}

/// The body of a fuzz target.
#[allow(dead_code, reason = "the targets are not compiled with the tests")]
pub fn fuzz(name: &str, bytes: &[u8]) {
    thread_local! {
        static WHOLE: Whole = Whole::new();
    }
    let reader = READERS.iter().find(|reader| reader.name == name).expect("a reader");
    WHOLE.with(|whole| drop(whole.feed(reader, reader.files[0], bytes)));
}

fn said<T, E: ToString>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn records(_: &Path, path: &Path) -> Outcome {
    let keys = Keys { text: "text".into(), domain: Some("domain".into()) };
    let reading = Reading { keys, token_width: Some(2), eos: 256, vocabulary: 320 };
    let inputs = said(discover(&[path.to_owned()]))?;
    let (mut count, mut outcome) = (0, Ok(()));
    for raw in said(inputs[0].records(&reading, Arc::default()))? {
        if let Raw::Json(line) = said(raw)? {
            // The command adds the file's name and the line.
            let parsed = reading.keys.parse(&line).map_err(|error| format!("{}: {error}", path.display()));
            outcome = outcome.and(parsed.map(drop));
        }
        count += 1;
        assert!(count < 1 << 24, "an endless file");
    }
    outcome
}

fn text_tree(root: &Path, _: &Path) -> Outcome {
    said(tree::load(&root.join("tree"), &Limits::default()))?;
    said(tree::load(&root.join("tree"), &Limits { max_document_bytes: 64, ..Limits::uncapped() })).map(drop)
}

fn tokenizer_file(_: &Path, path: &Path) -> Outcome {
    let tokenizer = said(Tokenizer::load(&path.to_string_lossy(), Eos::Usual))?;
    let _ = tokenizer.encode("some words, and größer 東湖 <|endoftext|>");
    let _ = tokenizer.decode(&[0, 5, 300, u32::MAX]);
    Ok(())
}

/// Documents of a store, each read whole.
fn read_all(documents: &dyn Documents) {
    let mut ids = Vec::new();
    for index in 0..documents.count() {
        ids.clear();
        documents.append(index, 0..documents.document(index).length, &mut ids);
        let _: u64 = ids.iter().map(|&id| documents.byte_length(id)).sum();
    }
}

fn shard(root: &Path, path: &Path) -> Outcome {
    // Without its tokens being looked at a shard may be wrong, but it is never out of bounds.
    if let Ok(store) = ShardStore::open(&root.join("shards"), &Tokenizer::bytes(), false) {
        read_all(&store);
    }
    said(Shard::open(path).and_then(|shard| shard.verify()))?;
    said(ShardStore::open(&root.join("shards"), &Tokenizer::bytes(), true)).map(drop)
}

fn shard_manifest(_: &Path, path: &Path) -> Outcome {
    let folder = path.parent().expect("a folder");
    let tokenizer = said(ShardStore::tokenizer(folder))?;
    let store = said(ShardStore::open(folder, &tokenizer, true))?;
    read_all(&store);
    let domains = said(Manifest::read(folder))?.domains.len() as u32;
    said(store.renumber((0..domains).rev().collect())).map(|store| read_all(&store))
}

fn tensors(root: &Path, path: &Path) -> Outcome {
    let mut file = said(Tensors::open(path))?;
    let all: Vec<(String, Vec<usize>)> =
        file.tensors().iter().map(|(name, info)| (name.clone(), info.shape.clone())).collect();
    for (name, shape) in all {
        said(file.bytes(&name))?;
        let _ = file.floats(&name, &shape);
        let _ = file.rows(&name, &[0, 1]);
    }
    model(root, path)
}

fn model(_: &Path, path: &Path) -> Outcome {
    let folder = path.parent().expect("a folder");
    said(hf::load(folder, backend(), CAPACITY)).map(drop)
}

fn model_config(root: &Path, path: &Path) -> Outcome {
    let folder = path.parent().expect("a folder");
    let (config, family) = said(hf::read_config(folder))?;
    let layout = said(Layout::new(&config))?;
    let _ = (layout.active(&config), hf::tensors(&config, &layout, family), hf::config_json(&config));
    let _ = ExpertSubset::of_pruned(&config);
    let _ = tokenizer::of(folder, Some(&root.join("tokenizer/tokenizer.json")), &config);
    if folder.join("model.safetensors").exists() { model(root, path) } else { Ok(()) }
}

fn checkpoint(root: &Path, path: &Path) -> Outcome {
    said(folder::verify(path.parent().expect("a folder")))?;
    said(folder::find(&root.join("run"))).map(drop)
}

fn state(_: &Path, path: &Path) -> Outcome {
    let state = said(State::read(path.parent().expect("a folder")))?;
    let _ = state.step + state.carried;
    said(state.to_json()).map(drop)
}

fn saved_config(root: &Path, path: &Path) -> Outcome {
    let folder = path.parent().expect("a folder");
    if let Ok((model, _)) = hf::read_config(folder) {
        let _ = tokenizer::of(folder, None, &model);
    }
    let config = said(run_config(folder))?.ok_or("`config.toml` is not there")?;
    used(&config)?;
    let _ = root;
    Ok(())
}

fn configuration(_: &Path, path: &Path) -> Outcome {
    used(&said(Config::load(&path.to_string_lossy(), &[]))?)
}

/// What a command makes of a configuration before it takes memory.
fn used(config: &Config) -> Outcome {
    let _ = (config.objective(), config.packing(), config.limits(), config.capacity(3));
    let _ = config.train.steps * config.tokens_per_step();
    let model = config.model_config();
    said(config.to_toml())?;
    let layout = said(Layout::new(&model))?;
    let _ = layout.active(&model);
    let again = said(Config::from_toml(&said(config.to_toml())?, &[]))?;
    // NaN is no value of any key, so what is written is what is read.
    assert_eq!(&again, config);
    Ok(())
}

fn devices(_: &Path, path: &Path) -> Outcome {
    let kinds = said(cluster::read(path))?;
    let config = Config::load("tiny", &["train.batch=8".into()]).expect("a preset");
    let job = Job::new(&config).expect("a job");
    kinds.iter().try_for_each(|kind| said(Fit::of(&job, kind)).map(drop))
}

fn subset(_: &Path, path: &Path) -> Outcome {
    let subset = said(ExpertSubset::load(path))?;
    let _ = (subset.words(), subset.kept(), subset.is_full(), subset.to_json());
    let full = ExpertSubset::full(&whole::model()).expect("a subset");
    let _ = (subset.union(&full), full.difference(&subset), subset.intersection(&full));
    let model = whole::model();
    said(ExpertSubset::load_for(path, &model))?;
    let _ = (subset.masks(), model.keep(&subset.kept()));
    Ok(())
}

fn requests(_: &Path, path: &Path) -> Outcome {
    let inputs = said(requests_of(&[path.to_owned()]))?;
    said(Benchmark::read(&inputs[0], Some(1)))?;
    said(Benchmark::read(&inputs[0], None)).map(drop)
}

fn task_config(root: &Path, _: &Path) -> Outcome {
    requests(root, &root.join("requests/requests.jsonl"))
}

fn run(root: &Path, _: &Path) -> Outcome {
    let run = root.join("run");
    let metrics = run.join("metrics.jsonl");
    if let Ok(records) = read_records(&metrics) {
        let steps = records.into_iter().filter_map(|record| match record {
            trainer::metrics::Record::Step(step) => Some(step),
            trainer::metrics::Record::Valid(_) => None,
        });
        let _ = load::over_time(&steps.collect::<Vec<_>>(), 3);
    }
    let report = said(RunReport::gather(&run))?;
    let pages = [report::render(&report), report::render_runs(&[report.clone(), report], None)];
    assert!(pages.iter().all(|page| page.len() < 64 << 20), "a page without measure");
    said(MetricsWriter::resume(&metrics, 2)).map(drop)
}

fn analysis(_: &Path, path: &Path) -> Outcome {
    let text = std::fs::read(path).map_err(|error| format!("`{error}`"))?;
    let text = String::from_utf8_lossy(&text);
    // The command adds the file's name.
    let found = Analysis::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let page = report::render_analysis(&found, Some(&found));
    assert!(page.len() < 64 << 20, "a page without measure");
    Ok(())
}

fn retention(_: &Path, path: &Path) -> Outcome {
    let text = std::fs::read(path).map_err(|error| format!("`{error}`"))?;
    // The command adds the file's name.
    let found = report::ModelRetention::parse(&String::from_utf8_lossy(&text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let page = report::Page { retention: &[found], ..report::Page::default() }.render();
    assert!(page.len() < 64 << 20, "a page without measure");
    Ok(())
}

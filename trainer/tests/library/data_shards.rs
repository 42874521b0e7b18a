//! Token shards: what is written is read, whatever the threads and interruptions; training reads it as it reads memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::shards::*;
use trainer::data::read::discover;
use trainer::data::shard::{Manifest, Shard, ShardStore, build};
use trainer::data::stream::{CYCLE, Portion};
use trainer::data::{
    Batch, BatchStream, ByteTokenizer, DataError, Documents, Packing, TokenStore, Tokenizer, ValidationSet,
};

#[test]
fn every_format_gives_the_same_documents() {
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..300).map(text).collect();
    let plain: String = texts.iter().map(|text| json_line(text, "a")).collect();
    let place = |name: &str| folder.path().join(name);
    fs::write(place("plain.jsonl"), &plain).unwrap();
    fs::write(place("packed.jsonl.gz"), gzip(plain.as_bytes())).unwrap();
    fs::write(place("packed.jsonl.zst"), zstd::encode_all(plain.as_bytes(), 1).unwrap()).unwrap();
    let ids: Vec<u8> = texts
        .iter()
        .flat_map(|text| ByteTokenizer.encode(text).chain([256]).collect::<Vec<_>>())
        .flat_map(|id| (id as u16).to_le_bytes())
        .collect();
    fs::write(place("ids.npy"), ids).unwrap();
    for (index, text) in texts.iter().enumerate() {
        let path = place(&format!("tree/a/{index:03}.txt"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut names = vec!["plain.jsonl", "packed.jsonl.gz", "packed.jsonl.zst", "ids.npy", "tree"];
    if cfg!(feature = "parquet") {
        fs::write(place("rows.parquet"), parquet(&texts, "a")).unwrap();
        names.push("rows.parquet");
    }
    for name in names {
        let mut settings = Settings { shard_tokens: 5000, ..settings() };
        settings.token_width = Some(2);
        if !["ids.npy", "tree"].contains(&name) {
            settings.keys.domain = Some("domain".into());
        }
        let out = place(&format!("{name}.shards"));
        let inputs = discover(&[place(name)]).unwrap();
        let manifest = build::build(&out, &inputs, &Tokenizer::bytes(), &settings, |_| {}).unwrap();
        assert!(manifest.shards.len() > 1 && manifest.domains.len() == 1, "{name}");
        assert_eq!(manifest.domains[0].name, if name == "ids.npy" { "ids" } else { "a" });
        let store = ShardStore::open(&out, &Tokenizer::bytes(), true).unwrap();

        let found: Vec<String> = documents(&store).iter().map(|ids| ByteTokenizer.decode(ids)).collect();
        assert_eq!(found, texts, "{name}");
    }
}

#[test]
fn shards_do_not_depend_on_threads_or_interruptions() {
    let folder = tempfile::tempdir().unwrap();
    let input = corpus(folder.path());
    let inputs = discover(&[input]).unwrap();
    let run = |out: &Path, threads: usize, stop_after: Option<u32>| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut calls = 0;
        pool.install(|| {
            build::build(out, &inputs, &Tokenizer::bytes(), &settings(), |_| {
                calls += 1;
                // The nearest thing to a kill within one process: nothing after this point runs.
                assert_ne!(Some(calls), stop_after, "stopped");
            })
        })
    };
    let whole = folder.path().join("whole");
    run(&whole, 1, None).unwrap();
    let reference = files(&whole);
    assert!(reference.len() > 5);
    let three = folder.path().join("three");
    run(&three, 3, None).unwrap();
    assert_eq!(files(&three), reference);
    for stop in 1..4 {
        let broken = folder.path().join(format!("broken-{stop}"));
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&broken, 2, Some(stop))));
        assert!(stopped.is_err(), "there are more than {stop} chunks");
        let manifest = Manifest::read(&broken).unwrap();
        assert!(!manifest.complete);
        let error = ShardStore::open(&broken, &Tokenizer::bytes(), false).unwrap_err().to_string();
        assert!(error.contains("unfinished") && error.contains("again"), "{error}");
        // What an interruption leaves half-written is overwritten.
        fs::write(broken.join(format!("shard-{:05}.tokens.tmp", manifest.shards.len())), b"half").unwrap();
        run(&broken, 2, None).unwrap();
        let mut found = files(&broken);
        found.retain(|(name, _)| !name.ends_with(".tmp"));
        assert_eq!(found, reference, "stopped after {stop}");
    }
    // A finished build is left alone; another one does not mix with it; a damaged one is not gone on with.
    assert_eq!(run(&whole, 2, None).unwrap(), Manifest::read(&whole).unwrap());
    let other = Settings { shard_tokens: 99, ..settings() };
    let error = build::build(&whole, &inputs, &Tokenizer::bytes(), &other, |_| {}).unwrap_err().to_string();
    assert!(error.contains("other settings") && error.contains("--force"), "{error}");
    let damaged = whole.join("shard-00001.tokens");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let error = run(&whole, 2, None).unwrap_err().to_string();
    assert!(error.contains("shard-00001.tokens") && error.contains("checksum"), "{error}");
    build::remove(&whole).unwrap();
    run(&whole, 2, None).unwrap();
    assert_eq!(files(&whole), reference);
}

#[test]
fn two_builders_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = discover(&[corpus(folder.path())]).unwrap();
    let out = folder.path().join("out");
    let mut second = None;
    build::build(&out, &inputs, &Tokenizer::bytes(), &settings(), |_| {
        let other = build::build(&out, &inputs, &Tokenizer::bytes(), &settings(), |_| {});
        second = Some(other.unwrap_err().to_string());
    })
    .unwrap();
    assert!(second.unwrap().contains("another process"));
}

/// The same packing serves both: batch for batch, the shards give what the memory gives.
#[test]
fn training_reads_shards_as_it_reads_memory() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let inputs = discover(&[corpus(folder.path())]).unwrap();
    build::build(&out, &inputs, &Tokenizer::bytes(), &settings(), |_| {}).unwrap();
    let shards = ShardStore::open(&out, &Tokenizer::bytes(), true).unwrap();
    let mut memory = TokenStore::new(ByteTokenizer::EOS);
    for index in 0..shards.count() {
        let document = shards.document(index);
        let mut ids = Vec::new();
        shards.append(index, 0..document.length - 1, &mut ids);
        memory.push(ids, document.uid, document.domain).unwrap();
    }
    let packing = Packing::new(3, 40, 7);
    let mut a = BatchStream::new(Arc::new(shards.clone()), packing).unwrap();
    let mut b = BatchStream::new(Arc::new(memory.clone()), packing).unwrap();
    let (mut left, mut right) = (Batch::default(), Batch::default());
    let epoch = a.rows_per_epoch() / 3;
    for index in [0, 1, 2, epoch - 1, epoch, epoch + 1, 3 * epoch, 5] {
        a.fill(index, &mut left);
        b.fill(index, &mut right);
        assert_eq!(left, right, "batch {index}");
    }
    let one = ValidationSet::new(Arc::new(shards), 4, &packing, 9).unwrap();
    let other = ValidationSet::new(Arc::new(memory), 4, &packing, 9).unwrap();
    for domain in 0..4 {
        for index in 0..one.batches(domain) {
            let asked = one.fill(domain, index, &mut left).unwrap();
            assert_eq!(asked, other.fill(domain, index, &mut right).unwrap());
            assert_eq!(left, right);
        }
    }
}

/// Sources of one token each (1, 2, 3), so that a row says where it comes from.
fn portions(weights: [f64; 3]) -> Vec<Portion> {
    (1..=3)
        .zip(weights)
        .map(|(token, weight)| {
            let mut store = TokenStore::new(ByteTokenizer::EOS);
            for document in 0..50u32 {
                let uid = u64::from(token * 1000 + document);
                store.push(vec![token; 5 + document as usize % 9], uid, 0).unwrap();
            }
            Portion { name: format!("source {token}"), documents: Arc::new(store), weight, max_epochs: 0.0 }
        })
        .collect()
}

#[test]
fn a_mixture_gives_every_source_its_share_and_reads_each_epoch_whole() {
    let packing = Packing::new(16, 8, 3);
    let mut stream = BatchStream::mixture(&portions([5.0, 3.0, 0.5]), packing).unwrap();
    let mut batch = Batch::default();
    let mut rows = [0usize; 4];
    let mut seen = vec![Vec::new(); 4];
    for index in 0..(CYCLE / 16) as u64 {
        stream.fill(index, &mut batch);
        for row in batch.ids.chunks(8) {
            let source = *row.iter().find(|&&id| id != ByteTokenizer::EOS).unwrap() as usize;
            assert!(
                row.iter().all(|&id| id == ByteTokenizer::EOS || id as usize == source),
                "one source a row"
            );
            rows[source] += 1;
            seen[source].extend_from_slice(row);
        }
    }
    for (source, share) in [(1, 5.0 / 8.5), (2, 3.0 / 8.5), (3, 0.5 / 8.5)] {
        let wanted = CYCLE as f64 * share;
        assert!((rows[source] as f64 - wanted).abs() <= 3.0, "source {source}: {} of {wanted}", rows[source]);
        // Whole epochs: every epoch has each document's end once, but for those in the filling of its last row.
        let tokens: usize = (0..50).map(|document| 6 + document % 9).sum();
        let epoch = tokens.div_ceil(8) * 8;
        let ends = |ids: &[u32]| ids.iter().filter(|&&id| id == ByteTokenizer::EOS).count();
        for ids in seen[source].chunks_exact(epoch) {
            assert!((50..=52).contains(&ends(ids)), "{} ends", ends(ids));
        }
    }
    // Any batch alone is what it is in a row of them.
    let mut straight = BatchStream::mixture(&portions([5.0, 3.0, 0.5]), packing).unwrap();
    let mut other = Batch::default();
    for index in [5000, 3, 4096, 4095, 12345] {
        stream.fill(index, &mut batch);
        BatchStream::mixture(&portions([5.0, 3.0, 0.5]), packing).unwrap().fill(index, &mut other);
        assert_eq!(batch, other);
        straight.fill(index, &mut other);
        assert_eq!(batch, other);
    }
}

#[test]
fn a_mixture_refuses_too_many_epochs_and_another_mixtures_position() {
    let packing = Packing::new(16, 8, 3);
    let mut limited = portions([1.0, 1.0, 2.0]);
    limited[2].max_epochs = 2.0;
    let stream = BatchStream::mixture(&limited, packing).unwrap();
    let passes = stream.passes(10).unwrap();
    assert!((passes[2].share - 0.5).abs() < 1e-4 && passes[2].epochs < 2.0, "{passes:?}");
    let error = stream.passes(1000).unwrap_err().to_string();
    assert!(error.contains("source 3") && error.contains("max_epochs"), "{error}");
    let position = stream.position(7);
    assert_eq!(stream.resume(position).unwrap(), 7);
    let other = BatchStream::mixture(&portions([1.0, 1.0, 2.1]), packing).unwrap();
    assert!(matches!(other.resume(position), Err(DataError::Position { .. })));
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(BatchStream::mixture(&portions([1.0, weight, 1.0]), packing).is_err(), "{weight}");
    }
    assert!(BatchStream::mixture(&portions([f64::MAX, f64::MAX, f64::MIN_POSITIVE]), packing).is_ok());
    assert!(BatchStream::mixture(&[], packing).is_err());
}

#[test]
fn settings_decide_domains_and_what_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.jsonl");
    fs::write(
        &path,
        "{\"text\":\"one\"}\n\nnot json\n{\"text\":\"\"}\n{\"text\":\"two\",\"n\":{\"text\":[1]}}\n",
    )
    .unwrap();
    let inputs = discover(std::slice::from_ref(&path)).unwrap();
    let build = |name: &str, settings: &Settings| {
        build::build(&folder.path().join(name), &inputs, &Tokenizer::bytes(), settings, |_| {})
    };
    let error = build("a", &settings()).unwrap_err().to_string();
    assert!(error.contains("some.jsonl") && error.contains("line 3"), "{error}");
    let lenient = Settings { skip_invalid: true, ..settings() };
    let manifest = build("b", &lenient).unwrap();
    assert_eq!((manifest.documents, manifest.skipped.empty, manifest.skipped.invalid), (2, 2, 1));
    assert_eq!(manifest.domains[0].name, "some");
    let named = Settings { domain: Some("mine".into()), ..lenient };
    assert_eq!(build("c", &named).unwrap().domains[0].name, "mine");
}

#[test]
fn the_format_is_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    fs::write(&path, "{\"text\":\"AB\"}\n{\"text\":\"C\"}\n").unwrap();
    let inputs = discover(&[path]).unwrap();
    let out = folder.path().join("out");
    build::build(&out, &inputs, &Tokenizer::bytes(), &settings(), |_| {}).unwrap();
    let bytes = fs::read(out.join("shard-00000.tokens")).unwrap();
    assert_eq!(&bytes[..16], b"emotoken\x01\0\0\0\x02\0\0\0");
    assert_eq!(&bytes[64..74], [65, 0, 66, 0, 0, 1, 67, 0, 0, 1]);
    assert_eq!(
        &bytes[74..88],
        [0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
        "padding, then the end of document 0"
    );
    assert_eq!(bytes.len(), 80 + 2 * 24);
    assert_eq!(crc32fast::hash(&bytes[64..74]).to_le_bytes(), bytes[52..56]);
    let shard = Shard::open(&out.join("shard-00000.tokens")).unwrap();
    assert_eq!((shard.documents(), shard.text_bytes(0), shard.text_bytes(1)), (2, 2, 1));
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path: PathBuf| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

//! Tokenizers: ours trained, and two published ones against ids that another implementation made.

use std::path::{Path, PathBuf};

use crate::shards::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use trainer::data::Tokenizer;
use trainer::data::read::discover;
use trainer::data::shard::{ShardStore, build};
use trainer::data::tokenizer::{Eos, hex};

#[test]
fn a_trained_tokenizer_is_deterministic_lossless_and_knows_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = small_tokenizer(folder.path());
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| small_tokenizer(folder.path())), file, "the same on one thread");
    let tokenizer = Tokenizer::from_json(Path::new("tokenizer.json"), file, Eos::Usual).unwrap();
    assert_eq!((tokenizer.identity().vocabulary, tokenizer.identity().eos), (300, 0));
    let lengths = tokenizer.byte_lengths();
    assert_eq!((lengths[0], lengths[1], lengths.len()), (0, 0, 300), "special tokens stand for no text");
    let mut merged = 0;
    for index in 0..500 {
        // Text that spells a special token is text.
        let text = format!("{} <|endoftext|> 🦀\u{301} {}", text(index), text(index + 1));
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(tokenizer.decode(&ids), text);
        assert_eq!(ids.iter().map(|&id| lengths[id as usize] as usize).sum::<usize>(), text.len());
        merged += text.len() - ids.len();
    }
    assert!(merged > 500, "{merged}");
}

#[test]
fn shards_of_a_trained_tokenizer_decode_to_their_text() {
    let folder = tempfile::tempdir().unwrap();
    small_tokenizer(folder.path());
    let name = folder.path().join("tokenizer.json");
    let tokenizer = Tokenizer::load(&name.to_string_lossy(), Eos::Usual).unwrap();
    let inputs = discover(&[folder.path().join("sample.jsonl")]).unwrap();
    let out = folder.path().join("out");
    let manifest = build::build(&out, &inputs, &tokenizer, &settings(), |_| {}).unwrap();
    // The folder carries its tokenizer.
    let tokenizer = ShardStore::tokenizer(&out).unwrap();
    let store = ShardStore::open(&out, &tokenizer, true).unwrap();
    let found: Vec<String> = documents(&store).iter().map(|ids| tokenizer.decode(ids)).collect();
    assert_eq!(found, (0..400).map(text).collect::<Vec<_>>());
    assert!(manifest.tokens < manifest.text_bytes);
}

/// `EMO_TOKENIZERS`, or where `cargo xtask corpus` puts them.
fn published() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/corpus/tokenizers");
    std::env::var_os("EMO_TOKENIZERS").map_or_else(|| PathBuf::from(default), PathBuf::from)
}

/// dolma2 and GPT-NeoX as they ship in a Python package, against ids by the Python package `tokenizers` (whose regular
/// expressions are another engine's).
#[test]
fn published_tokenizers_give_the_published_ids() {
    let expected: Value = serde_json::from_str(include_str!("../tokenizers/expected.json")).unwrap();
    let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for (name, expected) in expected["tokenizers"].as_object().unwrap() {
        let path = published().join(name);
        let Ok(file) = std::fs::read(&path) else {
            println!(
                "NOT TESTED: {} is not there; `cargo xtask corpus --tokenizers` fetches it",
                path.display()
            );
            continue;
        };
        assert_eq!(hex(&Sha256::digest(&file)), expected["sha256"].as_str().unwrap(), "{name}");
        let tokenizer = Tokenizer::from_json(&path, file, Eos::Usual).unwrap();
        let identity = tokenizer.identity();
        assert_eq!(u64::from(identity.eos), expected["eos"].as_u64().unwrap());
        assert_eq!(u64::from(identity.vocabulary), expected["vocabulary"].as_u64().unwrap());
        for (text, ids) in texts.iter().zip(expected["ids"].as_array().unwrap()) {
            let ids: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{name}: {text:?}");
            // GPT-NeoX composes letters and accents; the other gives the very text back.
            if name.contains("dolma2") {
                assert_eq!(tokenizer.decode(&ids), *text);
                let lengths = tokenizer.byte_lengths();
                assert_eq!(ids.iter().map(|&id| lengths[id as usize] as usize).sum::<usize>(), text.len());
            }
        }
        println!("tested: {name}");
    }
}

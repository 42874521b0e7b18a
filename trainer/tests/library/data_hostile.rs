//! Damaged and hostile files: every reader answers with an error that names the file, or with documents that are whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::damage::damage;
use crate::shards::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use trainer::data::read::{Keys, Raw, Reading, discover};
use trainer::data::shard::{Manifest, Shard, ShardStore, build};
use trainer::data::tokenizer::Eos;
use trainer::data::{DataError, Documents, Tokenizer};

fn reading() -> Reading {
    let keys = Keys { text: "text".into(), domain: Some("domain".into()) };
    Reading { keys, token_width: Some(2), eos: 256, vocabulary: 320 }
}

/// All records of a file, parsed, or the first error.
fn read(path: &Path) -> Result<usize, DataError> {
    let inputs = discover(&[path.to_owned()])?;
    let reading = reading();
    let mut count = 0;
    for raw in inputs[0].records(&reading, Arc::new(AtomicU64::new(0)))? {
        if let Raw::Json(line) = raw? {
            let _ = reading.keys.parse(&line);
        }
        count += 1;
        assert!(count < 1 << 20, "bounded");
    }
    Ok(count)
}

#[test]
fn readers_survive_any_damage() {
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..80).map(text).collect();
    let plain: String = texts.iter().map(|text| json_line(text, "a")).collect();
    let ids: Vec<u8> = (0..600u32)
        .map(|id| if id % 37 == 36 { 256 } else { id % 256 })
        .flat_map(|id| (id as u16).to_le_bytes())
        .collect();
    let mut files = vec![
        ("x.jsonl", plain.clone().into_bytes()),
        ("x.jsonl.gz", gzip(plain.as_bytes())),
        ("x.jsonl.zst", zstd::encode_all(plain.as_bytes(), 1).unwrap()),
        ("x.npy", ids),
        ("x.txt.gz", gzip(texts[9].as_bytes())),
    ];
    if cfg!(feature = "parquet") {
        files.push(("x.parquet", parquet(&texts, "a")));
    }
    for (name, whole) in files {
        let path = folder.path().join(name);
        fs::write(&path, &whole).unwrap();
        let records = read(&path).unwrap();
        let (mut errors, cases) = (0, 400);
        for case in 0..cases {
            fs::write(&path, damage(&whole, case)).unwrap();
            match read(&path) {
                Ok(found) => assert!(found <= 2 * records + 600, "{name} case {case}: {found}"),
                Err(error) => {
                    assert!(error.to_string().contains(name), "{name} case {case}: {error}");
                    errors += 1;
                }
            }
        }
        // Plain text has no checksum; the compressed and structured formats must notice much of it.
        let least = match name {
            "x.jsonl" => 0,
            "x.npy" => cases / 10,
            _ => cases / 5,
        };
        assert!(errors >= least, "{name}: only {errors} of {cases} noticed");
    }
}

/// A finished folder of shards over text, and the path of its first shard.
fn shards_of(folder: &Path) -> (PathBuf, PathBuf) {
    let path = folder.join("x.jsonl");
    fs::write(&path, (0..60).map(|index| json_line(&text(index), "a")).collect::<String>()).unwrap();
    let out = folder.join("out");
    let inputs = discover(&[path]).unwrap();
    build::build(&out, &inputs, &Tokenizer::bytes(), &settings(), |_| {}).unwrap();
    let shard = out.join("shard-00000.tokens");
    (out, shard)
}

/// Every change of a shard is noticed: by its size, or by one of the three checksums.
#[test]
fn any_damage_to_a_shard_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (out, path) = shards_of(folder.path());
    let whole = fs::read(&path).unwrap();
    let padding = {
        let tokens = u64::from_le_bytes(whole[16..24].try_into().unwrap()) as usize * 2;
        64 + tokens..64 + tokens.next_multiple_of(8)
    };
    for case in 0..800 {
        let damaged = damage(&whole, case);
        let changed = (0..whole.len()).any(|at| !padding.contains(&at) && damaged.get(at) != whole.get(at));
        fs::write(&path, &damaged).unwrap();
        let outcome = ShardStore::open(&out, &Tokenizer::bytes(), true);
        match outcome {
            Ok(_) => assert!(!changed, "case {case} went unnoticed"),
            Err(error) => assert!(error.to_string().contains("shard-00000"), "case {case}: {error}"),
        }
        // Without reading the tokens a shard may be wrong, but it is never out of bounds.
        if let Ok(shard) = Shard::open(&path) {
            let mut ids = Vec::new();
            for document in 0..shard.documents() {
                shard.append(document, 0..shard.document(document).length, &mut ids);
            }
        }
    }
}

/// Headers that lie consistently: checksums renewed after every change.
#[test]
fn lying_headers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_, path) = shards_of(folder.path());
    let whole = fs::read(&path).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut refused = 0;
    for _ in 0..600 {
        let mut bytes = whole.clone();
        let field = 8 + 4 * (random.next_u64() % 13) as usize;
        let value = [0u32, 1, 2, 4, 255, 256, 0x7fff_ffff, u32::MAX, random.next_u64() as u32];
        let value = value[(random.next_u64() % 9) as usize];
        bytes[field..field + 4].copy_from_slice(&value.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        refused += usize::from(Shard::open(&path).and_then(|shard| shard.verify()).is_err());
    }
    assert!(refused > 400, "{refused}");

    // Ids beyond the vocabulary, an end of document in the middle, ends that go backwards, a domain too many.
    let tokens = u64::from_le_bytes(whole[16..24].try_into().unwrap()) as usize;
    let table = 64 + (2 * tokens).next_multiple_of(8);
    for (at, value, words) in [
        (70, &[0x40u8, 0x01][..], "ids below 320"),
        (70, &[0x00, 0x01], "end-of-document id 256"),
        (table + 24, &[0; 8], "an end above"),
        (table + 16, &[9, 0, 0, 0], "a domain below 1"),
        (table + 24 * 59, &[0xff; 8], "an end above"),
    ] {
        let mut bytes = whole.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        let (tokens_crc, documents_crc) =
            (crc32fast::hash(&bytes[64..64 + 2 * tokens]), crc32fast::hash(&bytes[table..]));
        bytes[52..56].copy_from_slice(&tokens_crc.to_le_bytes());
        bytes[56..60].copy_from_slice(&documents_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let error = Shard::open(&path).and_then(|shard| shard.verify()).unwrap_err().to_string();
        assert!(error.contains("shard-00000") && error.contains(words), "{error}");
    }
}

#[test]
fn manifests_survive_any_damage_and_point_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = shards_of(folder.path());
    let path = out.join("manifest.json");
    let whole = fs::read(&path).unwrap();
    for case in 0..300 {
        fs::write(&path, damage(&whole, case)).unwrap();
        if let Err(error) = ShardStore::open(&out, &Tokenizer::bytes(), false) {
            assert!(error.to_string().contains("out"), "{error}");
        }
    }
    let text = String::from_utf8(whole).unwrap();
    for name in ["../x", "/etc/passwd", "a/b", ".hidden", ""] {
        fs::write(&path, text.replace("shard-00000.tokens", name)).unwrap();
        let error = Manifest::read(&out).unwrap_err().to_string();
        assert!(error.contains("in this folder"), "{error}");
    }
}

#[test]
fn ids_and_widths_of_token_files_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let fails = |bytes: &[u8], width: Option<u32>, words: &str| {
        fs::write(&path, bytes).unwrap();
        let reading = Reading { token_width: width, ..reading() };
        let inputs = discover(std::slice::from_ref(&path)).unwrap();
        let records = inputs[0].records(&reading, Arc::default());
        let error =
            records.and_then(|records| records.collect::<Result<Vec<_>, _>>()).unwrap_err().to_string();
        assert!(error.contains("x.npy") && error.contains(words), "{error}");
    };
    fails(&[1, 0, 2, 0, 64, 1], Some(2), "id 2: expected ids below the tokenizer's 320, found 320");
    fails(&[1, 0, 2, 0, 64], Some(2), "multiple of 2");
    fails(&[1, 0, 2, 0, 64, 0], Some(4), "multiple of 4");
    fails(&[1, 0, 2, 0], Some(4), "found 131073");
    fails(&[1, 0], None, "--npy-dtype");
    fails(b"\x93NUMPY\x01\0", Some(2), "header");
}

#[test]
fn tokenizers_survive_any_damage() {
    let folder = tempfile::tempdir().unwrap();
    let whole = small_tokenizer(folder.path());
    let path = folder.path().join("tokenizer.json");
    let mut refused = 0;
    for case in 0..400 {
        match Tokenizer::from_json(&path, damage(&whole, case), Eos::Usual) {
            Ok(tokenizer) => {
                let _ = tokenizer.encode("some words, and größer 東湖");
                let _ = tokenizer.decode(&[0, 5, 300, u32::MAX]);
            }
            Err(error) => {
                assert!(error.to_string().contains("tokenizer.json"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 150, "{refused}");
    for (text, words) in [
        ("", "Hugging Face"),
        ("{}", "Hugging Face"),
        ("[[[[", "Hugging Face"),
        (r#"{"model":{"type":"WordLevel","vocab":{"a":4294967295},"unk_token":"a"}}"#, "below 2^24"),
        (r#"{"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#, "--eos"),
    ] {
        let error = Tokenizer::from_json(&path, text.into(), Eos::Usual).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains(words), "{error}");
    }
}

#[test]
fn another_tokenizers_shards_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = shards_of(folder.path());
    let path = folder.path().join("tokenizer.json");
    let tokenizer = Tokenizer::from_json(&path, small_tokenizer(folder.path()), Eos::Usual).unwrap();
    let error = ShardStore::open(&out, &tokenizer, false).unwrap_err().to_string();
    assert!(error.contains("manifest.json") && error.contains("bytes, 320 ids"), "{error}");
    assert!(ShardStore::open(&out, &Tokenizer::bytes(), false).is_ok_and(|store| store.count() == 60));
}

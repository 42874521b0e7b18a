//! Ways to damage a file: blindly, and by its structure. Both follow from the number of the case.
#![allow(dead_code, reason = "each test file uses its part")]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;

/// Changes of `bytes`: cuts, flipped bits, bytes set to extremes, runs overwritten, by a seeded generator.
pub fn damage(bytes: &[u8], case: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(case);
    let mut bytes = bytes.to_vec();
    let mut at = |length: usize| (random.next_u64() % length.max(1) as u64) as usize;
    match case % 4 {
        0 => bytes.truncate(at(bytes.len())),
        1 => {
            let place = at(bytes.len());
            bytes[place] ^= 1 << at(8);
        }
        2 => {
            for _ in 0..=at(4) {
                let place = at(bytes.len());
                bytes[place] = [0, 0x7f, 0x80, 0xff][at(4)];
            }
        }
        _ => {
            let (from, to) = (at(bytes.len()), at(bytes.len()));
            let value = at(256) as u8;
            bytes[from.min(to)..from.max(to).min(from.min(to) + 16)].fill(value);
        }
    }
    bytes
}

/// A file of a known structure with one part of it removed, replaced or nested deep; the rest stays valid. Nothing for other
/// formats.
pub fn reshape(name: &str, bytes: &[u8], case: u64) -> Option<Vec<u8>> {
    let mut random = ChaCha8Rng::seed_from_u64(case ^ 0x5eed);
    let mut below = |count: usize| (random.next_u64() % count.max(1) as u64) as usize;
    match name.rsplit_once('.')?.1 {
        "json" => json(bytes, &mut below),
        "jsonl" => {
            let mut lines: Vec<Vec<u8>> =
                bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
            let line = below(lines.len());
            lines[line] = json(&lines[line], &mut below)?;
            lines[line].push(b'\n');
            Some(lines.concat())
        }
        "toml" => toml(bytes, &mut below),
        "safetensors" => {
            let length = u64::from_le_bytes(bytes.first_chunk().copied()?) as usize;
            let (header, data) = bytes.get(8..)?.split_at_checked(length)?;
            let header = json(header, &mut below)?;
            Some([&(header.len() as u64).to_le_bytes()[..], &header, data].concat())
        }
        _ => None,
    }
}

/// What is put in a value's place.
fn nasty(pick: usize) -> String {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    match pick {
        0 => "null".into(),
        1 => "true".into(),
        2 => "0".into(),
        3 => "1".into(),
        4 => "-1".into(),
        5 => "65536".into(),
        6 => "2147483648".into(),
        7 => "4294967295".into(),
        8 => "4503599627370496".into(),
        9 => "9223372036854775807".into(),
        10 => "18446744073709551615".into(),
        11 => "-9223372036854775808".into(),
        12 => "1e308".into(),
        13 => "5e-324".into(),
        14 => "-0.0".into(),
        15 => "1e999".into(),
        16 => "NaN".into(),
        17 => "\"\"".into(),
        18 => "\"../../../../etc/hostname\"".into(),
        19 => "\"\\u0000\\ud83d\\ude00\"".into(),
        20 => format!("\"{}\"", "x".repeat(10_000)),
        21 => "[]".into(),
        22 => "{}".into(),
        23 => deep(100),
        24 => deep(100_000),
        25 => format!("[{}0]", "0,".repeat(10_000)),
        _ => "[4503599627370496, 4503599627370496]".into(),
    }
}

/// One node of a document changed.
fn json(bytes: &[u8], below: &mut dyn FnMut(usize) -> usize) -> Option<Vec<u8>> {
    const MARK: &str = "the value that is replaced";
    let mut document: Value = serde_json::from_slice(bytes).ok()?;
    let mut places = Vec::new();
    pointers(&document, String::new(), &mut places);
    let place = places[below(places.len())].clone();
    let other = places[below(places.len())].clone();
    let with = match below(8) {
        0 => {
            let (parent, key) = place.rsplit_once('/')?;
            match document.pointer_mut(parent)? {
                Value::Object(map) => drop(map.remove(&key.replace("~1", "/").replace("~0", "~"))),
                Value::Array(items) => drop(items.remove(key.parse().ok()?)),
                _ => return None,
            }
            return serde_json::to_vec(&document).ok();
        }
        // Another value of the same document: of the right look, in the wrong place.
        1 | 2 => document.pointer(&other)?.to_string(),
        _ => nasty(below(27)),
    };
    // As text: what is put there need not be a value that serde_json can hold.
    *document.pointer_mut(&place)? = Value::String(MARK.into());
    Some(document.to_string().replacen(&format!("\"{MARK}\""), &with, 1).into_bytes())
}

/// A pointer to every node of a document.
fn pointers(value: &Value, here: String, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                pointers(value, format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, format!("{here}/{index}"), all);
            }
        }
        _ => {}
    }
    all.push(here);
}

/// One line of a TOML file changed.
fn toml(bytes: &[u8], below: &mut dyn FnMut(usize) -> usize) -> Option<Vec<u8>> {
    let text = str::from_utf8(bytes).ok()?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let place = below(lines.len());
    let line = lines[place].clone();
    match (below(8), line.split_once('=')) {
        (0, _) => drop(lines.remove(place)),
        (1, _) => lines.insert(place, line),
        (2, Some((_, value))) => lines[place] = format!("no_such_key ={value}"),
        (_, Some((key, _))) => {
            let value = match below(30) {
                27 => "nan".into(),
                28 => "-inf".into(),
                29 => "1979-05-27".into(),
                pick => nasty(pick),
            };
            lines[place] = format!("{key}= {value}");
        }
        (_, None) => lines[place] = format!("{line}{line}"),
    }
    Some((lines.join("\n") + "\n").into_bytes())
}

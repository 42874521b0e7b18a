//! Small corpora in every format.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use trainer::data::Documents;
use trainer::data::read::Keys;
pub use trainer::data::shard::build::Settings;

/// The text of document `index`: all lengths from 1 byte, some beyond ASCII.
pub fn text(index: usize) -> String {
    let words = ["expert", " router", "\n", " größer", " 東湖", " \"quoted\\", " token"];
    let mut text = format!("{index}");
    for word in 0..index * 7 % 50 {
        text.push_str(words[(index * 31 + word * word) % words.len()]);
    }
    text
}

pub fn json_line(text: &str, domain: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!("{{\"id\":\"x\",\"domain\":\"{domain}\",\"text\":{text}}}\n")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder of JSON lines and texts: enough for several chunks and shards.
pub fn corpus(folder: &Path) -> PathBuf {
    let root = folder.join("corpus");
    for (part, domain) in ["a", "b", "c"].into_iter().enumerate() {
        let mut lines = String::new();
        for index in 0..9000 {
            write!(lines, "{}", json_line(&text(index + part), domain)).unwrap();
        }
        std::fs::create_dir_all(root.join(domain)).unwrap();
        std::fs::write(root.join(format!("{domain}/part.jsonl")), lines).unwrap();
    }
    std::fs::create_dir_all(root.join("d")).unwrap();
    std::fs::write(root.join("d/one.txt"), text(5)).unwrap();
    std::fs::write(root.join("d/two.txt"), [0xff, 0xfe, 0x00]).unwrap();
    root
}

pub fn settings() -> Settings {
    Settings {
        keys: Keys { text: "text".into(), domain: None },
        domain: None,
        token_width: None,
        shard_tokens: 200_000,
        skip_invalid: false,
    }
}

/// All documents without their ends.
pub fn documents(store: &dyn Documents) -> Vec<Vec<u32>> {
    (0..store.count())
        .map(|index| {
            let mut ids = Vec::new();
            store.append(index, 0..store.document(index).length - 1, &mut ids);
            ids
        })
        .collect()
}

/// The texts as a Parquet file of two row groups.
#[cfg(feature = "parquet")]
pub fn parquet(texts: &[String], domain: &str) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use std::sync::Arc;

    let schema = "message m { REQUIRED BYTE_ARRAY domain (UTF8); OPTIONAL BYTE_ARRAY text (UTF8); }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let compression = parquet::basic::Compression::SNAPPY;
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    for part in texts.chunks(texts.len().div_ceil(2)) {
        let mut group = writer.next_row_group().unwrap();
        let columns =
            [vec![ByteArray::from(domain); part.len()], part.iter().map(|t| ByteArray::from(&**t)).collect()];
        for (index, values) in columns.iter().enumerate() {
            let levels = vec![1; part.len()];
            let mut column = group.next_column().unwrap().unwrap();
            let levels = (index == 1).then_some(&levels[..]);
            column.typed::<ByteArrayType>().write_batch(values, levels, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

#[cfg(not(feature = "parquet"))]
pub fn parquet(_: &[String], _: &str) -> Vec<u8> {
    Vec::new()
}

/// The `tokenizer.json` of a small BPE trained on the spot.
pub fn small_tokenizer(folder: &Path) -> Vec<u8> {
    use trainer::data::read::{Reading, discover};
    use trainer::data::train_tokenizer::{Settings, train};

    let path = folder.join("sample.jsonl");
    std::fs::write(&path, (0..400).map(|index| json_line(&text(index), "a")).collect::<String>()).unwrap();
    let inputs = discover(&[path]).unwrap();
    let reading = Reading { keys: settings().keys, token_width: None, eos: 0, vocabulary: 0 };
    let settings = Settings { vocabulary: 300, sample_bytes: 1 << 20, skip_invalid: false };
    let out = folder.join("tokenizer.json");
    train(&out, &inputs, &reading, &settings, |_, _| {}).unwrap();
    std::fs::read(out).unwrap()
}

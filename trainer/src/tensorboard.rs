//! TensorBoard event files beside `metrics.jsonl`.
//!
//! A file is a sequence of records, each `length (u64), CRC of the length, bytes, CRC of the bytes`, with masked CRC-32C;
//! the bytes are a protobuf `Event { wall_time = 1: double, step = 2: int64, file_version = 3: string, summary = 5: Summary,
//! session_log = 7: SessionLog }`. Three kinds of messages need no protobuf library.
//! Source: tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto, tensorflow/core/lib/io/record_writer.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes the events of one process.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// A new file in `folder`. A run that goes on after `step` has its later events of before taken back.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(folder: &Path, step: u64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let now = wall_time();
        let (mut name, mut attempt) = (format!("events.out.tfevents.{}.emo", now as u64), 1);
        let (path, file) = loop {
            let path = folder.join(&name);
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                // Two runs within a second.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    name = format!("events.out.tfevents.{}.emo.{attempt}", now as u64);
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let mut writer = Self { path, file };
        let mut version = Message::default();
        version.double(1, now).bytes(3, b"brain.Event:2");
        writer.record(&version.0)?;
        if step > 0 {
            // SessionLog { status = START }: readers drop events at or beyond this step.
            let mut status = Message::default();
            status.varint(1, 1);
            let mut start = Message::default();
            start.double(1, now).varint(2, step + 1).bytes(7, &status.0);
            writer.record(&start.0)?;
        }
        Ok(writer)
    }

    /// Where the events go.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One event with these scalars; values that are not finite are left out.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars<'a>(
        &mut self,
        step: u64,
        scalars: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> io::Result<()> {
        let mut summary = Message::default();
        for (tag, value) in scalars {
            if value.is_finite() {
                let mut scalar = Message::default();
                scalar.bytes(1, tag.as_bytes()).float(2, value as f32);
                summary.bytes(1, &scalar.0);
            }
        }
        let mut event = Message::default();
        event.double(1, wall_time()).varint(2, step).bytes(5, &summary.0);
        self.record(&event.0)
    }

    fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(bytes.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(bytes);
        record.extend(masked_crc(bytes).to_le_bytes());
        // One write a record: a reader that follows the file never waits for a second half.
        self.file.write_all(&record)
    }
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A protobuf message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u8, wire: u8) {
        self.0.push(field << 3 | wire);
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u8, value: u64) -> &mut Self {
        self.key(field, 0);
        self.number(value);
        self
    }

    fn double(&mut self, field: u8, value: f64) -> &mut Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(&mut self, field: u8, value: f32) -> &mut Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) -> &mut Self {
        self.key(field, 2);
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Payloads of a file's records, every checksum checked.
    fn records(path: &Path) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(path).unwrap();
        let (mut at, mut found) = (0, Vec::new());
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(word(at + 8), masked_crc(&bytes[at..at + 8]));
            let payload = &bytes[at + 12..at + 12 + length];
            assert_eq!(word(at + 12 + length), masked_crc(payload));
            found.push(payload.to_vec());
            at += length + 16;
        }
        found
    }

    #[test]
    fn a_file_is_what_the_format_says() {
        // The mask and the polynomial, by the CRC-32C of "123456789".
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 7).unwrap();
        writer.scalars(300, [("loss", 2.5), ("broken", f64::NAN)]).unwrap();
        let records = records(writer.path());
        assert_eq!(records.len(), 3);
        assert!(records[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        assert_eq!(records[1][9..], *b"\x10\x08\x3a\x02\x08\x01");
        // step 300, summary { value { tag "loss", simple_value 2.5 } }
        assert_eq!(records[2][9..], *b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x20\x40");
        let second = EventWriter::create(folder.path(), 0).unwrap();
        assert_ne!(second.path(), writer.path());
    }
}

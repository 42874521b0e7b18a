//! A column of strings out of a Parquet file, and a second one for the domain.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::super::{DataError, guard};
use super::{Keys, MAX_RECORD, Raw, Records};

/// Rows taken out of a column at once.
const ROWS: usize = 64;

struct Rows {
    path: PathBuf,
    file: SerializedFileReader<File>,
    text: usize,
    domain: Option<usize>,
    group: usize,
    columns: Option<(Strings, Option<Strings>)>,
    ready: std::vec::IntoIter<Raw>,
    row: u64,
    over: bool,
    progress: Arc<AtomicU64>,
}

/// The strings of one column of one row group.
struct Strings {
    reader: ColumnReaderImpl<ByteArrayType>,
    /// Definition level of a value that is there.
    present: i16,
    levels: Vec<i16>,
    values: Vec<ByteArray>,
}

/// The rows of `path`.
pub(super) fn records(path: &Path, keys: &Keys, progress: Arc<AtomicU64>) -> Result<Records, DataError> {
    let file = File::open(path).map_err(DataError::read(path))?;
    let file = guarded(path, "footer", || SerializedFileReader::new(file))?;
    let text = column(path, &file, &keys.text)?;
    let domain = keys.domain.as_ref().map(|name| column(path, &file, name)).transpose()?;
    Ok(Box::new(Rows {
        path: path.to_owned(),
        file,
        text,
        domain,
        group: 0,
        columns: None,
        ready: Vec::new().into_iter(),
        row: 0,
        over: false,
        progress,
    }))
}

/// What the reader says; its panics are the file's fault too.
fn guarded<T>(
    path: &Path,
    place: &str,
    work: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, DataError> {
    guard::quietly(work)
        .map_err(|panic| format!("something that its reader gave up on ({panic})"))
        .and_then(|outcome| outcome.map_err(|error| error.to_string()))
        .map_err(|found| DataError::input_at(path, place, "whole and valid Parquet", found))
}

/// The index of a flat column of strings.
fn column(path: &Path, file: &SerializedFileReader<File>, name: &str) -> Result<usize, DataError> {
    let schema = file.metadata().file_metadata().schema_descr();
    let expected = format!("a column of strings called `{name}`");
    let Some(index) = schema.columns().iter().position(|column| column.path().string() == name) else {
        let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
        return Err(DataError::input(path, expected, format!("the columns {}", names.join(", "))));
    };
    let column = schema.column(index);
    if column.physical_type() != Type::BYTE_ARRAY || column.max_rep_level() != 0 {
        let found = format!("a column of {}", column.physical_type());
        return Err(DataError::input(path, expected, found));
    }
    Ok(index)
}

impl Rows {
    /// Reads on until rows are ready; false at the end of the file.
    fn refill(&mut self) -> Result<bool, DataError> {
        loop {
            let place = format!("row group {}", self.group);
            if self.columns.is_none() {
                if self.group >= self.file.num_row_groups() {
                    return Ok(false);
                }
                let (file, group, text, domain) = (&self.file, self.group, self.text, self.domain);
                self.columns = Some(guarded(&self.path, &place, || {
                    let group = file.get_row_group(group)?;
                    let strings = |column: usize| {
                        let present = group.metadata().column(column).column_descr().max_def_level();
                        match group.get_column_reader(column)? {
                            ColumnReader::ByteArrayColumnReader(reader) => {
                                Ok(Strings { reader, present, levels: Vec::new(), values: Vec::new() })
                            }
                            _ => Err(ParquetError::General("a column that changes its type".into())),
                        }
                    };
                    Ok((strings(text)?, domain.map(strings).transpose()?))
                })?);
            }
            let Some((text, domain)) = &mut self.columns else { return Ok(false) };
            let rows = guarded(&self.path, &place, || {
                let texts = text.read()?;
                let domains = domain.as_mut().map(Strings::read).transpose()?;
                Ok((texts, domains))
            })?;
            if rows.0.is_empty() {
                let of_group = self.file.metadata().row_group(self.group);
                self.progress.fetch_add(of_group.compressed_size().max(0) as u64, Ordering::Relaxed);
                (self.columns, self.group) = (None, self.group + 1);
                continue;
            }
            self.ready = self.rows(rows.0, rows.1)?.into_iter();
            return Ok(true);
        }
    }

    fn rows(&self, texts: Vec<Vec<u8>>, domains: Option<Vec<Vec<u8>>>) -> Result<Vec<Raw>, DataError> {
        let rows = texts.len();
        let mut domains = match domains {
            Some(domains) if domains.len() != rows => {
                let place = format!("row {}", self.row);
                let found = format!("{} of one and {} of the other", rows, domains.len());
                return Err(DataError::input_at(&self.path, place, "equally long columns", found));
            }
            Some(domains) => domains.into_iter().map(Some).collect(),
            None => vec![None; rows],
        };
        texts
            .into_iter()
            .zip(domains.drain(..))
            .enumerate()
            .map(|(offset, (text, domain))| {
                let place = || format!("row {}", self.row + offset as u64);
                if text.len() > MAX_RECORD {
                    let expected = format!("a text of at most {MAX_RECORD} bytes");
                    return Err(DataError::input_at(&self.path, place(), expected, "a longer one"));
                }
                let domain = domain.map(String::from_utf8).transpose().map_err(|error| {
                    DataError::input_at(&self.path, place(), "a domain in UTF-8", error.to_string())
                })?;
                Ok(Raw::Text(text, domain))
            })
            .collect()
    }
}

impl Strings {
    /// The next rows; a value that is not there is empty.
    fn read(&mut self) -> Result<Vec<Vec<u8>>, ParquetError> {
        self.levels.clear();
        self.values.clear();
        let (records, ..) = self.reader.read_records(ROWS, Some(&mut self.levels), None, &mut self.values)?;
        let mut values = self.values.drain(..).map(|value| value.data().to_vec());
        let rows: Vec<Vec<u8>> = if self.present == 0 {
            values.by_ref().take(records).collect()
        } else {
            let row = |&level: &i16| if level == self.present { values.next() } else { Some(Vec::new()) };
            self.levels.iter().map_while(row).collect()
        };
        if rows.len() == records {
            Ok(rows)
        } else {
            Err(ParquetError::General(format!("{records} rows with {} values", rows.len())))
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Raw, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(raw) = self.ready.next() {
                self.row += 1;
                return Some(Ok(raw));
            }
            if self.over {
                return None;
            }
            match self.refill() {
                Ok(more) => self.over = !more,
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

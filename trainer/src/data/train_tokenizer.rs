//! Training a byte-level BPE tokenizer.
//!
//! Text is split as GPT-2 splits it (words with the space before them, numbers, punctuation), each piece spelt in bytes, and the
//! most frequent pair of neighbours merged again and again until the vocabulary is full. Any text can be encoded, and decoding
//! gives it back byte for byte.
//!
//! Memory: the different pieces of the sample with their counts; the text itself is read in a stream.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, TokenizerBuilder};

use super::DataError;
use super::hash::stable_hash;
use super::read::{Format, Input, Raw, Reading, Records};
use crate::replace::replace_with;

/// Ends a document.
pub const EOS: &str = "<|endoftext|>";
/// Fills what no document fills.
pub const PAD: &str = "<|padding|>";

/// How a tokenizer is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Tokens of the vocabulary: [`EOS`], [`PAD`], 256 bytes, and merges.
    pub vocabulary: usize,
    /// Text to learn from, in bytes of the input files: of larger inputs each document takes part with the chance that makes it so
    /// many, decided by a hash of its text.
    pub sample_bytes: u64,
    /// Leave out records that cannot be read.
    pub skip_invalid: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Trained {
    /// Tokens; fewer than asked for when the text has no more pairs.
    pub vocabulary: usize,
    /// Documents learnt from.
    pub documents: u64,
    /// Their text, in bytes.
    pub text_bytes: u64,
}

/// Trains on `inputs` and writes `out`, a `tokenizer.json`; the same file for the same text, whatever the threads.
///
/// # Errors
/// Those of the readers, [`DataError::Setting`] for a vocabulary too small for bytes, [`DataError::Write`].
pub fn train(
    out: &Path,
    inputs: &[Input],
    reading: &Reading,
    settings: &Settings,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Trained, DataError> {
    if !(259..=1 << 20).contains(&settings.vocabulary) {
        return Err(DataError::Setting {
            name: "vocabulary",
            expected: "between 259 and 2^20: 256 bytes, two special tokens and merges".into(),
            found: settings.vocabulary.to_string(),
        });
    }
    let mut state = State { trained: Trained { vocabulary: 0, documents: 0, text_bytes: 0 }, failed: None };
    let all: u64 = inputs.iter().map(|input| input.bytes).sum();
    let samples = Samples {
        inputs: inputs.iter(),
        current: None,
        reading,
        skip_invalid: settings.skip_invalid,
        chance: settings.sample_bytes as f64 / all.max(1) as f64,
        count: Arc::new(AtomicU64::new(0)),
        progress: &mut progress,
        state: &mut state,
    };
    let special = |text: &str| AddedToken::from(text, true);
    let mut trainer = BpeTrainer::builder()
        .vocab_size(settings.vocabulary)
        .show_progress(false)
        .special_tokens(vec![special(EOS), special(PAD)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let no =
        |error: tokenizers::Error| DataError::Refused(format!("the tokenizer cannot be trained: {error}"));
    let mut tokenizer = TokenizerBuilder::<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>::new()
        .with_model(BPE::default())
        .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
        .with_post_processor(Some(ByteLevel::new(false, false, true)))
        .with_decoder(Some(ByteLevel::default()))
        .build()
        .map_err(no)?;
    tokenizer.train(&mut trainer, samples).map_err(no)?;
    if let Some(error) = state.failed {
        return Err(error);
    }
    let text = tokenizer.to_string(false).map_err(no)?;
    replace_with(out, text.as_bytes()).map_err(DataError::write(out))?;
    Ok(Trained { vocabulary: tokenizer.get_vocab_size(true), ..state.trained })
}

/// What the samples leave behind.
struct State {
    trained: Trained,
    failed: Option<DataError>,
}

/// The texts to learn from; ends early at the first error.
struct Samples<'a, P> {
    inputs: std::slice::Iter<'a, Input>,
    current: Option<(&'a Input, u64, Records)>,
    reading: &'a Reading,
    skip_invalid: bool,
    chance: f64,
    count: Arc<AtomicU64>,
    progress: &'a mut P,
    state: &'a mut State,
}

impl<P: FnMut(u64, u64) + Send> Iterator for Samples<'_, P> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        while self.state.failed.is_none() {
            match self.text() {
                Ok(Some(text)) if text.is_empty() => {}
                Ok(Some(text)) => {
                    // The upper 53 bits of a well-mixed hash, as a number below 1.
                    let draw = (stable_hash(&[text.as_bytes()]) >> 11) as f64 / (1u64 << 53) as f64;
                    if draw < self.chance {
                        let trained = &mut self.state.trained;
                        trained.documents += 1;
                        trained.text_bytes += text.len() as u64;
                        (self.progress)(self.count.load(Ordering::Relaxed), trained.documents);
                        return Some(text);
                    }
                }
                Ok(None) => return None,
                Err(error) => self.state.failed = Some(error),
            }
        }
        None
    }
}

impl<P> Samples<'_, P> {
    /// The next record's text, empty for one that is left out.
    fn text(&mut self) -> Result<Option<String>, DataError> {
        loop {
            let Some((input, number, records)) = &mut self.current else {
                let Some(input) = self.inputs.next() else { return Ok(None) };
                if input.format == Format::Tokens {
                    return Err(DataError::input(&input.path, "text to learn a tokenizer from", "token ids"));
                }
                self.current = Some((input, 0, input.records(self.reading, Arc::clone(&self.count))?));
                continue;
            };
            let Some(raw) = records.next() else {
                self.current = None;
                continue;
            };
            *number += 1;
            let parsed = match raw? {
                Raw::Tokens(_) => continue,
                Raw::Json(line) => self.reading.keys.parse(&line).map(|(text, _)| text),
                Raw::Text(text, _) if input.format == Format::Text => {
                    Ok(String::from_utf8(text).unwrap_or_default())
                }
                Raw::Text(text, _) => String::from_utf8(text).map_err(|error| error.to_string()),
            };
            return match parsed {
                Ok(text) => Ok(Some(text)),
                Err(_) if self.skip_invalid => continue,
                Err(found) => {
                    let place = format!("record {number}");
                    Err(DataError::input_at(&input.path, place, "an object with a text in UTF-8", found))
                }
            };
        }
    }
}

//! Answers that a model writes: the likeliest token each time, until a stop.

use emo::Backend;

use super::encode::Encoder;
use super::read::Written;
use crate::error::Result;
use crate::generate::{Decoder, Sampler, Sampling, leave_out_empty};

/// Writes an answer to each context, `sequences` at a time; `progress` is told how many are done.
///
/// An answer ends at the end of the document, before the first of its stops, after its tokens, and where the model's positions
/// end; a context that would leave no room for it loses its beginning, down to half of the positions.
///
/// # Errors
/// When the device fails, and text that the tokenizer refuses.
pub fn answers<B: Backend>(
    decoder: &mut Decoder<B>,
    encoder: &Encoder,
    questions: &[(&str, &Written)],
    sequences: usize,
    mut progress: impl FnMut(usize),
) -> Result<Vec<String>> {
    let mut all = Vec::with_capacity(questions.len());
    for wave in questions.chunks(sequences.max(1)) {
        all.extend(write(decoder, encoder, wave)?);
        progress(all.len());
    }
    Ok(all)
}

/// One answer on its way.
struct Growing<'q> {
    written: &'q Written,
    next: Vec<u32>,
    ids: Vec<u32>,
    text: String,
    over: bool,
}

fn write<B: Backend>(
    decoder: &mut Decoder<B>,
    encoder: &Encoder,
    wave: &[(&str, &Written)],
) -> Result<Vec<String>> {
    let mut greedy = Sampler::new(Sampling { temperature: 0.0, top_p: 1.0, seed: 0 })?;
    let eos = encoder.tokenizer.identity().eos;
    let mut growing = Vec::with_capacity(wave.len());
    for (sequence, &(context, written)) in wave.iter().enumerate() {
        decoder.clear(sequence);
        let mut next = encoder.context(context)?;
        let keep = encoder.longest.saturating_sub(written.tokens).max(encoder.longest.div_ceil(2));
        next.drain(..next.len().saturating_sub(keep));
        growing.push(Growing {
            written,
            next,
            ids: Vec::new(),
            text: String::new(),
            over: written.tokens == 0,
        });
    }
    loop {
        let active: Vec<usize> = (0..growing.len()).filter(|&sequence| !growing[sequence].over).collect();
        if active.is_empty() {
            return Ok(growing.into_iter().map(|answer| answer.text).collect());
        }
        let new: Vec<(usize, &[u32])> =
            active.iter().map(|&sequence| (sequence, &growing[sequence].next[..])).collect();
        let logits = decoder.extend(&new)?;
        for (sequence, mut logits) in active.into_iter().zip(logits) {
            leave_out_empty(&mut logits, &encoder.tokenizer);
            let next = greedy.draw(&logits)?;
            let full = decoder.room(sequence) == 0;
            growing[sequence].add(next, eos, full, encoder);
        }
    }
}

impl Growing<'_> {
    fn add(&mut self, id: u32, eos: u32, full: bool, encoder: &Encoder) {
        if id == eos {
            self.over = true;
            return;
        }
        self.ids.push(id);
        self.next = vec![id];
        let text = encoder.tokenizer.decode(&self.ids);
        let stop = first_stop(&text, &self.written.stops);
        self.over = full || stop.is_some() || self.ids.len() == self.written.tokens;
        self.text = text[..stop.unwrap_or(text.len())].to_owned();
    }
}

/// Where the first of the stops begins.
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(&stop[..])).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stop_counts() {
        let stops = ["\n\n".to_owned(), "Q:".to_owned(), String::new()];
        assert_eq!(first_stop("a Q: b\n\n", &stops), Some(2));
        assert_eq!(first_stop("ab\n", &stops), None);
    }
}

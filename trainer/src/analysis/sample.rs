//! The text that an analysis looks at: passages of documents, the same number of each domain.

use std::ops::Range;

use crate::data::Documents;
use crate::model::{Inputs, Segments};

/// Shorter passages say nothing about a document.
const SHORTEST: usize = 16;

/// Consecutive tokens of one document, read by the model on their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Index of the domain.
    pub domain: u32,
    /// Index of the document.
    pub document: usize,
    /// Token ids; where the document ends, with its end.
    pub ids: Vec<u32>,
}

/// Passages of every domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Names of the domains that have text.
    pub domains: Vec<String>,
    /// Passages, domain after domain.
    pub passages: Vec<Passage>,
}

impl Sample {
    /// At most `each` passages of at most `length` tokens of each domain: of different documents as long as there are any,
    /// then the next passages of the same ones; where there are too many, evenly spaced ones.
    #[must_use]
    pub fn take(documents: &dyn Documents, domains: &[String], each: usize, length: usize) -> Self {
        let length = length.max(1);
        let mut candidates: Vec<Vec<(usize, usize)>> = vec![Vec::new(); domains.len()];
        for index in 0..documents.count() {
            let document = documents.document(index);
            let Some(of_domain) = candidates.get_mut(document.domain as usize) else { continue };
            let long_enough = |number: &usize| document.length - number * length >= SHORTEST.min(length);
            let passages = (0..document.length.div_ceil(length)).filter(long_enough);
            // No domain needs more passages of one document than are asked for altogether.
            of_domain.extend(passages.take(each).map(|number| (number, index)));
        }
        let mut sample = Self::default();
        for (name, of_domain) in domains.iter().zip(&mut candidates) {
            of_domain.sort_unstable();
            let chosen = choose(of_domain, each);
            if chosen.is_empty() {
                continue;
            }
            let domain = sample.domains.len() as u32;
            sample.domains.push(name.clone());
            for (number, index) in chosen {
                let (start, end) = (number * length, documents.document(index).length);
                let mut ids = Vec::new();
                documents.append(index, start..end.min(start + length), &mut ids);
                sample.passages.push(Passage { domain, document: index, ids });
            }
        }
        sample
    }

    /// Tokens of all passages.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.passages.iter().map(|passage| passage.ids.len()).sum()
    }

    /// Passages and tokens of a domain.
    #[must_use]
    pub fn of_domain(&self, domain: u32) -> (usize, usize) {
        let of = || self.passages.iter().filter(|passage| passage.domain == domain);
        (of().count(), of().map(|passage| passage.ids.len()).sum())
    }

    /// Runs of passages that have at most `tokens` tokens together (a longer passage alone).
    #[must_use]
    pub fn batches(&self, tokens: usize) -> Vec<Range<usize>> {
        let mut batches: Vec<Range<usize>> = Vec::new();
        let mut held = 0;
        for (index, passage) in self.passages.iter().enumerate() {
            match batches.last_mut() {
                Some(batch) if held + passage.ids.len() <= tokens => {
                    batch.end = index + 1;
                    held += passage.ids.len();
                }
                _ => {
                    batches.push(index..index + 1);
                    held = passage.ids.len();
                }
            }
        }
        batches
    }

    /// The model's inputs for some passages, each on its own: no attention and no routing across them, and no pools.
    #[must_use]
    pub fn inputs(&self, passages: Range<usize>) -> Inputs {
        let passages = &self.passages[passages];
        let mut offsets = vec![0u32];
        for passage in passages {
            offsets.push(offsets[offsets.len() - 1] + passage.ids.len() as u32);
        }
        let segments = Segments { offsets };
        Inputs {
            ids: passages.iter().flat_map(|passage| passage.ids.iter().copied()).collect(),
            positions: passages.iter().flat_map(|passage| 0..passage.ids.len() as u32).collect(),
            attention: segments.clone(),
            routing: segments,
            loss_tokens: 1.0,
            micro_batches: 1,
            ..Inputs::default()
        }
    }
}

/// `each` of the candidates, which are sorted by number of the passage: all of the lower numbers, evenly spaced ones of the
/// number at which there are too many.
fn choose(candidates: &[(usize, usize)], each: usize) -> Vec<(usize, usize)> {
    let mut chosen = Vec::new();
    for level in candidates.chunk_by(|a, b| a.0 == b.0) {
        let wanted = each - chosen.len();
        let kept = wanted.min(level.len());
        chosen.extend((0..kept).map(|place| level[place * level.len() / kept]));
    }
    chosen.sort_by_key(|&(number, index)| (index, number));
    chosen
}

/// `wanted` evenly spaced indices below `all`, or all of them.
#[must_use]
pub fn spread(all: usize, wanted: usize) -> Vec<usize> {
    let kept = wanted.min(all);
    (0..kept).map(|place| (place as u128 * all as u128 / kept as u128) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::TokenStore;

    /// Documents of these lengths (without the end), all of domain 0, and one of domain 1.
    fn store(lengths: &[usize]) -> TokenStore {
        let mut store = TokenStore::new(256);
        for (index, &length) in lengths.iter().enumerate() {
            store.push((0..length).map(|at| (at % 200) as u32), index as u64, 0).unwrap();
        }
        store.push([7; 40], 99, 1).unwrap();
        store
    }

    fn taken(lengths: &[usize], each: usize) -> Vec<(u32, usize, usize)> {
        let domains = ["a".to_owned(), "b".to_owned(), "empty".to_owned()];
        let sample = Sample::take(&store(lengths), &domains, each, 32);
        sample.passages.iter().map(|p| (p.domain, p.document, p.ids.len())).collect()
    }

    #[test]
    fn different_documents_first_then_their_next_passages() {
        // Document 1 is too short; document 2 has three passages of 32, 32 and 17 tokens with its end.
        assert_eq!(taken(&[31, 8, 80], 2), [(0, 0, 32), (0, 2, 32), (1, 3, 32)]);
        assert_eq!(taken(&[31, 8, 80], 9), [(0, 0, 32), (0, 2, 32), (0, 2, 32), (0, 2, 17), (1, 3, 32)]);
        assert_eq!(taken(&[20; 10], 3).iter().map(|p| p.1).collect::<Vec<_>>(), [0, 3, 6, 10]);
    }

    #[test]
    fn batches_hold_whole_passages_and_inputs_keep_them_apart() {
        let domains = ["a".to_owned(), "b".to_owned()];
        let sample = Sample::take(&store(&[31, 19, 80]), &domains, 9, 32);
        assert_eq!((sample.tokens(), sample.of_domain(0)), (32 + 20 + 81 + 32, (5, 133)));
        let named = ["a".to_owned(), "without text".to_owned()];
        assert_eq!(Sample::take(&TokenStore::new(256), &named, 9, 32), Sample::default());
        assert_eq!(sample.batches(64), [0..2, 2..4, 4..6]);
        assert_eq!(sample.batches(1).len(), 6);
        let inputs = sample.inputs(0..2);
        assert_eq!(inputs.attention.offsets, [0, 32, 52]);
        assert_eq!((inputs.positions[31], inputs.positions[32], inputs.ids[51]), (31, 0, 256));
        assert!(inputs.pools.is_none());
    }

    #[test]
    fn spread_is_even() {
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(3, 9), [0, 1, 2]);
        assert_eq!(spread(0, 2), Vec::<usize>::new());
    }
}

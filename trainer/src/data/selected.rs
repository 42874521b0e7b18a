//! Some of the documents of a store, and of each of them the part to learn.

use std::ops::Range;
use std::sync::Arc;

use super::hash::stable_hash;
use super::tokens::DocumentInfo;
use super::{DataError, Documents};

/// Documents of some domains. With an answer's delimiter, only what follows its last occurrence in a document is a target.
#[derive(Debug, Clone)]
pub struct Selected {
    documents: Arc<dyn Documents>,
    chosen: Vec<Chosen>,
    tokens: usize,
    fingerprint: u64,
}

#[derive(Debug, Clone, Copy)]
struct Chosen {
    index: u32,
    first_target: u32,
}

impl Selected {
    /// The documents whose domain is among `domains` (all where there are none); `delimiter` is the delimiter's tokens, empty
    /// for none. Reads every token once where there is a delimiter.
    ///
    /// # Errors
    /// [`DataError::Setting`] when there are more documents than a `u32` counts.
    pub fn new(documents: Arc<dyn Documents>, domains: &[u32], delimiter: &[u32]) -> Result<Self, DataError> {
        let too_many = |_| DataError::Setting {
            name: "documents",
            expected: format!("at most {}", u32::MAX),
            found: documents.count().to_string(),
        };
        let (mut chosen, mut tokens, mut text) = (Vec::new(), 0, Vec::new());
        let mut fingerprint = documents.fingerprint();
        for index in 0..documents.count() {
            let DocumentInfo { length, domain, .. } = documents.document(index);
            if !domains.is_empty() && !domains.contains(&domain) {
                continue;
            }
            let mut first_target = 0;
            if !delimiter.is_empty() {
                text.clear();
                documents.append(index, 0..length, &mut text);
                let last = text.windows(delimiter.len()).rposition(|part| part == delimiter);
                first_target = last.map_or(0, |at| at + delimiter.len());
            }
            tokens += length;
            let chosen_one = Chosen {
                index: u32::try_from(index).map_err(too_many)?,
                first_target: u32::try_from(first_target).unwrap_or(u32::MAX),
            };
            let parts = [chosen_one.index.to_le_bytes(), chosen_one.first_target.to_le_bytes()];
            fingerprint = stable_hash(&[&fingerprint.to_le_bytes(), &parts[0], &parts[1]]);
            chosen.push(chosen_one);
        }
        Ok(Self { documents, chosen, tokens, fingerprint })
    }

    /// Documents of which only a part is to be learnt.
    #[must_use]
    pub fn with_answer(&self) -> usize {
        self.chosen.iter().filter(|chosen| chosen.first_target > 0).count()
    }
}

impl Documents for Selected {
    fn count(&self) -> usize {
        self.chosen.len()
    }

    fn token_count(&self) -> usize {
        self.tokens
    }

    fn document(&self, index: usize) -> DocumentInfo {
        self.documents.document(self.chosen[index].index as usize)
    }

    fn append(&self, index: usize, range: Range<usize>, out: &mut Vec<u32>) {
        self.documents.append(self.chosen[index].index as usize, range, out);
    }

    fn check(&self) -> Result<(), DataError> {
        self.documents.check()
    }

    fn first_target(&self, index: usize) -> usize {
        self.chosen[index].first_target as usize
    }

    fn eos(&self) -> u32 {
        self.documents.eos()
    }

    fn byte_length(&self, id: u32) -> u64 {
        self.documents.byte_length(id)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::packing::IGNORE;
    use crate::data::{Batch, BatchStream, ByteTokenizer, Packing, TokenStore};

    fn store() -> Arc<dyn Documents> {
        let mut store = TokenStore::new(ByteTokenizer::EOS);
        for (uid, (text, domain)) in
            [("what? A: one", 0), ("no delimiter", 1), ("A: is it? A: two", 0)].into_iter().enumerate()
        {
            store.push(ByteTokenizer.encode(text), uid as u64, domain).unwrap();
        }
        Arc::new(store)
    }

    #[test]
    fn only_the_chosen_domains_are_read() {
        let (all, some) = (store(), Selected::new(store(), &[0], &[]).unwrap());
        assert_eq!((some.count(), some.token_count()), (2, 13 + 17));
        assert_eq!((some.document(1).uid, some.first_target(1)), (2, 0));
        assert_ne!(some.fingerprint(), all.fingerprint());
        assert_eq!(Selected::new(all, &[], &[]).unwrap().count(), 3);
        assert_eq!(Selected::new(store(), &[7], &[]).unwrap().count(), 0);
    }

    #[test]
    fn only_what_follows_the_last_delimiter_is_a_target() {
        let delimiter: Vec<u32> = ByteTokenizer.encode("A: ").collect();
        let some = Selected::new(store(), &[], &delimiter).unwrap();
        assert_eq!(some.with_answer(), 2);
        // Rows as short as this cut the answers: where one starts is a place in its document, not in its row.
        for sequence in [8, 64] {
            let mut stream = BatchStream::new(Arc::new(some.clone()), Packing::new(1, sequence, 3)).unwrap();
            let (mut batch, mut learnt) = (Batch::default(), Vec::new());
            let tokens = some.token_count();
            for index in 0..tokens.div_ceil(sequence) as u64 {
                stream.fill(index, &mut batch);
                learnt
                    .extend(batch.labels.iter().filter(|&&label| label != IGNORE).map(|&label| label as u32));
            }
            let words = ByteTokenizer.decode(&learnt);
            assert!(!words.contains('?') && !words.contains("A:"), "{words}");
            if sequence == 64 {
                // All three documents lie in one row; its first token is no target, and none is after an EOS but in the
                // document without a delimiter.
                for answer in ["one", "two", "o delimiter"] {
                    assert!(words.contains(answer), "{words}");
                }
            }
        }
    }
}

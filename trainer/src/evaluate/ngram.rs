//! What a table of counts knows: an n-gram model of each domain, which a trained model must beat.

use std::collections::{BTreeMap, HashMap};

use crate::analysis::sample::Sample;
use crate::data::{Documents, Portion};

/// Text of a domain that is counted, and text that is predicted, in passages of so many tokens.
const TRAIN: (usize, usize) = (256, 4096);
const VALID: (usize, usize) = (64, 1024);
/// Context tokens that a key has room for.
const MOST: usize = 4;

/// Counts of tokens after up to four others, smoothed as Witten and Bell do (1991):
/// `p_n(t | h) = (c(h t) + k(h) p_{n-1}(t | h')) / (c(h) + k(h))` with the number `k(h)` of different tokens that were seen after
/// `h`, and `h'` without its first token; `p_{-1}` is uniform. A context that was never seen leaves the word to the shorter one.
#[derive(Debug, Clone)]
pub struct NGram {
    order: usize,
    vocabulary: f64,
    /// By length and content of the context: tokens seen after it, and different ones. Looked up, never walked through.
    contexts: HashMap<(usize, u128), (u32, u32)>,
    counts: HashMap<(usize, u128, u32), u32>,
}

impl NGram {
    /// A model of at most `order` (up to 4) tokens of context that has seen nothing, over `vocabulary` tokens.
    #[must_use]
    pub fn new(order: usize, vocabulary: usize) -> Self {
        Self {
            order: order.min(MOST),
            vocabulary: vocabulary.max(1) as f64,
            contexts: HashMap::new(),
            counts: HashMap::new(),
        }
    }

    fn key(context: &[u32]) -> (usize, u128) {
        (context.len(), context.iter().fold(0, |key, &id| key << 32 | u128::from(id)))
    }

    /// Counts a text.
    pub fn learn(&mut self, ids: &[u32]) {
        for (at, &id) in ids.iter().enumerate() {
            for length in 0..=self.order.min(at) {
                let (length, key) = Self::key(&ids[at - length..at]);
                let count = self.counts.entry((length, key, id)).or_default();
                let (all, kinds) = self.contexts.entry((length, key)).or_default();
                *all += 1;
                *kinds += u32::from(*count == 0);
                *count += 1;
            }
        }
    }

    /// `p(ids[at] | ids[..at])`.
    #[must_use]
    pub fn probability(&self, ids: &[u32], at: usize) -> f64 {
        let mut probability = 1.0 / self.vocabulary;
        for length in 0..=self.order.min(at) {
            let (length, key) = Self::key(&ids[at - length..at]);
            let Some(&(all, kinds)) = self.contexts.get(&(length, key)) else { break };
            let count = self.counts.get(&(length, key, ids[at])).copied().unwrap_or(0);
            let (count, all, kinds) = (f64::from(count), f64::from(all), f64::from(kinds));
            probability = (count + kinds * probability) / (all + kinds);
        }
        probability
    }
}

/// Bits per byte of validation text by domain, each under an n-gram model of the same domain's training text: up to 1 M tokens
/// of each portion counted, up to 64 k predicted. Ends of documents are counted and not predicted. Domains without either text are left out.
#[must_use]
pub fn by_domain(
    train: &[Portion],
    valid: &dyn Documents,
    domains: &[String],
    order: usize,
    vocabulary: usize,
) -> BTreeMap<String, f64> {
    let learned: Vec<Sample> =
        train.iter().map(|portion| Sample::take(&*portion.documents, domains, TRAIN.0, TRAIN.1)).collect();
    let predicted = Sample::take(valid, domains, VALID.0, VALID.1);
    let mut found = BTreeMap::new();
    for (index, name) in predicted.domains.iter().enumerate() {
        let mut model = NGram::new(order, vocabulary);
        for sample in &learned {
            let same = sample.domains.iter().position(|domain| domain == name);
            let of_domain = sample.passages.iter().filter(|passage| Some(passage.domain as usize) == same);
            of_domain.for_each(|passage| model.learn(&passage.ids));
        }
        let (mut bits, mut bytes) = (0.0, 0);
        for passage in predicted.passages.iter().filter(|passage| passage.domain as usize == index) {
            for (at, &id) in passage.ids.iter().enumerate().filter(|&(_, &id)| id != valid.eos()) {
                bits -= model.probability(&passage.ids, at).log2();
                bytes += valid.byte_length(id);
            }
        }
        if bytes > 0 && !model.contexts.is_empty() {
            found.insert(name.clone(), bits / bytes as f64);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::TokenStore;
    use std::sync::Arc;

    #[test]
    fn probabilities_by_hand_and_together_one() {
        // 0 0 1 over two tokens: unigrams p(1) = (1 + 2/2) / (3 + 2); after 0: one 0, one 1, two kinds.
        let mut model = NGram::new(1, 2);
        model.learn(&[0, 0, 1]);
        let unigram = 2.0 / 5.0;
        assert!((model.probability(&[1], 0) - unigram).abs() < 1e-15);
        assert!((model.probability(&[0, 1], 1) - (1.0 + 2.0 * unigram) / 4.0).abs() < 1e-15);
        assert!((model.probability(&[1, 1], 1) - unigram).abs() < 1e-15, "1 was never followed by anything");
        let mut model = NGram::new(4, 7);
        model.learn(&[1, 2, 3, 1, 2, 4, 1, 2, 3, 6, 6, 1]);
        for context in [&[][..], &[1], &[1, 2], &[5, 5], &[4, 1, 2, 3, 6]] {
            let all: f64 = (0..7)
                .map(|id| {
                    let ids = [context, &[id]].concat();
                    model.probability(&ids, context.len())
                })
                .sum();
            assert!((all - 1.0).abs() < 1e-12, "{context:?}: {all}");
        }
    }

    #[test]
    fn a_repetitive_domain_costs_little_and_noise_eight_bits() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        let store = |offset: usize, noise: &mut dyn FnMut() -> u32| {
            let mut store = TokenStore::new(256);
            store.push((0..4000).map(|at| 97 + ((at + offset) % 5) as u32), 1, 0).unwrap();
            store.push((0..4000).map(|_| noise()), 2, 1).unwrap();
            store
        };
        let train = Portion::whole("train", Arc::new(store(0, &mut noise)));
        let valid = store(2, &mut noise);
        let domains = ["regular".to_owned(), "noise".to_owned()];
        let found = by_domain(&[train], &valid, &domains, 4, 256);
        assert!(found["regular"] < 0.1, "{found:?}");
        assert!((7.9..10.0).contains(&found["noise"]), "{found:?}");
    }
}

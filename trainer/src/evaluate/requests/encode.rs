//! From text to tokens, by one rule, that of ai2-olmo-eval:
//!
//! * context and continuation are tokenised apart, without special tokens, and put together;
//! * a model that has a token for the start of a document gets it in front of the context, unless the context begins with it;
//! * an empty context is that token, or the one that ends a document;
//! * what is longer than the model's positions loses its beginning, never its continuation.

use super::read::Choice;
use super::score::Likelihood;
use crate::data::Tokenizer;
use crate::error::{Error, Result};

/// Turns requests into tokens.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// The model's.
    pub tokenizer: Tokenizer,
    /// The token that starts a document.
    pub bos: Option<u32>,
    /// Tokens that the model reads at once.
    pub longest: usize,
}

/// A context and the continuation to score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What the model reads: the context and all of the continuation but its last token.
    pub ids: Vec<u32>,
    /// What it should predict, at the last places of `ids`.
    pub continuation: Vec<u32>,
}

impl Encoder {
    /// Tokens of a choice; none where the continuation is empty or longer than the model can read.
    ///
    /// # Errors
    /// Text that the tokenizer refuses.
    pub fn item(&self, choice: &Choice) -> Result<Option<Item>> {
        let continuation = self.tokens(&choice.continuation)?;
        let Some((_, read)) = continuation.split_last() else { return Ok(None) };
        if continuation.len() > self.longest {
            return Ok(None);
        }
        let mut ids = self.context(&choice.context)?;
        ids.extend_from_slice(read);
        ids.drain(..ids.len().saturating_sub(self.longest));
        Ok(Some(Item { ids, continuation }))
    }

    /// Tokens of a context, with the start of a document.
    ///
    /// # Errors
    /// Text that the tokenizer refuses.
    pub fn context(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokens(text)?;
        match (self.bos, ids.first()) {
            (Some(bos), first) if first != Some(&bos) => ids.insert(0, bos),
            (None, None) => ids.push(self.tokenizer.identity().eos),
            _ => {}
        }
        Ok(ids)
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode(text).map_err(Error::Usage)
    }
}

impl Likelihood {
    /// The likelihood of a continuation of `tokens` tokens.
    #[must_use]
    pub fn new(log: f64, continuation: &str, tokens: usize) -> Self {
        let first = continuation.chars().next().map_or(0, char::len_utf8);
        let (chars, bytes) = (continuation.chars().count(), continuation.len());
        Self { log, chars, bytes, bytes_after_first: bytes - first, tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(bos: Option<u32>, longest: usize) -> Encoder {
        Encoder { tokenizer: Tokenizer::bytes(), bos, longest }
    }

    fn choice(context: &str, continuation: &str) -> Choice {
        Choice { context: context.into(), continuation: continuation.into() }
    }

    fn ids(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn the_last_token_is_predicted_and_not_read() {
        let item = encoder(None, 100).item(&choice("ab", "cde")).unwrap().unwrap();
        assert_eq!((item.ids, item.continuation), (ids("abcd"), ids("cde")));
    }

    #[test]
    fn a_document_starts_where_the_model_has_a_start() {
        let context = |bos, text| encoder(bos, 9).context(text).unwrap();
        assert_eq!(context(Some(257), "ab"), [257, 97, 98]);
        assert_eq!(context(Some(97), "ab"), [97, 98], "it begins with it");
        assert_eq!(context(Some(257), ""), [257]);
        assert_eq!(context(None, ""), [256]);
    }

    #[test]
    fn what_is_too_long_loses_its_beginning_and_never_its_continuation() {
        let item = |longest| encoder(None, longest).item(&choice("abcdef", "xyz")).unwrap();
        assert_eq!(item(4).unwrap().ids, ids("efxy"));
        assert_eq!(item(3).unwrap().ids, ids("fxy"));
        assert_eq!(item(2), None);
        assert_eq!(encoder(None, 9).item(&choice("ab", "")).unwrap(), None);
    }

    #[test]
    fn lengths_are_characters_and_bytes() {
        let found = Likelihood::new(-1.0, "é春 b", 3);
        let expected = Likelihood { log: -1.0, chars: 4, bytes: 7, bytes_after_first: 5, tokens: 3 };
        assert_eq!(found, expected);
    }
}

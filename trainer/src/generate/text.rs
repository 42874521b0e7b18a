//! Text as its tokens come.

use crate::data::Tokenizer;

/// Tokens after which the start of what is decoded moves on.
const WINDOW: usize = 64;
/// Tokens that stay when it does: a tokenizer may drop the space in front of the first.
const CONTEXT: usize = 4;

/// Turns tokens into text piece by piece, and never hands out half a character: bytes of an unfinished one wait for the
/// rest of it.
pub struct Stream<'t> {
    tokenizer: &'t Tokenizer,
    window: Vec<u32>,
    /// Bytes of the window's text that have been handed out.
    shown: usize,
}

impl<'t> Stream<'t> {
    /// A text that has not begun.
    #[must_use]
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, window: Vec::new(), shown: 0 }
    }

    /// A text whose first tokens have been shown already.
    #[must_use]
    pub fn after(tokenizer: &'t Tokenizer, shown: &[u32]) -> Self {
        let window = shown[shown.len().saturating_sub(CONTEXT)..].to_vec();
        let shown = settled(&tokenizer.decode(&window)).len();
        Self { tokenizer, window, shown }
    }

    /// The text that is certain with one more token; may be empty.
    pub fn push(&mut self, id: u32) -> String {
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window);
        let certain = settled(&text);
        let new = certain.get(self.shown..).unwrap_or_default().to_owned();
        self.shown = self.shown.max(certain.len());
        if self.window.len() >= WINDOW && certain.len() == text.len() {
            self.window.drain(..self.window.len() - CONTEXT);
            self.shown = settled(&self.tokenizer.decode(&self.window)).len();
        }
        new
    }

    /// What is left at the end: the replacement character for bytes that never became a character.
    #[must_use]
    pub fn finish(self) -> String {
        self.tokenizer.decode(&self.window).get(self.shown..).unwrap_or_default().to_owned()
    }
}

/// The text without its last replacement characters, which may stand for the first bytes of a character: at most three, of
/// which some tokenizers make one each.
fn settled(text: &str) -> &str {
    (0..3).fold(text, |text, _| text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every piece is whole, and the pieces are the text.
    fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut stream = Stream::new(tokenizer);
        let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
        pieces.push(stream.finish());
        assert_eq!(pieces.concat(), tokenizer.decode(ids));
        pieces
    }

    #[test]
    fn characters_of_several_bytes_come_whole() {
        let tokenizer = Tokenizer::bytes();
        let pieces = streamed(&tokenizer, &tokenizer.encode("aé春🦀b").unwrap());
        assert_eq!(pieces, ["a", "", "é", "", "", "春", "", "", "", "🦀", "b", ""]);
        let long = "naïve 春が来た 🦀🦀 ".repeat(20);
        streamed(&tokenizer, &tokenizer.encode(&long).unwrap());
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_lose_nothing_after_them() {
        let pieces = streamed(&Tokenizer::bytes(), &[0x61, 0xff, 0x80, 0x62, 0xe6, 0x98]);
        assert_eq!(pieces.concat(), "a\u{fffd}\u{fffd}b\u{fffd}");
        assert_eq!(pieces[3], "\u{fffd}\u{fffd}b");
        let noise: Vec<u32> = (0..300u32).map(|i| (i * 197 + i * i * 31) % 256).collect();
        streamed(&Tokenizer::bytes(), &noise);
    }

    #[test]
    fn a_stream_goes_on_after_a_prompt() {
        let tokenizer = Tokenizer::bytes();
        let prompt = tokenizer.encode("é").unwrap();
        let mut stream = Stream::after(&tokenizer, &prompt);
        assert_eq!((stream.push(0x62), stream.finish()), ("b".into(), String::new()));
    }
}

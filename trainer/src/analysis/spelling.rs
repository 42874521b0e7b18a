//! Tokens as text that people can read.

use crate::data::Tokenizer;

/// Words are cut at this many bytes.
const LONGEST_WORD: usize = 24;

/// The text of each token, such that the texts together are the text of all. A character that takes several tokens is the
/// first one's; what is no text (bytes that are not UTF-8, special tokens) shows as U+FFFD or as nothing.
#[must_use]
pub fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut pieces = vec![String::new(); ids.len()];
    let mut first = 0;
    for end in 1..=ids.len() {
        let text = tokenizer.decode(&ids[first..end]);
        // No character has more than four bytes: a longer wait is for none.
        if text.ends_with('\u{fffd}') && end - first < 4 && end < ids.len() {
            continue;
        }
        pieces[first] = text;
        first = end;
    }
    pieces
}

/// What each token is counted as when clusters are named: its own text; where tokens are single bytes, the word around it.
/// Spaces alone count as `space`, ends of lines as `line end`.
#[must_use]
pub fn terms(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let pieces = pieces(tokenizer, ids);
    if tokenizer.file().is_some() {
        return pieces.iter().map(|piece| named(piece)).collect();
    }
    let is_word = |piece: &str| piece.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    // Pieces of one word, or of one run of equal others, belong together; an empty piece continues the one before it.
    let mut terms = Vec::with_capacity(pieces.len());
    let mut start = 0;
    while start < pieces.len() {
        let word = is_word(&pieces[start]) && !pieces[start].is_empty();
        let belongs =
            |piece: &String| piece.is_empty() || if word { is_word(piece) } else { *piece == pieces[start] };
        let run = pieces[start..].iter().skip(1).take_while(|piece| belongs(piece)).count() + 1;
        let mut text = String::new();
        for piece in &pieces[start..start + run] {
            if text.len() + piece.len() > LONGEST_WORD || (!word && !text.is_empty()) {
                break;
            }
            text.push_str(piece);
        }
        terms.extend(std::iter::repeat_n(named(&text), run));
        start += run;
    }
    terms
}

/// The character that each token of single bytes belongs to; a name for what cannot be seen.
#[must_use]
pub fn characters(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut last = String::new();
    let whole = |piece: &String| {
        if !piece.is_empty() {
            last = named(piece);
        }
        last.clone()
    };
    pieces(tokenizer, ids).iter().map(whole).collect()
}

/// A text without the spaces around it, or a name for what cannot be seen.
fn named(text: &str) -> String {
    match text.trim() {
        "" if text.contains('\n') => "line end".into(),
        "" if text.contains('\t') => "tab".into(),
        "" if !text.is_empty() => "space".into(),
        visible => visible.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn pieces_make_up_the_text_and_keep_characters_whole() {
        let text = "aé詩🙂z";
        let found = pieces(&Tokenizer::bytes(), &bytes(text));
        assert_eq!(found.len(), text.len());
        assert_eq!(found.concat(), text);
        assert_eq!(found[1], "é");
        assert_eq!(found[2], "");
        assert_eq!(found[3], "詩");
        let broken = pieces(&Tokenizer::bytes(), &[0xff, 0xfe, 0x61, 0x62, 0x63, 0x64, 256]);
        assert_eq!(broken.len(), 7);
        assert!(broken.concat().ends_with("bcd"), "{broken:?}");
    }

    #[test]
    fn a_byte_is_counted_as_the_character_that_it_belongs_to() {
        assert_eq!(characters(&Tokenizer::bytes(), &bytes("aé ")), ["a", "é", "é", "space"]);
    }

    #[test]
    fn a_byte_is_counted_as_the_word_around_it() {
        let found = terms(&Tokenizer::bytes(), &bytes("let x_1  = é;\n\n"));
        let expected = [
            "let", "let", "let", "space", "x_1", "x_1", "x_1", "space", "space", "=", "space", "é", "é", ";",
            "line end", "line end",
        ];
        assert_eq!(found, expected);
        assert_eq!(terms(&Tokenizer::bytes(), &bytes(&"w".repeat(100)))[99].len(), LONGEST_WORD);
    }
}

//! PTX text to tokens.

use crate::fault::Error;

/// A piece of PTX text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// Opcode with its modifiers, directive, register, symbol or number: letters, digits, `_ $ % .` and `::`.
    Word(&'a str),
    /// A string without its quotes.
    Text(&'a str),
    /// Any other character.
    Punctuation(char),
}

/// A token and where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spanned<'a> {
    pub(crate) token: Token<'a>,
    /// Line from 1.
    pub(crate) line: u32,
    /// Bytes of the text.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Splits text into tokens, dropping comments and white space.
pub(crate) fn tokens(text: &str) -> Result<Vec<Spanned<'_>>, Error> {
    let bytes = text.as_bytes();
    let mut found = Vec::with_capacity(text.len() / 4);
    let mut line = 1;
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'\n' => {
                line += 1;
                at += 1;
            }
            c if c.is_ascii_whitespace() || c == 0 => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let length = text[at..].find("*/").ok_or_else(|| error(line, "a comment without an end"))?;
                line += text[at..at + length].matches('\n').count() as u32;
                at += length + 2;
            }
            b'"' => {
                let length =
                    text[at + 1..].find('"').ok_or_else(|| error(line, "a string without an end"))?;
                at += length + 2;
                let token = Token::Text(&text[start + 1..at - 1]);
                found.push(Spanned { token, line, start, end: at });
                line += text[start..at].matches('\n').count() as u32;
            }
            c if is_word(c) => {
                while at < bytes.len() {
                    if is_word(bytes[at]) {
                        at += 1;
                    } else if bytes[at] == b':' && bytes.get(at + 1) == Some(&b':') {
                        at += 2;
                    } else {
                        break;
                    }
                }
                found.push(Spanned { token: Token::Word(&text[start..at]), line, start, end: at });
            }
            c if c.is_ascii() => {
                at += 1;
                found.push(Spanned { token: Token::Punctuation(c as char), line, start, end: at });
            }
            _ => return Err(error(line, "a character outside ASCII")),
        }
    }
    Ok(found)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

fn error(line: u32, message: &str) -> Error {
    Error::Syntax { line, message: message.to_owned() }
}
